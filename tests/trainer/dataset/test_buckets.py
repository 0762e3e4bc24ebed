"""Golden values: the output of sd-scripts' make_bucket_resolutions and BucketManager.select_bucket."""

import math

import pytest

from athanor.trainer.dataset import assign_buckets, bucket_counts, bucket_report, make_bucket_sizes, select_bucket, select_bucket_without_upscale
from athanor.trainer.errors import AthanorError, InvalidJobError
from athanor.trainer.types import Dataset, Placement, Sample

SD15 = {"resolution_px": 512, "min_px": 256, "max_px": 1024, "step_px": 64}


def sample(width_px, height_px, name="a.png", **changes):
    return Sample(path=f"/data/{name}", width_px=width_px, height_px=height_px, fingerprint="1-1", **changes)


def test_sizes_for_512_are_kohyas():
    tall = [(256, 832), (256, 896), (256, 960), (256, 1024), (320, 704), (320, 768), (384, 640), (448, 576)]
    assert make_bucket_sizes(512, 256, 1024, 64) == tuple(sorted([*tall, (512, 512), *((height, width) for width, height in tall)]))


@pytest.mark.parametrize(
    ("settings", "count", "inside", "outside"),
    [
        ((1024, 256, 1024, 64), 25, (1024, 1024), (832, 1216)),
        ((1024, 256, 2048, 64), 41, (512, 2048), (192, 2048)),
        ((1024, 512, 2048, 64), 33, (832, 1216), (448, 2048)),
    ],
)
def test_sizes_for_1024_are_kohyas(settings, count, inside, outside):
    sizes = make_bucket_sizes(*settings)
    assert len(sizes) == count
    assert inside in sizes and outside not in sizes
    assert set(sizes) == {(height, width) for width, height in sizes}


def test_limits_are_rounded_outwards_to_the_step():
    assert make_bucket_sizes(512, 300, 1000, 64) == make_bucket_sizes(512, 256, 1024, 64)


@pytest.mark.parametrize(
    ("size", "bucket", "resized", "crop"),
    [
        ((3000, 2000), (640, 384), (640, 427), (0, 21)),
        ((1080, 1920), (384, 640), (384, 683), (0, 21)),
        ((4032, 3024), (576, 448), (597, 448), (10, 0)),
        ((1000, 333), (832, 256), (832, 277), (0, 10)),
        ((100, 100), (512, 512), (512, 512), (0, 0)),
        ((320, 768), (320, 768), (320, 768), (0, 0)),
    ],
)
def test_nearest_ratio_is_selected_covered_and_cut_at_the_centre(size, bucket, resized, crop):
    assert select_bucket(size, make_bucket_sizes(**SD15)) == Placement(bucket, resized, crop)


def test_a_covered_bucket_is_never_larger_than_the_resized_image():
    sizes = make_bucket_sizes(**SD15)
    for width in range(30, 3000, 83):
        for height in range(30, 3000, 97):
            placement = select_bucket((width, height), sizes)
            assert all(resized >= side for resized, side in zip(placement.resized_px, placement.bucket_px, strict=True))


@pytest.mark.parametrize(
    ("size", "bucket", "resized", "crop"),
    [
        ((3000, 2000), (576, 384), (576, 384), (0, 0)),
        ((1080, 1920), (384, 640), (384, 683), (0, 21)),
        ((700, 500), (512, 384), (538, 384), (13, 0)),
        ((4032, 3024), (512, 384), (512, 384), (0, 0)),
        ((1000, 333), (768, 256), (769, 256), (0, 0)),
        ((300, 200), (256, 192), (300, 200), (22, 4)),
    ],
)
def test_without_upscale_images_shrink_or_stay(size, bucket, resized, crop):
    assert select_bucket_without_upscale(size, 512, 64) == Placement(bucket, resized, crop)


def test_without_upscale_a_narrow_image_may_miss_one_of_the_two_ways():
    """As BucketManager.select_bucket of sd-scripts: by its height this one would have no width."""
    placement = select_bucket_without_upscale((112, 1808), 256, 64)
    assert (placement.bucket_px, placement.resized_px) == ((64, 1024), (64, 1033))


@pytest.mark.parametrize("size", [(63, 500), (20_000, 100)])
def test_without_upscale_an_image_under_one_step_has_no_bucket(size):
    assert select_bucket_without_upscale(size, 512, 64) is None


def test_every_sample_gets_its_placement_and_nothing_else_changes():
    before = Dataset((sample(600, 600, "a.png", caption="x"), sample(512, 900, "b.png", role="validation")), trigger="t", notes=("old",))
    after = assign_buckets(before, **SD15, upscale=True)
    assert [each.placement.bucket_px for each in after.samples] == [(512, 512), (384, 640)]
    assert after.samples[0].caption == "x" and after.samples[1].role == "validation" and after.trigger == "t" and after.notes[0] == "old"
    assert before.samples[0].placement is None


def test_enlarged_cut_and_lonely_images_are_named():
    samples = (sample(256, 256, "small.png"), sample(512, 512, "fits.png"), sample(3000, 500, "panorama.png"))
    notes = assign_buckets(Dataset(samples), **SD15, upscale=True).notes
    assert any("1 image is enlarged" in note and "small.png (2.00 times)" in note and "fits" not in note for note in notes)
    assert any("1 image is cut" in note and "panorama.png (33 %)" in note for note in notes)
    assert any("1 bucket holds a single image: 1024 x 256 (panorama.png)" in note for note in notes)


def test_a_plain_dataset_has_no_notes():
    assert assign_buckets(Dataset((sample(512, 512), sample(600, 600))), **SD15, upscale=True).notes == ()


def test_long_lists_of_names_are_cut_short():
    samples = tuple(sample(200, 200, f"{i}.png") for i in range(9))
    note = assign_buckets(Dataset(samples), **SD15, upscale=True).notes[0]
    assert note.startswith("9 images are enlarged") and "and 4 more" in note and note.count(".png") == 5


def test_without_upscale_what_is_too_small_is_left_out_by_name():
    after = assign_buckets(Dataset((sample(40, 50, "dot.png"), sample(300, 300))), **SD15, upscale=False)
    assert [each.path for each in after.samples] == ["/data/a.png"]
    assert any("dot.png (40 x 50 px)" in note and "left out" in note for note in after.notes)
    assert after.samples[0].placement.resized_px == (300, 300)
    with pytest.raises(AthanorError, match="Turn upscale on"):
        assign_buckets(Dataset((sample(40, 50),)), **SD15, upscale=False)


def test_all_wrong_sizes_are_told_at_once():
    with pytest.raises(InvalidJobError) as error:
        assign_buckets(Dataset((sample(9, 9),)), resolution_px=512, min_px=32, max_px=256, step_px=64, upscale=True)
    assert len(error.value.problems) == 2
    assert "32 px" in error.value.problems[0] and "256 px" in error.value.problems[1]
    with pytest.raises(InvalidJobError, match="step is 0 px"):
        make_bucket_sizes(512, 256, 1024, 0)
    with pytest.raises(InvalidJobError, match="resolution is 32 px"):
        assign_buckets(Dataset((sample(9, 9),)), resolution_px=32, min_px=256, max_px=1024, step_px=64, upscale=False)


def test_an_empty_dataset_is_refused():
    with pytest.raises(AthanorError, match="empty"):
        assign_buckets(Dataset(()), **SD15, upscale=True)


def test_counts_and_report_add_up():
    samples = (
        sample(900, 600, "w.png", repeats=3),
        sample(300, 300, "s.png"),
        sample(512, 512, "v.png", role="validation"),
        sample(600, 600, "q.png"),
    )
    dataset = assign_buckets(Dataset(samples), **SD15, upscale=True)
    square, wide = bucket_counts(dataset)
    assert (square.bucket_px, square.num_images, square.num_draws, square.num_held_out, square.upscaled) == ((512, 512), 2, 2, 1, ("s.png",))
    assert (wide.bucket_px, wide.num_images, wide.num_draws, wide.num_held_out) == ((640, 384), 1, 3, 0)
    assert math.isclose(wide.cropped_share, 1 - 640 * 384 / (640 * 427))
    lines = bucket_report(dataset).splitlines()
    assert lines[0] == "3 images, 5 an epoch with repeats, 1 held out, in 2 buckets."
    assert any(line.split()[:6] == ["512", "x", "512", "1.00", "2", "2"] and line.endswith("s.png") for line in lines)
    assert lines[-1] == dataset.notes[-1]
    assert bucket_report(Dataset(samples)) == "No image has a bucket yet."
