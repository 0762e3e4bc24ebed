"""Fixed sizes, padding, stretching, splitting, mirroring and joining buckets; and that the training sees exactly that."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from athanor.trainer.config import from_json, to_json
from athanor.trainer.data.latents import image_tensor
from athanor.trainer.data.views import View
from athanor.trainer.dataset import (
    assign_buckets,
    bucket_chart,
    bucket_counts,
    bucket_report,
    contact_sheet,
    placed_image,
    scan_folder,
    steps_per_epoch,
)
from athanor.trainer.dataset.fit import around, checked_border, fitted, parts
from athanor.trainer.errors import AthanorError, InvalidJobError
from athanor.trainer.families.base import Framing
from athanor.trainer.types import Dataset, Placement, Sample

SD15 = {"resolution_px": 512, "min_px": 256, "max_px": 1024, "step_px": 64, "upscale": True}
SMALL = {"resolution_px": 64, "min_px": 32, "max_px": 128, "step_px": 16, "upscale": True}


def sample(width_px, height_px, name="a.png", **changes):
    return Sample(path=f"/data/{name}", width_px=width_px, height_px=height_px, fingerprint="1-1", **changes)


def placements(dataset):
    return [each.placement for each in dataset.samples]


def note_on(dataset, text):
    found = [note for note in dataset.notes if text in note]
    assert len(found) == 1, dataset.notes
    return found[0]


@pytest.fixture
def colours(tmp_path):
    """100 x 40 px in five columns of colours, as a dataset."""
    image = Image.new("RGB", (100, 40))
    for i, colour in enumerate(("red", "lime", "blue", "yellow", "white")):
        image.paste(colour, (20 * i, 0, 20 * i + 20, 40))
    image.save(tmp_path / "stripes.png")
    return scan_folder(tmp_path)


def test_one_fixed_size_for_all():
    dataset = assign_buckets(Dataset((sample(900, 300), sample(64, 64, "b.png"))), **SD15, fixed_px=(384, 512))
    assert placements(dataset) == [Placement((384, 512), (1536, 512), (576, 0)), Placement((384, 512), (512, 512), (64, 0))]
    with pytest.raises(InvalidJobError, match="multiples of the step, 64 px"):
        assign_buckets(dataset, **SD15, fixed_px=(500, 512))


def test_a_fixed_size_without_upscale_leaves_small_images_out_or_pads_them():
    images = Dataset((sample(900, 300), sample(600, 700, "b.png")))
    settings = {**SD15, "upscale": False, "fixed_px": (512, 512)}
    dataset = assign_buckets(images, **settings)
    assert [each.path for each in dataset.samples] == ["/data/b.png"]
    assert "a.png (900 x 300 px) is smaller than 512 x 512 px" in note_on(dataset, "left out")
    with pytest.raises(AthanorError, match="No image is as large as 512 x 512"):
        assign_buckets(Dataset((sample(20, 20),)), **settings)
    dataset = assign_buckets(Dataset((sample(100, 300),)), **settings, fit="pad", border="white")
    assert placements(dataset) == [Placement((512, 512), (100, 300), (-206, -106), "#ffffff")]


def test_padding_shows_all_of_the_image(colours):
    dataset = assign_buckets(colours, **SMALL, fixed_px=(64, 64), fit="pad", border="#102030")
    assert placements(dataset) == [Placement((64, 64), (64, 26), (0, -19), "#102030")]
    image = placed_image(dataset.samples[0])
    assert image.size == (64, 64)
    assert {image.getpixel((x, y)) for x in range(64) for y in (*range(19), *range(45, 64))} == {(16, 32, 48)}
    assert image.getpixel((3, 32)) == (255, 0, 0) and image.getpixel((60, 32)) == (255, 255, 255)
    assert "padded by more than 10 %" in note_on(dataset, "stripes.png (59 %)")
    (count,) = bucket_counts(dataset)
    assert count.cropped_share == 0 and count.padded_share == pytest.approx(1 - 26 / 64)
    assert "59.4 %" in bucket_report(dataset) and "padded" in bucket_report(dataset)


def test_padding_with_the_edge_repeats_the_nearest_pixels(colours):
    dataset = assign_buckets(colours, **SMALL, fixed_px=(32, 64), fit="pad", border="edge")
    placed, plain = placed_image(dataset.samples[0]), assign_buckets(colours, **SMALL, fixed_px=(32, 64), fit="pad", border="black")
    top = dataset.samples[0].placement.crop_px[1]
    rows = [[placed.getpixel((x, y)) for x in range(32)] for y in range(64)]
    assert all(row == rows[-top] for row in rows[:-top]) and all(row == rows[-top + 12] for row in rows[-top + 13 :])
    assert rows[-top : -top + 13] == [[placed_image(plain.samples[0]).getpixel((x, y)) for x in range(32)] for y in range(-top, -top + 13)]
    left = Placement((60, 20), (50, 20), (-5, 0), "edge")
    stretched = placed_image(replace(dataset.samples[0], placement=left))
    assert stretched.getpixel((0, 10)) == stretched.getpixel((5, 10)) and stretched.getpixel((59, 10)) == stretched.getpixel((54, 10))


@pytest.mark.parametrize(("text", "border"), [("White", "#ffffff"), ("#A0b0C0", "#a0b0c0"), (" edge ", "edge"), ("rgb(1,2,3)", "#010203")])
def test_borders(text, border):
    assert checked_border(text) == border


def test_a_border_that_is_no_colour_is_refused():
    with pytest.raises(AthanorError, match="'wite' is no colour"):
        assign_buckets(Dataset((sample(9, 9),)), **SD15, fit="pad", border="wite")


def test_stretching_keeps_everything_and_tells_how_much():
    dataset = assign_buckets(Dataset((sample(900, 300), sample(512, 512, "b.png"))), **SD15, fixed_px=(512, 512), fit="stretch")
    assert placements(dataset) == [Placement((512, 512), (512, 512), (0, 0))] * 2
    assert "a.png (200 %)" in note_on(dataset, "stretched by more than 5 %") and "b.png" not in note_on(dataset, "stretched")


def test_no_fit_but_stretch_distorts():
    for width in range(40, 900, 37):
        for height in range(40, 900, 53):
            for fit in ("cover", "pad"):
                dataset = assign_buckets(Dataset((sample(width, height),)), **SD15, fit=fit)
                assert not [note for note in dataset.notes if "stretched" in note], (width, height, fit)
                placement = dataset.samples[0].placement
                sides = zip(placement.crop_px, placement.bucket_px, placement.resized_px, strict=True)
                assert all(0 <= at <= size - side if fit == "cover" else at <= 0 and side - at >= size for at, side, size in sides)


def test_without_upscale_padding_and_stretching_never_enlarge():
    for fit in ("pad", "stretch"):
        dataset = assign_buckets(Dataset((sample(300, 200), sample(3000, 2000, "b.png"))), **{**SD15, "upscale": False}, fit=fit)
        assert [each.bucket_px for each in placements(dataset)] == [(256, 192), (576, 384)]
        assert not [note for note in dataset.notes if "enlarged" in note]


def test_the_cut_follows_the_focus_and_stays_inside():
    assert around((0.5, 0.5), (64, 64), (100, 64)).crop_px == (18, 0)
    assert [around((x, 0.9), (64, 64), (100, 64)).crop_px for x in (0, 0.4, 0.6, 1)] == [(0, 0), (8, 0), (28, 0), (36, 0)]
    asked = []

    def focus(samples):
        asked.extend(each.path for each in samples)
        return [(1.0, 1.0)] * len(samples)

    images = Dataset((sample(512, 512, "fits.png"), sample(2000, 700, "wide.png")))
    dataset = assign_buckets(images, **SD15, focus=focus)
    assert asked == ["/data/wide.png"], "what is not cut is not looked at"
    assert dataset.samples[1].placement == Placement((832, 256), (832, 291), (0, 35))


def test_parts_are_those_of_a1111():
    """Its `split_pic` on 512 x 2048 for 512 x 512 with an overlap of 0.2: ceil((2048 - 102.4) / 409.6) = 5 parts, 384 apart."""
    cuts = parts(Placement((512, 512), (512, 2048), (0, 768)), 0.2)
    assert [cut.crop_px for cut in cuts] == [(0, 0), (0, 384), (0, 768), (0, 1152), (0, 1536)]
    assert [cut.crop_px[0] for cut in parts(Placement((64, 64), (130, 64), (0, 0)), 0.0)] == [0, 33, 66]
    exact = Placement((64, 64), (64, 64), (0, 0))
    assert parts(exact, 0.2) == (exact,)


def test_oversized_pictures_are_split_and_the_training_sees_each_part(colours):
    dataset = assign_buckets(colours, **SMALL, fixed_px=(64, 64), split_over=0.5, split_overlap=0.1)
    assert [each.crop_px for each in placements(dataset)] == [(0, 0), (48, 0), (96, 0)]
    assert "stripes.png (3 parts)" in note_on(dataset, "1 image split")
    assert placed_image(dataset.samples[1]).getpixel((32, 32)) == (0, 0, 255)
    assert placed_image(dataset.samples[0]).getpixel((2, 2)) == (255, 0, 0) and placed_image(dataset.samples[2]).getpixel((61, 2)) == (255, 255, 255)
    assert len(assign_buckets(colours, **SMALL, fixed_px=(64, 64), split_over=0.7).samples) == 1
    assert len({image_tensor(View(each)).numpy().tobytes() for each in dataset.samples}) == 3


def test_a_second_bucket_takes_the_place_of_the_first(colours):
    first = assign_buckets(colours, **SMALL, fixed_px=(64, 64), split_over=0.5, mirror=True)
    assert len(first.samples) == 6
    second = assign_buckets(first, **SMALL, fixed_px=(96, 32))
    assert placements(second) == placements(assign_buckets(colours, **SMALL, fixed_px=(96, 32)))
    assert "came out of a Bucket already" in note_on(second, "replaced")


def test_a_line_is_not_split_into_hundreds():
    dataset = assign_buckets(Dataset((sample(1, 5000, "line.png"), sample(800, 20_000, "strip.png"))), **SD15, split_over=0.5)
    assert len(dataset.samples) == 1 + 8
    assert "more than 100 parts: line.png" in note_on(dataset, "Too long")
    assert "strip.png (8 parts)" in note_on(dataset, "1 image split")


def test_mirrored_copies_are_real_ones(colours):
    held = sample(64, 64, "held.png", role="validation")
    before = Dataset((*(replace(each, caption="looking to the left") for each in colours.samples), held))
    dataset = assign_buckets(before, **SMALL, mirror=True)
    assert [(Path(each.path).name, each.placement.mirrored) for each in dataset.samples] == [
        ("stripes.png", False),
        ("held.png", False),
        ("stripes.png", True),
    ]
    plain, mirrored = placed_image(dataset.samples[0]), placed_image(dataset.samples[2])
    assert mirrored.tobytes() == ImageOps.mirror(plain).tobytes() != plain.tobytes()
    assert bool((image_tensor(View(dataset.samples[2])) == image_tensor(View(dataset.samples[0])).flip(-1)).all())
    assert "stripes.png" in note_on(dataset, "speaks of left, right or text")
    assert note_on(dataset, "1 image mirrored")
    assert sum(count.num_draws for count in bucket_counts(dataset)) == 2


def test_a_mirrored_framing_counts_from_the_other_side():
    placed = sample(300, 100, placement=Placement((64, 64), (192, 64), (28, 0)))
    assert Framing.of(placed).crop_px == (28, 0)
    assert Framing.of(replace(placed, placement=replace(placed.placement, mirrored=True))).crop_px == (192 - 64 - 28, 0)
    assert Framing.of(replace(placed, placement=Placement((64, 64), (64, 21), (0, -22), "edge"))).crop_px == (0, 0)


def test_placements_survive_the_job_file():
    placement = Placement((64, 64), (64, 21), (0, -22), "#ffffff", True)
    assert from_json(Placement, to_json(placement)) == placement
    assert from_json(Placement, {"bucket_px": [1, 1], "resized_px": [1, 1], "crop_px": [0, 0]}) == Placement((1, 1), (1, 1), (0, 0))


def many():
    squares = [sample(512, 512, f"s{i}.png") for i in range(6)]
    return Dataset((*squares, sample(576, 448, "a.png"), sample(448, 576, "b.png"), sample(1024, 256, "long.png", repeats=5)))


def test_rare_buckets_are_joined_and_the_loss_is_told():
    dataset = assign_buckets(many(), **SD15, merge_below=4)
    assert {count.bucket_px: count.num_images for count in bucket_counts(dataset)} == {(512, 512): 8, (1024, 256): 1}
    note = note_on(dataset, "joined with their neighbours")
    assert note.startswith("2 buckets with fewer than 4 images") and "a.png (576 x 448 to 512 x 512)" in note
    assert "what is cut of 2 images grew from 0.0 to 22.2 %" in note
    assert assign_buckets(many(), **SD15, merge_below=4, mirror=True).samples[-1].placement.mirrored


def test_what_joining_would_cost_is_told_before():
    dataset = assign_buckets(many(), **SD15)
    assert len(bucket_counts(dataset)) == 4
    assert note_on(dataset, "would leave 2 of 4").endswith("what is cut of 2 images would grow from 0.0 to 22.2 %.")


def test_joining_never_enlarges_where_upscale_is_off():
    images = Dataset((*(sample(512, 512, f"{i}.png") for i in range(5)), sample(400, 300, "small.png"), sample(600, 400, "wide.png")))
    dataset = assign_buckets(images, **{**SD15, "upscale": False}, merge_below=3)
    by_name = {Path(each.path).name: each.placement for each in dataset.samples}
    assert by_name["small.png"].bucket_px == (384, 256), "none of the common ones is small enough"
    assert all(
        each.resized_px[0] <= s.width_px and each.resized_px[1] <= s.height_px for s, each in zip(dataset.samples, placements(dataset), strict=True)
    )


def test_where_all_buckets_are_rare_the_fullest_takes_the_others():
    images = Dataset((sample(512, 512, "a.png"), sample(512, 512, "b.png"), sample(576, 448, "c.png")))
    assert {each.bucket_px for each in placements(assign_buckets(images, **SD15, merge_below=10))} == {(512, 512)}


def test_shares_out_of_range_are_told_together():
    with pytest.raises(InvalidJobError) as error:
        assign_buckets(many(), **SD15, split_over=1.0, split_overlap=1.0, merge_below=-1)
    assert len(error.value.problems) == 3


def test_the_report_tells_the_steps_of_an_epoch():
    from athanor.trainer.data.batches import batches_per_epoch

    dataset = assign_buckets(many(), **SD15)
    told = next(line for line in bucket_report(dataset).splitlines() if line.startswith("Steps an epoch"))
    for size in (1, 2, 4, 8):
        steps = batches_per_epoch(dataset.samples, size)
        assert steps == steps_per_epoch(bucket_counts(dataset), size) and f"{steps} with batch size {size}" in told


@pytest.mark.parametrize(
    "settings", [{}, {"fit": "pad"}, {"fit": "pad", "border": "white"}, {"fit": "stretch"}, {"split_over": 0.3}, {"mirror": True}]
)
def test_sheet_and_chart_draw_every_kind(colours, settings):
    dataset = assign_buckets(colours, **SMALL, fixed_px=(32, 64), **settings)
    plain = contact_sheet(colours, cell_px=96)
    assert contact_sheet(dataset, cell_px=96).tobytes() != plain.tobytes()
    assert bucket_chart(dataset).width == 1024


def test_fitted_rounds_into_the_bucket():
    for width in range(1, 200, 7):
        for height in range(1, 200, 11):
            for enlarge in (True, False):
                placement = fitted((width, height), (64, 96), "pad", border="edge", enlarge=enlarge)
                assert 1 <= placement.resized_px[0] <= 64 and 1 <= placement.resized_px[1] <= 96
                assert enlarge or placement.resized_px <= (width, height)
