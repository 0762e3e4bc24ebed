from __future__ import annotations

from pathlib import Path

from PIL import Image

from athanor.trainer.compare import pages
from athanor.trainer.compare.kinds import Choices, RunEpochs
from athanor.trainer.compare.pages import MAX_AREA_PX, MAX_SIDE_PX, grid_sizes_px, page_parts, write_grids
from athanor.trainer.compare.recipe import Recipe
from athanor.trainer.compare.sheet import AxisText, Sheet, plan_sheet


def small_sheet(folder: Path) -> Sheet:
    choices = Choices({"r": RunEpochs((1, 2), None)}, (), (), (), "")
    axes = (AxisText("strength", "0.5, 1"), AxisText("epoch", "all"), AxisText("none"))
    return plan_sheet(folder, Recipe(run="r", epoch=2), axes, ("one", "two"), False, choices, {("r", 1): "a", ("r", 2): "b"})


def test_a_grid_a_page_and_gaps_for_what_is_missing(tmp_path):
    sheet = small_sheet(tmp_path)
    for recipe in sheet.recipes[:3]:
        sheet.path(recipe).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), (250, 0, 250)).save(sheet.path(recipe))
    first, second = write_grids(sheet, "r", {sheet.files[sheet.recipes[3]]: "out of memory"}, (64, 64))
    assert [first.name, second.name] == ["grid-01.png", "grid-02.png"]
    with Image.open(first) as one, Image.open(second) as two:
        assert one.size == two.size
        pink = [sum(pixel == (250, 0, 250) for pixel in image.convert("RGB").get_flattened_data()) for image in (one, two)]
    num_drawn = [sum(sheet.picture(page, r, c).is_file() for r in range(2) for c in range(2)) for page in range(2)]
    assert sum(num_drawn) == 3 and [round(area / 192**2) for area in pink] == num_drawn, "shown three times as large"


def test_a_page_that_would_be_too_large_is_split_and_nothing_is_lost():
    for columns, rows, cell in ((3, 40, (1024, 1024)), (60, 2, (1536, 640)), (5, 5, (64, 64)), (1, 1, (4096, 4096))):
        parts = page_parts(columns, rows, cell)
        seen = sorted((row, column) for across, down in parts for row in down for column in across)
        assert seen == [(row, column) for row in range(rows) for column in range(columns)]
        for across, down in parts:
            width, height = len(across) * cell[0] * 1.35, len(down) * cell[1] * 1.35
            assert len(across) == len(down) == 1 or (max(width, height) <= MAX_SIDE_PX and width * height <= MAX_AREA_PX)
    assert len(page_parts(5, 5, (64, 64))) == 1


def test_the_size_of_the_grids_is_known_before_they_are_drawn(tmp_path):
    sheet = small_sheet(tmp_path)
    expected = grid_sizes_px(sheet, "a run · seed 1", (64, 64))
    sizes = []
    for path in write_grids(sheet, "a run · seed 1", {}, (64, 64)):
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes == expected and len(sizes) == 2


def test_the_base_alone_does_not_keep_the_others_from_losing_what_they_share():
    names = ("no LoRA", "my_character_lora_rank8-000010", "my_character_lora_rank16-000010")
    assert pages._short(names) == ("no LoRA", "rank8-000010", "rank16-000010")
    assert pages._short(("no LoRA", "epoch 1", "epoch 2")) == ("no LoRA", "epoch 1", "epoch 2")
