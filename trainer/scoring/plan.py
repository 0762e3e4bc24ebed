"""Which pictures scores are told from: the same captions and seeds for every epoch and for the base alone. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import CompareJob, ScoredEpoch, ScoreJob, SheetCell
from ..runs.run import Epoch
from ..settings import DataSettings
from ..types import Sample
from .measures import BASELINE

MAX_IMAGES, MAX_SEEDS = 200, 16


@dataclass(frozen=True)
class Drawing:
    """How the pictures are drawn."""

    num_seeds: int = 2
    seed: int = 1
    """The first of them."""
    steps: int = 20
    guidance: float = 7.0
    negative_prompt: str = ""


def plan_scores(
    pictures: CompareJob,
    epochs: Sequence[Epoch],
    held_out: Sequence[Sample],
    captions: Sequence[str],
    training: Sequence[Sample],
    drawing: Drawing,
    name: str,
    embedder: str = "",
    judges_captions: bool = False,
    masked_loss: bool = False,
    data: DataSettings | None = None,
) -> ScoreJob:
    """`pictures` tells the base, the size and the precision; its cells are made here. `name` is that of the run, for the pictures' notes.

    `data` tells how the run's images are resized.
    """
    scored = [ScoredEpoch(BASELINE, "", "base")]
    scored += [ScoredEpoch(epoch.number, str(epoch.path), f"e{epoch.number:06d}-{epoch.sha256[:8]}") for epoch in epochs]
    base = Path(pictures.base.path).stem
    words = {str(epoch.path): tuple(str(path) for _, path in epoch.words) for epoch in epochs}
    cells = tuple(
        SheetCell(
            file=f"pictures/{epoch.name}_{i:02d}_{seed}.png",
            epoch_file=epoch.path,
            strength_model=1.0,
            strength_text=1.0,
            prompt=caption,
            negative_prompt=drawing.negative_prompt,
            seed=seed,
            steps=drawing.steps,
            guidance=drawing.guidance,
            label=base + (f", {name} {epoch.number}" if epoch.path else ""),
            word_files=words.get(epoch.path, ()),
        )
        for epoch in scored
        for i, caption in enumerate(captions)
        for seed in range(drawing.seed, drawing.seed + drawing.num_seeds)
    )
    drawn = dataclasses.replace(pictures, cells=cells)
    return ScoreJob(
        drawn,
        tuple(scored),
        tuple(held_out),
        tuple(captions),
        drawing.num_seeds,
        tuple(training),
        embedder,
        judges_captions,
        masked_loss,
        data or DataSettings(),
    )
