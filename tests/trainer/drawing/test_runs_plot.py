from __future__ import annotations

import math

import pytest
from PIL import ImageChops

from athanor.trainer.drawing import runs_plot as runs_plot_module
from athanor.trainer.drawing.palette import DARK, LIGHT, THEMES, Theme
from athanor.trainer.drawing.panels import Panel, Series, draw_panels
from athanor.trainer.drawing.runs_plot import RunCurves, runs_plot


def num_near(picture, colour, tolerance=20) -> int:
    """Pixels of about this colour."""
    bands = [
        band.point([255 * (abs(level - wanted) <= tolerance) for level in range(256)]) for band, wanted in zip(picture.split(), colour, strict=True)
    ]
    return ImageChops.multiply(ImageChops.multiply(bands[0], bands[1]), bands[2]).histogram()[255]


def curves(name="run", num=60, level=0.3, held_out=True) -> RunCurves:
    losses = [level + 0.1 / (i + 1) for i in range(num)]
    validation = {0: level * 2, num // 2: level, num: level * 1.1} if held_out else {}
    return RunCurves(name, losses, validation, {"denoiser": [1e-4] * num, "text_encoder": [5e-5] * num}, [num // 2, num])


def brightness(colour) -> float:
    """Relative luminance (WCAG 2.2)."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_words_and_lines_stand_out_from_what_is_behind_them(theme: Theme):
    def contrast(one, other) -> float:
        low, high = sorted((brightness(one), brightness(other)))
        return (high + 0.05) / (low + 0.05)

    assert all(contrast(text, ground) >= 4.5 for text in (theme.text, theme.text_dim) for ground in (theme.background, theme.panel))
    assert all(contrast(colour, theme.panel) >= 3 for colour in theme.series)


@pytest.mark.parametrize("theme", [DARK, LIGHT])
def test_every_run_has_a_colour_of_its_own_in_both_themes(theme):
    two = runs_plot([curves("first", level=0.2), curves("second", level=0.4)], theme=theme)
    assert two.mode == "RGB" and num_near(two, theme.background, 2) > two.width * 20
    for colour in theme.series[:2]:
        assert num_near(two, colour) > 800
    assert num_near(two, theme.series[2]) < num_near(runs_plot([curves(str(i)) for i in range(3)], theme=theme), theme.series[2])


@pytest.mark.parametrize("log_scale", [False, True])
@pytest.mark.parametrize("others", [[], [curves("长名字的训练任务", held_out=False)], [curves("run"), curves("run")]])
def test_runs_of_any_length_name_and_content_are_drawn(log_scale, others):
    broken = RunCurves("odd", [math.nan, 0.0, math.inf, 0.2], {0: math.nan}, {}, [])
    empty = RunCurves("foreign", [], {}, {}, [])
    picture = runs_plot([curves(), *others, broken, empty], log_scale)
    assert min(picture.size) >= 700


def test_a_band_a_ring_and_a_dashed_line_are_seen():
    points = ((1.0, 0.5), (2.0, 0.7), (3.0, 0.6))
    plain = Panel("p", (Series("a", 0, points, "dots"),))
    told = Panel(
        "p",
        (Series("a", 0, points, "dots", ((0.4, 0.6), (0.6, 0.8), (0.5, 0.7)), frozenset({2.0})), Series("b", 1, ((1, 0.45), (3, 0.45)), "dashed")),
    )
    one, other = draw_panels([plain], "t", DARK), draw_panels([told], "t", DARK)
    assert num_near(other, DARK.series[1]) > 60 > num_near(one, DARK.series[1])
    assert num_near(other, DARK.text, 40) > num_near(one, DARK.text, 40), "the ring"


def test_panels_stand_in_columns():
    panel = Panel("p", (Series("a", 0, ((0.0, 1.0), (1.0, 2.0))),))
    one, four = draw_panels([panel], "t", DARK, 2, (400, 300)), draw_panels([panel] * 4, "t", DARK, 2, (400, 300))
    assert four.width - one.width == 400 and four.height - one.height == 300


def test_long_names_keep_the_end_that_tells_them_apart():
    """In the legend, which would run out of the picture otherwise."""
    name = "a run with a name so long that it fills the line more than once, " * 3
    first, second = (runs_plot([curves(f"{name}{end}"), curves("b")]).crop((0, 0, 1039, 100)) for end in ("rank 8", "rank 16"))
    assert first.tobytes() != second.tobytes()
    beyond = first.crop((first.width - 12, 0, first.width, 100))
    assert beyond.getextrema() == tuple((level, level) for level in beyond.getpixel((0, 0)))


def test_the_lowest_loss_is_a_number(monkeypatch):
    notes = []
    monkeypatch.setattr(runs_plot_module, "draw_panels", lambda panels, *_: notes.append(panels[1].note))
    for validation in ({0: math.nan, 5: 0.25, 9: 0.2}, {0: math.inf}, {}):
        runs_plot([RunCurves("x", [0.1], validation, {}, [])])
    assert notes == ["lowest: x 0.2", "no measured loss is a number", "nothing was held out"]
