from __future__ import annotations

import itertools

import pytest
from PIL import ImageDraw

from athanor.trainer.drawing.palette import DARK
from athanor.trainer.drawing.panels import Panel, Series, draw_panels


@pytest.mark.parametrize("step", [1, 25, 50, 1000, 12345])
def test_no_two_numbers_of_an_axis_touch(step: int, monkeypatch: pytest.MonkeyPatch):
    boxes, text_of = [], ImageDraw.ImageDraw.text

    def told(self, xy, text, *arguments, **options):
        font, anchor = arguments[1], options.get("anchor", "la")
        boxes.append((xy[1], *font.getbbox(text, anchor=anchor)[::2], xy[0], text))
        return text_of(self, xy, text, *arguments, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", told)
    points = tuple((float(step * n), 1.0 / n) for n in range(1, 9))
    panel = Panel("loss", (Series("epoch", 0, points, "dots"),), x_label="epoch", x_ticks=tuple(x for x, _ in points))
    draw_panels([panel], "a run", DARK, 1, (640, 350))
    lowest = max(y for y, *_ in boxes)
    row = sorted((x + left, x + right, text) for y, left, right, x, text in boxes if y == lowest)
    assert row[-1][2] == f"epoch {step * 8}" and len(row) > 1
    assert all(before[1] < behind[0] for before, behind in itertools.pairwise(row)), row
