"""Which pictures a comparison is made of, in which order they are drawn, and where each is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import CompareJob, SheetCell
from ..run import Epoch, Run, write_job_file
from ..types import BaseModel

BASELINE = 0
"""The epoch number of the base without any LoRA."""


@dataclass(frozen=True)
class Look:
    """How every picture of a sheet is drawn."""

    negative_prompt: str
    steps: int
    guidance: float
    width_px: int
    height_px: int
    precision: str


@dataclass(frozen=True)
class Sheet:
    """A grid of epochs (rows) against strengths (columns), one page a prompt."""

    folder: Path
    rows: tuple[int, ...]
    """Epoch numbers from top to bottom; `BASELINE` first where it is wanted."""
    strengths: tuple[float, ...]
    prompts: tuple[str, ...]
    cells: dict[tuple[int, float, str], SheetCell]
    """By epoch, strength and prompt. The baseline has one cell a prompt, under strength 0."""

    def cell(self, row: int, strength: float, prompt: str) -> SheetCell:
        return self.cells[(row, 0.0 if row == BASELINE else strength, prompt)]

    def file(self, row: int, strength: float, prompt: str) -> Path:
        return self.folder / self.cell(row, strength, prompt).file

    @property
    def num_finished(self) -> int:
        return sum((self.folder / cell.file).is_file() for cell in self.cells.values())


def plan_sheet(
    run: Run, base: BaseModel, epochs: Sequence[Epoch], strengths: Sequence[float], prompts: Sequence[str], seed: int, baseline: bool, look: Look
) -> tuple[Sheet, CompareJob]:
    """The sheet and the worker's job for it. The costliest change, loading an epoch, is outermost.

    A cell's file name tells what it shows, so a sheet with more epochs or strengths finds the pictures that are there.
    """
    settings = [base.fingerprint, look.negative_prompt, look.steps, look.guidance, look.width_px, look.height_px, look.precision]
    folder = run.folder / "compare" / _digest(settings)[:12]
    rows = ([BASELINE] if baseline else []) + [epoch.number for epoch in epochs]
    hashes = {epoch.number: epoch.sha256 for epoch in epochs}
    cells = {}
    for row in rows:
        for strength in (0.0,) if row == BASELINE else tuple(strengths):
            for prompt in prompts:
                digest = _digest([hashes.get(row, ""), prompt, seed])[:8]
                file = f"cells/e{row:06d}_s{strength:g}_{digest}.png"
                cells[(row, strength, prompt)] = SheetCell(file, row, strength, prompt, seed)
    job = CompareJob(
        base=base,
        epochs=tuple((epoch.number, str(epoch.path)) for epoch in epochs),
        cells=tuple(cells.values()),
        negative_prompt=look.negative_prompt,
        steps=look.steps,
        guidance=look.guidance,
        width_px=look.width_px,
        height_px=look.height_px,
        precision=look.precision,
    )
    return Sheet(folder, tuple(rows), tuple(strengths), tuple(prompts), cells), job


def write_sheet_job(sheet: Sheet, job: CompareJob) -> Run:
    """The directory that the worker is started on."""
    write_job_file(sheet.folder, job)
    return Run(sheet.folder)


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, ensure_ascii=False).encode("utf-8")).hexdigest()
