"""Crops, mirrors and colours: the mask goes with its picture, and what is told to the denoiser is what is shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy
import pytest
from PIL import Image

from athanor.trainer.data.views import View, all_views, plain_view, view_at
from athanor.trainer.settings import DataOverrides, DataSettings
from athanor.trainer.types import Placement, Sample

PLACEMENT = Placement(bucket_px=(32, 48), resized_px=(50, 48), crop_px=(9, 0))
EVERYTHING = DataSettings(mirror=True, random_crop=True, colors=True, variants=8)


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A picture whose left half is red, with a mask that is white exactly where it is red."""
    picture = Image.new("RGB", (100, 96), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, 45, 96))
    picture.save(tmp_path / "a.png")
    mask = Image.new("RGB", (100, 96), (0, 255, 0))
    mask.paste((255, 0, 9), (0, 0, 45, 96))
    mask.save(tmp_path / "mask.png")
    return Sample(str(tmp_path / "a.png"), 100, 96, "1", placement=PLACEMENT, mask=str(tmp_path / "mask.png"))


def red(view: View) -> numpy.ndarray:
    return numpy.array(view.picture())[..., 0].astype(int)


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("left", [0, 9, 18])
def test_the_mask_goes_with_its_picture(sample, is_mirrored, left):
    placement = dataclasses.replace(PLACEMENT, crop_px=(left, 0))
    view = View(dataclasses.replace(sample, placement=placement))
    view = view.mirrored() if is_mirrored else view
    mask = numpy.array(view.mask()).astype(int)
    assert mask.shape == (48, 32)
    # Resized pictures ring a little at their edges.
    assert (abs(red(view) - mask) > 48).mean() < 0.04
    assert (mask[:, 0] > 128).all() != is_mirrored


def test_images_are_resized_as_the_settings_or_the_dataset_file_say(sample):
    """Nearest invents no colours; the mean of what comes together does."""

    def colours(view: View) -> set[tuple[int, int, int]]:
        return {color for _, color in view.picture().getcolors(10_000)}

    plain = plain_view(sample, DataSettings(resize="nearest"))
    assert colours(plain) == {(255, 0, 0), (0, 0, 255)} < colours(plain_view(sample, DataSettings()))
    told = dataclasses.replace(sample, viewing=DataOverrides(resize="area"))
    every = all_views(told, DataSettings(resize="nearest", mirror=True, random_crop=True, variants=3))
    assert {view.resize for view in every} == {"area"} and colours(every[0]) != colours(plain)
    assert view_at(sample, DataSettings(resize="bicubic"), 0, 0, 0) == View(sample, resize="bicubic")


def test_a_border_does_not_count(sample):
    """48 px high in 64: the image lies from 8 to 56."""
    padded = dataclasses.replace(sample, placement=Placement((50, 64), (50, 48), (0, -8), border="#ff0000"))
    for each, inside in ((padded, 23 / 50), (dataclasses.replace(padded, mask=None), 1.0)):
        mask = numpy.array(View(each).mask()) / 255
        assert View(each).has_mask and not mask[:8].any() and not mask[56:].any()
        assert mask[8:56].mean() == pytest.approx(inside, abs=0.02)
    assert not View(dataclasses.replace(sample, mask=None)).has_mask


def test_an_alpha_channel_is_a_mask_and_turns_with_its_picture(tmp_path):
    picture = Image.new("RGBA", (4, 2), (9, 9, 9, 0))
    picture.putpixel((0, 0), (9, 9, 9, 255))
    exif = Image.Exif()
    # Orientation 6: shown a quarter turn clockwise, so that the upper left corner comes to the upper right.
    exif[0x0112] = 6
    picture.save(tmp_path / "a.png", exif=exif)
    turned = Sample(str(tmp_path / "a.png"), 2, 4, "1", placement=Placement((2, 4), (2, 4), (0, 0)), mask="alpha")
    assert numpy.array(View(turned).mask()).tolist() == [[0, 255], [0, 0], [0, 0], [0, 0]]


def test_a_mirrored_picture_is_the_mirror_image(sample):
    assert (red(View(sample).mirrored()) == red(View(sample))[:, ::-1]).all()


def test_a_mirrored_crop_is_counted_from_the_other_side(sample):
    """50 px wide, cut from 9 to 41: mirrored it is cut from 50 - 41 = 9; cut from 4, from 14."""
    off_centre = dataclasses.replace(sample, placement=dataclasses.replace(PLACEMENT, crop_px=(4, 0)))
    assert View(off_centre).framing.crop_px == (4, 0)
    assert View(off_centre).mirrored().framing.crop_px == (14, 0)
    assert View(off_centre).mirrored().framing.original_px == (100, 96)


def test_without_settings_there_is_one_view(sample):
    assert all_views(sample, DataSettings()) == (View(sample),)
    assert {view_at(sample, DataSettings(), 1, batch, 0) for batch in range(20)} == {View(sample)}


def test_what_is_drawn_is_among_what_is_encoded(sample):
    known = all_views(sample, EVERYTHING)
    drawn = {view_at(sample, EVERYTHING, 5, batch, row) for batch in range(200) for row in range(2)}
    assert drawn == set(known) and 10 < len(known) <= 16
    assert view_at(sample, EVERYTHING, 5, 3, 1) == view_at(sample, EVERYTHING, 5, 3, 1)


def test_half_of_the_draws_are_mirrored(sample):
    drawn = [view_at(sample, DataSettings(mirror=True), 5, batch, 0).sample.placement.mirrored for batch in range(400)]
    assert 160 < sum(drawn) < 240


def test_random_crops_keep_inside_the_picture_and_colours_change_it_a_little(sample):
    views = all_views(sample, dataclasses.replace(EVERYTHING, variants=60, mirror=False))
    lefts = {view.sample.placement.crop_px[0] for view in views}
    assert lefts <= set(range(19)) and len(lefts) > 10
    assert {view.sample.placement.crop_px[1] for view in views} == {0}
    changed = [view for view in views if view.hue_shift or view.gamma != 1]
    assert 8 < len(changed) < 35
    assert all(abs(view.hue_shift) <= 12 and 0.95 <= view.gamma <= 1.05 for view in views)
    hue = View(sample, hue_shift=10).picture().getpixel((0, 0))
    assert hue[0] > 200 and 30 < hue[1] < 90 and hue != View(sample).picture().getpixel((0, 0))
    assert View(dataclasses.replace(sample), gamma=0.95).picture().size == (32, 48)


def test_variants_of_an_image_are_the_same_in_every_run(sample):
    first, again = all_views(sample, EVERYTHING), all_views(dataclasses.replace(sample), EVERYTHING)
    assert first == again


def test_what_a_dataset_file_says_goes_first_for_its_folder(sample):
    said = dataclasses.replace(sample, viewing=DataOverrides(mirror=True, random_crop=False))
    views = all_views(said, DataSettings(random_crop=True, variants=5))
    assert [view.sample.placement.mirrored for view in views] == [False, True]
    assert {view_at(said, DataSettings(), 1, batch, 0) for batch in range(20)} == set(views)
