"""The loss of a run as a picture in its directory."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..trainer.files import replace_atomically
from ..trainer.plots import loss_plot
from ..trainer.run import Run


def draw_loss_plot(run: Run, log_scale: bool = False) -> Image.Image:
    return loss_plot(run.losses(), run.validation_by_step(), [epoch.step for epoch in run.epochs()], run.name, log_scale=log_scale)


def save_loss_plot(run: Run, log_scale: bool = False) -> Path:
    """Draws the loss and keeps it as loss.png."""
    path, image = run.folder / "loss.png", draw_loss_plot(run, log_scale)
    replace_atomically(path, lambda temporary: image.save(temporary, format="PNG"))
    return path
