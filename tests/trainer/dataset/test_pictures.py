from dataclasses import replace

import pytest
from PIL import Image

from athanor.trainer.dataset import assign_buckets, bucket_chart, contact_sheet, pictures, scan_folder
from athanor.trainer.drawing.palette import ACCENT, HELD_OUT, WARNING
from athanor.trainer.errors import InvalidJobError
from athanor.trainer.types import Dataset, Sample

RED = (250, 10, 10)


def count(picture, colour, tolerance=3):
    return sum(
        number
        for number, pixel in picture.getcolors(picture.width * picture.height)
        if all(abs(a - b) <= tolerance for a, b in zip(pixel, colour, strict=True))
    )


@pytest.fixture
def dataset(tmp_path):
    for i, size in enumerate([(400, 400), (400, 400), (600, 300), (300, 640)]):
        Image.new("RGB", size, RED).save(tmp_path / f"图片 {i}.png")
        (tmp_path / f"图片 {i}.txt").write_text("1girl, 红色头发, a very long caption that needs several lines", encoding="utf-8")
    return scan_folder(tmp_path, trigger="怪兽")


def bucketed(dataset):
    return assign_buckets(dataset, resolution_px=256, min_px=128, max_px=512, step_px=64, upscale=True)


def test_the_chart_grows_with_its_buckets_and_its_bars_with_the_images(dataset):
    two, four = (bucketed(dataset.with_samples(dataset.samples[:number])) for number in (2, 4))
    assert bucket_chart(four).height > bucket_chart(two).height
    wide = [count(bucket_chart(each), ACCENT) for each in (four, four.with_samples(four.samples[:3]))]
    assert wide[0] > wide[1] > 0


def test_held_out_images_have_their_own_colour(dataset):
    held = bucketed(dataset.with_samples(tuple(replace(sample, role="validation") for sample in dataset.samples)))
    assert count(bucket_chart(held), HELD_OUT) > 1000
    assert count(bucket_chart(bucketed(dataset)), HELD_OUT) == 0


def test_a_chart_of_many_or_no_buckets_is_a_picture(dataset):
    assert bucket_chart(dataset).width == 1024
    sizes = [(100 + 40 * i, 100 + 40 * j) for i in range(12) for j in range(12)]
    many = Dataset(tuple(Sample(f"/x/{width}x{height}.png", width, height, "") for width, height in sizes))
    many = assign_buckets(many, resolution_px=512, min_px=64, max_px=512, step_px=32, upscale=False)
    assert bucket_chart(many).height < 2200


def test_the_sheet_shows_every_image_up_to_the_limit(dataset):
    one, all_four = contact_sheet(dataset, columns=2, cell_px=100, max_images=1), contact_sheet(dataset, columns=2, cell_px=100, max_images=9)
    assert one.mode == "RGB"
    assert count(one, RED) == pytest.approx(10_000, rel=0.05)
    assert count(all_four, RED) == pytest.approx(10_000 * 2 + 100 * 50 + 47 * 100, rel=0.05)
    assert all_four.height > one.height


def test_longer_captions_make_room(dataset):
    short = dataset.with_samples(tuple(replace(sample, caption="x") for sample in dataset.samples))
    assert contact_sheet(dataset, columns=2, cell_px=100).height > contact_sheet(short, columns=2, cell_px=100).height


def test_what_the_bucket_cuts_is_dim(dataset):
    square = assign_buckets(dataset.with_samples(dataset.samples[2:3]), resolution_px=256, min_px=256, max_px=256, step_px=64, upscale=True)
    assert count(contact_sheet(square, columns=1, cell_px=200), RED) == pytest.approx(100 * 100, rel=0.05)


def test_missing_captions_and_badges_stand_out(dataset):
    assert count(contact_sheet(dataset, columns=2, cell_px=200), WARNING) == 0
    without = dataset.with_samples(tuple(replace(sample, caption=None) for sample in dataset.samples))
    assert count(contact_sheet(without, columns=2, cell_px=200), WARNING) > 0
    marked = dataset.with_samples(tuple(replace(sample, role="validation", repeats=6) for sample in dataset.samples))
    sheet = contact_sheet(marked, columns=2, cell_px=200)
    assert count(sheet, HELD_OUT) > 300 and count(sheet, ACCENT) > 100


def test_an_image_that_has_gone_is_told_in_its_place(dataset, tmp_path):
    (tmp_path / "图片 0.png").unlink()
    sheet = contact_sheet(dataset, columns=2, cell_px=200)
    assert count(sheet, WARNING) > 0
    assert count(sheet, RED) > 10_000


def test_a_sheet_never_grows_without_bound(dataset, monkeypatch):
    monkeypatch.setattr(pictures, "_MAX_SHEET_PIXELS", 200_000)
    sheet = contact_sheet(dataset.with_samples(dataset.samples[:1] * 40), columns=4, cell_px=100, max_images=40)
    assert 100_000 < sheet.width * sheet.height < 220_000
    assert contact_sheet(Dataset(()), columns=5, cell_px=100, max_images=5).width > 100


def test_sizes_out_of_range_are_told_together(dataset):
    with pytest.raises(InvalidJobError) as error:
        contact_sheet(dataset, columns=0, cell_px=5, max_images=0)
    assert len(error.value.problems) == 3


def test_groups_of_look_alikes_are_shown_with_their_numbers(dataset):
    first, second, *others = dataset.samples
    sheet = pictures.duplicate_sheet([(first, second), others])
    assert sheet.width > 600 and count(sheet, RED) > 4 * 80 * 160 and count(sheet, ACCENT) > 4 * 100, "each says which group it is of"
    same = pictures.duplicate_sheet([(first, second)])
    assert same.size != sheet.size and count(same, RED) < count(sheet, RED)
    empty = pictures.duplicate_sheet(())
    assert count(empty, RED) == 0 and empty.tobytes() != pictures.duplicate_sheet((), title="off").tobytes()
