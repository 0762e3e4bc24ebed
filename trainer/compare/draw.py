"""Draws a comparison's missing pictures, each kept the moment it is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ..checks.validate import check_compare_job
from ..config import CompareJob, SheetCell
from ..control import Control
from ..data.cache import TensorCache
from ..data.cache_folder import CACHE
from ..errors import AthanorError
from ..formats.header import read_header
from ..memory.devices import best_device, peak_mib, release
from ..runs.events import EventLog
from ..runs.run import Run
from ..sampling import named_sampling, save_picture
from ..types import BaseModel
from .painter import Painter

if TYPE_CHECKING:
    from PIL import Image

_BATCH = 4


def draw_cells(run: Run, control: Control) -> None:
    """Draws what is not there yet, epoch by epoch and strength by strength, until `control` asks to stop.

    A picture that fails is told by an event and the others are drawn; where all fail, the first reason is raised.
    """
    job = run.job()
    assert isinstance(job, CompareJob)
    check_compare_job(job)
    events = EventLog(run.folder)
    missing = [cell for cell in job.cells if not (run.folder / cell.file).is_file()]
    done = len(job.cells) - len(missing)
    events.write("start", {"step": done, "total_steps": len(job.cells)})
    failures: list[Exception] = []

    def fail(cells: Sequence[SheetCell], error: Exception) -> None:
        failures.append(error)
        for cell in cells:
            events.write("cell_failed", {"step": done, "file": cell.file, "message": reason_of(error)})

    unreadable = _unreadable(missing)
    for file, error in unreadable.items():
        fail([cell for cell in missing if cell.epoch_file == file], error)
    drawable = [cell for cell in missing if cell.epoch_file not in unreadable]
    if drawable:
        painter = Painter(job, best_device(), TensorCache(run.folder.parents[2] / CACHE))
        painter.load(drawable)
        for piece in _pieces(drawable):
            if control.stop_requested:
                break
            for cell, picture in _painted(painter, piece):
                if isinstance(picture, Exception):
                    fail([cell], picture)
                    continue
                save_cell(run.folder, cell, picture, job.base)
                done += 1
                events.write("cell", {"step": done, "file": cell.file})
        for note in painter.notes:
            events.write("warning", {"message": note})
    if failures and done == len(job.cells) - len(missing):
        raise failures[0]
    events.write("done", {"step": done, "stopped": done < len(job.cells), "peak_mib": round(peak_mib(), 1)})


def save_cell(folder: Path, cell: SheetCell, picture: Image.Image, base: BaseModel) -> None:
    """With its parameters in the PNG."""
    sampler, guidance = named_sampling(base, cell.guidance)
    save_picture(folder / cell.file, picture, cell.prompt, cell.negative_prompt, cell.steps, cell.seed, guidance, cell.label, sampler)


def reason_of(error: BaseException) -> str:
    """One line that is never empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _unreadable(cells: Sequence[SheetCell]) -> dict[str, AthanorError]:
    """The epochs' files that are damaged, before the others load for nothing."""
    found = {}
    for file in dict.fromkeys(cell.epoch_file for cell in cells if cell.epoch_file):
        try:
            read_header(Path(file))
        except AthanorError as error:
            found[file] = error
    return found


def _pieces(cells: Sequence[SheetCell]) -> Iterator[list[SheetCell]]:
    """What is drawn together: cells that share all but prompts and seeds."""
    for _, group in groupby(cells, key=lambda cell: (cell.epoch_file, cell.strength_model, cell.strength_text, cell.steps, cell.guidance)):
        alike = list(group)
        yield from (alike[start : start + _BATCH] for start in range(0, len(alike), _BATCH))


def _painted(painter: Painter, cells: Sequence[SheetCell]) -> list[tuple[SheetCell, Image.Image | Exception]]:
    """Each with its picture, or with why there is none. Several that fail together are tried one by one: memory may suffice for that."""
    import torch

    try:
        with torch.no_grad(), painter.autocast:
            return list(zip(cells, painter.paint(cells), strict=True))
    except Exception as error:
        if len(cells) == 1:
            return [(cells[0], error.with_traceback(None))]
    release()
    return [each for cell in cells for each in _painted(painter, [cell])]
