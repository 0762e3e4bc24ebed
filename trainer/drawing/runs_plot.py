"""Several runs in one picture: their losses, what was held out, their learning rates, and where epochs were saved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from ..runs.run import Run
from .loss_plot import smoothed
from .palette import DARK, Theme
from .panels import Panel, Series, draw_panels


@dataclass(frozen=True)
class RunCurves:
    name: str
    losses: Sequence[float]
    """Of the steps 1, 2 and so on."""
    validation: Mapping[int, float]
    """By step; 0 is the base without any training."""
    rates: Mapping[str, Sequence[float]]
    """By part, of the steps 1, 2 and so on."""
    saved_steps: Sequence[int]

    @classmethod
    def of(cls, run: Run) -> RunCurves:
        return cls(run.name, run.losses(), run.validation_by_step(), run.rates(), [epoch.step for epoch in run.epochs()])


def runs_plot(runs: Sequence[RunCurves], log_scale: bool = False, theme: Theme = DARK) -> Image.Image:
    """An RGB picture of three panels below each other: the smoothed loss, the held-out loss and the learning rates of all runs.

    A colour is a run, in every panel; ticks at the bottom are its saved epochs. Runs of one name are numbered.
    """
    names = _unique([run.name for run in runs])
    marks = tuple((float(step), number) for number, run in enumerate(runs) for step in run.saved_steps)
    losses = tuple(Series(name, i, _numbered(smoothed(run.losses))) for i, (name, run) in enumerate(zip(names, runs, strict=True)))
    held_out = tuple(Series("", i, tuple((float(step), loss) for step, loss in sorted(run.validation.items())), "dots") for i, run in enumerate(runs))
    rates = tuple(
        Series("", i, _numbered(values), "dashed" if part else "line") for i, run in enumerate(runs) for part, values in enumerate(run.rates.values())
    )
    lowest = ", ".join(f"{name} {min(finite):.4g}" for name, run in zip(names, runs, strict=True) if (finite := _finite(run.validation)))
    note = f"lowest: {lowest}" if lowest else "no measured loss is a number" if any(run.validation for run in runs) else "nothing was held out"
    panels = [
        Panel("training loss, smoothed", losses, "ticks below: saved epochs", marks, log_scale),
        Panel("loss on the held-out images", held_out, note, marks, log_scale),
        Panel("learning rate", rates, "line: the first part, mostly the U-Net or transformer; dashed: text encoders"),
    ]
    # Their names are in the legend.
    return draw_panels(panels, f"{len(names)} runs" if len(names) > 1 else names[0], theme, 1, (1024, 360))


def _finite(losses: Mapping[int, float]) -> list[float]:
    return [loss for loss in losses.values() if math.isfinite(loss)]


def _numbered(values: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple((float(step), value) for step, value in enumerate(values, start=1))


def _unique(names: Sequence[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({names[:i].count(name) + 1})" for i, name in enumerate(names)]
