from pathlib import Path

import pytest
from PIL import Image, ImageChops

from athanor.trainer.dataset import open_image, store_images
from athanor.trainer.errors import AthanorError


def pictures(number, mode="RGB"):
    return [Image.effect_noise((20 + i, 16), 40 + i).convert(mode) for i in range(number)]


def test_images_become_files_that_say_the_same(tmp_path):
    images = [*pictures(2), *pictures(1, "L"), Image.new("RGBA", (8, 12), (9, 8, 7, 100))]
    dataset = store_images(images, ["a", " b,\n c ", "", "d"], tmp_path / "图片", trigger=" sks ", repeats=3)
    assert dataset.trigger == "sks"
    assert [s.caption for s in dataset.samples] == ["a", "b, c", "", "d"]
    assert [Path(s.path).name for s in dataset.samples] == ["00001.png", "00002.png", "00003.png", "00004.png"]
    for image, sample in zip(images[:3], dataset.samples, strict=False):
        assert ImageChops.difference(open_image(Path(sample.path)), image.convert("RGB")).getbbox() is None
        assert (sample.width_px, sample.height_px, sample.repeats, sample.role) == (*image.size, 3, "train")
    with Image.open(dataset.samples[3].path) as alpha:
        assert alpha.getpixel((0, 0)) == (9, 8, 7, 100)


def test_the_same_images_make_no_new_files_and_the_same_dataset(tmp_path):
    images = pictures(3)
    first = store_images(images, ["one"], tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert store_images(images, ["one"], tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    Path(first.samples[1].path).unlink()
    assert store_images(images, ["one"], tmp_path) == first and Path(first.samples[1].path).is_file()
    other = store_images(images[::-1], [], tmp_path)
    assert Path(other.samples[0].path).parent != Path(first.samples[0].path).parent


@pytest.mark.parametrize(
    ("captions", "expected"),
    [([], [None] * 3), (["a"], ["a"] * 3), (["a", "b", ""], ["a", "b", ""]), (["a\nb\n\nc\n"], ["a", "b", "c"]), (["a\nb"], ["a b"] * 3)],
)
def test_captions_for_each_or_all(tmp_path, captions, expected):
    assert [s.caption for s in store_images(pictures(3), captions, tmp_path).samples] == expected


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    for images, captions, options, message in (
        ([], [], {}, "no images"),
        (pictures(3), ["a", "b"], {}, "3 images and 2 captions"),
        (pictures(1), [], {"repeats": 0}, "0 times an epoch"),
        (pictures(1), [], {"validation_percent": 101}, "from 0 to 100"),
    ):
        with pytest.raises(AthanorError, match=message):
            store_images(images, captions, tmp_path / "root", **options)
    assert not (tmp_path / "root").exists()


def test_held_out_images_stay_so_when_others_are_added(tmp_path):
    images = [*pictures(10), pictures(1)[0]]
    held = [s.fingerprint for s in store_images(images, [], tmp_path, validation_percent=30).with_role("validation")]
    assert 1 <= len(held) < 10
    more = store_images([Image.new("RGB", (30, 30), "red"), *images], [], tmp_path, validation_percent=30).with_role("validation")
    assert set(held) - {s.fingerprint for s in more} == set()
