"""Scores over the epochs as a picture: a panel each, with the interval as a band and the base alone as a dashed line."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ..drawing.palette import DARK, Theme
from ..drawing.panels import Panel, Series, draw_panels
from .measured import Measured
from .measures import BASELINE
from .table import MeasureScores

_EPOCHS, _BASE, _OWN = 0, 6, 1
_PANEL_PX = (640, 350)


def scores_plot(scores: Sequence[MeasureScores], measured: Measured, title: str, unit: str = "epoch", theme: Theme = DARK) -> Image.Image:
    """An RGB picture; a ring marks the best mean of a measure that chooses."""
    numbers = [float(epoch.number) for epoch in measured.epochs if epoch.number != BASELINE]
    ends = (min(numbers, default=0.0), max(numbers, default=1.0))
    panels = [_panel(each, measured, ends, unit) for each in scores]
    return draw_panels(panels, title, theme, 2 if len(panels) > 1 else 1, _PANEL_PX)


def _panel(scores: MeasureScores, measured: Measured, ends: tuple[float, float], unit: str) -> Panel:
    trained = [score for score in scores.scores if score.epoch != BASELINE]
    points = tuple((float(score.epoch), score.mean) for score in trained)
    band = tuple((score.interval.low, score.interval.high) for score in trained if score.interval)
    has_band = len(band) == len(points) and bool(points)
    ringed = frozenset([float(scores.best)]) if scores.best is not None else frozenset()
    series = [Series(f"{unit}, with its 95 % interval", _EPOCHS, points, "dots", band if has_band else (), ringed)]
    series += [Series("the base alone", _BASE, tuple((x, score.mean) for x in ends), "dashed") for score in scores.scores if score.epoch == BASELINE]
    if scores.measure.name == "copying" and measured.held_out_copying is not None:
        own = measured.held_out_copying
        series.append(Series("the held-out images themselves", _OWN, tuple((x, own) for x in ends), "dashed"))
    arrow = {"lower": " (lower is better)", "higher": " (higher is better)", "": ""}[scores.measure.better]
    return Panel(
        scores.measure.title + arrow, tuple(series), scores.verdict(unit) or scores.measure.meaning, x_label=unit, x_ticks=tuple(x for x, _ in points)
    )
