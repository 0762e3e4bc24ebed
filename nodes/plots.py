"""The loss of runs as a picture in the directory of the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..trainer.drawing.loss_plot import loss_plot
from ..trainer.drawing.palette import DARK, Theme
from ..trainer.drawing.rate_plot import rate_plot
from ..trainer.drawing.runs_plot import RunCurves, runs_plot
from ..trainer.files import replace_atomically
from ..trainer.runs.run import Run


def draw_loss_plot(run: Run, log_scale: bool = False, theme: Theme = DARK) -> Image.Image:
    saved = [epoch.step for epoch in run.epochs()]
    nothing = "its trainer left no loss with the files" if run.is_loaded else "no loss yet"
    return loss_plot(run.losses(), run.validation_by_step(), saved, run.name, log_scale=log_scale, theme=theme, nothing=nothing)


def save_loss_plot(run: Run, log_scale: bool = False, theme: Theme = DARK) -> Path:
    """Draws the loss and keeps it as loss.png."""
    return _kept(run.folder / "loss.png", draw_loss_plot(run, log_scale, theme))


def save_runs_plot(runs: Sequence[Run], log_scale: bool, theme: Theme) -> Path:
    """Draws the losses and rates of several runs and keeps them as loss-compared.png of the first."""
    return _kept(runs[0].folder / "loss-compared.png", runs_plot([RunCurves.of(run) for run in runs], log_scale, theme))


def draw_rates(runs: Sequence[Run], theme: Theme) -> Image.Image:
    """One line for each part of each run."""
    if len(runs) == 1:
        return rate_plot(runs[0].rates(), runs[0].name, theme=theme)
    rates = {f"{run.name} {part}": values for run in runs for part, values in run.rates().items()}
    return rate_plot(rates, "", (1024, 420), theme)


def _kept(path: Path, image: Image.Image) -> Path:
    replace_atomically(path, lambda temporary: image.save(temporary, format="PNG"))
    return path
