from __future__ import annotations

from PIL import Image

from athanor.trainer.compare.grid import GridPage, draw_grid, without_common_prefix


def test_every_cell_stands_under_its_column_and_beside_its_row():
    colours = {(row, column): (60 * row + 20, 60 * column + 20, 200) for row in range(3) for column in range(2)}
    pictures = tuple(tuple(Image.new("RGB", (64, 48), colours[row, column]) for column in range(2)) for row in range(3))
    image = draw_grid(GridPage("a title", ("strength 0.5", "strength 1"), ("no LoRA", "epoch 1", "epoch 2"), pictures), (64, 48))
    boxes = {colour: box_of(image, colour) for colour in colours.values()}
    for (row, column), colour in colours.items():
        left, top, right, bottom = boxes[colour]
        assert (right - left, bottom - top) == (64, 48)
        assert left == boxes[colours[0, column]][0] and top == boxes[colours[row, 0]][1]
    assert boxes[colours[1, 0]][1] > boxes[colours[0, 0]][1] and boxes[colours[0, 1]][0] > boxes[colours[0, 0]][0]


def test_a_missing_cell_does_not_move_the_others():
    picture = Image.new("RGB", (64, 64), (200, 10, 10))
    whole = draw_grid(GridPage("", ("1", "2"), ("a",), ((picture, picture),)), (64, 64))
    partial = draw_grid(GridPage("", ("1", "2"), ("a",), (("not drawn", picture),)), (64, 64))
    assert whole.size == partial.size
    assert box_of(partial, (200, 10, 10))[2] == box_of(whole, (200, 10, 10))[2]


def test_long_labels_of_any_language_neither_crash_nor_cover_cells():
    picture = Image.new("RGB", (48, 48), (1, 250, 2))
    label = "一个很长的标签 " * 20 + "epoch 12"
    image = draw_grid(GridPage(label, (label,), (label,), ((picture,),)), (48, 48))
    left, top, right, bottom = box_of(image, (1, 250, 2))
    assert (right - left, bottom - top) == (48, 48)


def test_the_tail_of_a_label_is_never_what_is_stripped():
    assert without_common_prefix(["my lora epoch 1", "my lora epoch 12"]) == ("1", "12")
    assert without_common_prefix(["one"]) == ("one",)
    assert without_common_prefix(["a b", "a b"]) == ("b", "b")
    assert without_common_prefix(["loras/fox_v2-000001", "loras/fox_v2-000012"]) == ("000001", "000012")
    assert without_common_prefix(["fox-", "fox-1"]) == ("fox-", "fox-1"), "nothing is cut away whole"
    assert without_common_prefix(["1girl, solo, red", "1girl, solo, blue hat"]) == ("red", "blue hat")


def box_of(image: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    mask = image.point(lambda value: value).convert("RGB")
    found = [(x, y) for y in range(mask.height) for x in range(mask.width) if mask.getpixel((x, y)) == colour]
    assert found, f"no pixel of {colour}"
    return min(x for x, _ in found), min(y for _, y in found), max(x for x, _ in found) + 1, max(y for _, y in found) + 1
