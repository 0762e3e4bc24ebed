from __future__ import annotations

import numpy
import pytest

from athanor.trainer.drawing.palette import ACCENT, HELD_OUT
from athanor.trainer.drawing.rate_plot import rate_plot


def rows_of(picture, colour) -> tuple[int, int]:
    """The first and the last row that hold nearly `colour`, left of the legend's last third."""
    pixels = numpy.asarray(picture).astype(int)[50:, :, :]
    near = (abs(pixels - numpy.array(colour)).sum(axis=2) < 30).any(axis=1).nonzero()[0]
    return int(near[0]) + 50, int(near[-1]) + 50


def test_a_falling_rate_goes_from_the_top_to_the_bottom():
    picture = rate_plot({"cosine": [1 - i / 99 for i in range(100)]}, "cosine")
    top, bottom = rows_of(picture, ACCENT)
    assert picture.size == (640, 360) and top < 80 and bottom > 290


def test_each_part_has_its_line():
    picture = rate_plot({"denoiser": [1e-4] * 50, "text_encoder": [5e-5] * 50}, "two")
    (upper, _), (middle, _) = rows_of(picture, ACCENT), rows_of(picture, HELD_OUT)
    assert upper < 70 and 150 < middle < 220


@pytest.mark.parametrize("rates", [{}, {"a": []}, {"a": [0.0]}, {"a": [0.0, 0.0]}, {"名前": [1.0] * 100_000}])
def test_nothing_much_to_draw_is_drawn_too(rates):
    assert rate_plot(rates, "名前 " * 50, (100, 100)).size == (320, 200)
