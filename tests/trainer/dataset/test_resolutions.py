from __future__ import annotations

import pytest

from athanor.trainer.data.batches import epoch_batches
from athanor.trainer.dataset import assign_buckets
from athanor.trainer.dataset.resolutions import in_resolutions, read_resolutions
from athanor.trainer.errors import AthanorError
from athanor.trainer.types import Dataset, Sample

LARGE, SMALL = Sample("/large.png", 1024, 1024, "1", repeats=2), Sample("/small.png", 128, 128, "1", role="validation")


def placed(dataset: Dataset, *resolutions: int, upscale: bool = True) -> Dataset:
    return in_resolutions(
        resolutions,
        lambda px: assign_buckets(dataset, resolution_px=px, min_px=px // 2, max_px=px * 2, step_px=64, upscale=upscale),
    )


@pytest.mark.parametrize(("text", "sides"), [("", ()), ("768, 1024", (768, 1024)), ("768 768，512", (768, 512)), (" 640 ", (640,))])
def test_sides_are_read(text, sides):
    assert read_resolutions(text) == sides


@pytest.mark.parametrize("text", ["large", "768x768", "-5", "0", "7.5"])
def test_what_is_no_side_is_told(text):
    with pytest.raises(AthanorError, match="is no side in pixels; write numbers with commas between"):
        read_resolutions(text)


def test_every_image_is_there_once_for_each_resolution():
    dataset = placed(Dataset((LARGE, SMALL), "trigger", ("a note",)), 512, 768, 1024, 512)
    sizes = [(sample.path, sample.role, sample.placement.bucket_px) for sample in dataset.samples]
    assert sizes == [(path, role, (px, px)) for px in (512, 768, 1024) for path, role in (("/large.png", "train"), ("/small.png", "validation"))]
    assert dataset.trigger == "trigger" and dataset.notes.count("a note") == 1
    assert sum(note.startswith("At 1024 px: ") for note in dataset.notes) == 1
    assert sorted(map(len, epoch_batches(dataset.with_role("train"), 2, 0, 1))) == [2, 2, 2], "a batch for each size, both repeats in it"


def test_small_images_that_are_not_enlarged_are_there_once():
    dataset = placed(Dataset((LARGE, SMALL)), 512, 768, upscale=False)
    assert [sample.path for sample in dataset.samples] == ["/large.png", "/small.png", "/large.png"]
