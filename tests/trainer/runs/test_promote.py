from __future__ import annotations

import dataclasses

import pytest
from PIL import Image
from safetensors import safe_open

from athanor.trainer.control import Control
from athanor.trainer.errors import AthanorError
from athanor.trainer.loop import train
from athanor.trainer.runs.promote import pick_epochs, promote
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import SampleSettings


@pytest.fixture(scope="module")
def run(tmp_path_factory, base, dataset) -> Run:
    from athanor.trainer.config import TrainJob
    from athanor.trainer.settings import AdapterSettings, TrainSettings

    settings = TrainSettings(epochs=4, batch_size=2, rate=1e-2, text_encoder_rate=0.0, save_every_epochs=2, precision="fp32")
    job = TrainJob("r", base, dataset, adapter=AdapterSettings(rank=2), train=settings, samples=SampleSettings(prompts="subject 1", steps=1))
    run = open_run(tmp_path_factory.mktemp("runs"), job)
    train(run, Control())
    return run


def test_epochs_are_picked_by_word_and_number(run):
    assert [epoch.number for epoch in pick_epochs(run, "all")] == [2, 4]
    assert [epoch.number for epoch in pick_epochs(run, " Last ")] == [4]
    assert [epoch.number for epoch in pick_epochs(run, "4, 2")] == [4, 2]
    best = min(run.epochs(), key=lambda epoch: epoch.validation_loss)
    assert pick_epochs(run, "best") == (best,)


@pytest.mark.parametrize(
    ("which", "message"), [("3", "3 was not saved by r; saved are 2, 4"), ("newest", "'newest' is not understood"), ("", "not understood")]
)
def test_what_is_not_there_is_told(run, which, message):
    with pytest.raises(AthanorError, match=message):
        pick_epochs(run, which)


def test_a_promoted_epoch_has_the_same_tensors_more_metadata_and_a_preview(run, tmp_path):
    (file,) = promote(run, pick_epochs(run, "2"), tmp_path, "my 狐 lora")
    assert file == tmp_path / "my 狐 lora.safetensors"
    with safe_open(file, framework="pt") as final, safe_open(run.epochs()[0].path, framework="pt") as epoch:
        assert {key: final.get_tensor(key).tolist() for key in final.keys()} == {key: epoch.get_tensor(key).tolist() for key in epoch.keys()}  # noqa: SIM118
        metadata = final.metadata()
        assert epoch.metadata().items() <= metadata.items()
    assert float(metadata["ss_training_started_at"]) <= float(metadata["ss_training_finished_at"])
    assert metadata["modelspec.date"].endswith("+00:00")
    with Image.open(tmp_path / "my 狐 lora.png") as preview:
        assert preview.size == run_picture_size(run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my 狐 lora.png", "my 狐 lora.safetensors"]


def test_several_epochs_get_their_numbers_and_nothing_is_overwritten(run, tmp_path):
    files = promote(run, pick_epochs(run, "all"), tmp_path, "")
    assert [file.name for file in files] == ["r-000002.safetensors", "r-000004.safetensors"]
    assert promote(run, pick_epochs(run, "all"), tmp_path, "") == files
    files[0].write_bytes(b"somebody else's")
    assert promote(run, pick_epochs(run, "all"), tmp_path, "")[0].name == "r-000002-2.safetensors"
    assert files[0].read_bytes() == b"somebody else's"


def test_best_needs_held_out_images(run, tmp_path):
    job = dataclasses.replace(
        run.train_job(), dataset=run.train_job().dataset.with_samples(run.train_job().dataset.with_role("train")), samples=SampleSettings()
    )
    other = open_run(tmp_path, job)
    train(other, Control())
    with pytest.raises(AthanorError, match="no image was held out; set held out %"):
        pick_epochs(other, "best")


def run_picture_size(run: Run) -> tuple[int, int]:
    with Image.open(run.samples()[0].path) as image:
        return image.size


def test_a_folder_that_is_none_is_told_and_nothing_is_left(run, tmp_path):
    (tmp_path / "loras").write_text("not a folder", encoding="utf-8")
    with pytest.raises(AthanorError, match=r"Cannot write .*loras.*: .*choose a folder that can be written"):
        promote(run, pick_epochs(run, "last"), tmp_path / "loras", "thing")
    assert (tmp_path / "loras").read_text(encoding="utf-8") == "not a folder" and list(tmp_path.iterdir()) == [tmp_path / "loras"]
