"""Draws a comparison's missing pictures, each kept the moment it is there."""

from __future__ import annotations

from itertools import groupby

from ..cache import TensorCache
from ..cache_folder import CACHE
from ..config import CompareJob
from ..control import Control
from ..errors import AthanorError
from ..memory import best_device, peak_mib
from ..run import EventLog, Run
from ..sampling import save_picture
from ..validate import check_compare_job
from .painter import Painter

_BATCH = 4


def draw_cells(run: Run, control: Control) -> None:
    """Draws what is not there yet, epoch by epoch and strength by strength, until `control` asks to stop.

    A picture that fails is told by an event and the others are drawn; where all fail, the first reason is raised.
    """
    import torch

    job = run.job()
    assert isinstance(job, CompareJob)
    check_compare_job(job)
    events = EventLog(run.folder)
    missing = [cell for cell in job.cells if not (run.folder / cell.file).is_file()]
    done = len(job.cells) - len(missing)
    events.write("start", {"step": done, "total_steps": len(job.cells)})
    failures: list[Exception] = []
    if missing:
        painter = Painter(job, best_device(), TensorCache(run.folder.parents[2] / CACHE))
        painter.load(missing)
        for _, group in groupby(missing, key=lambda cell: (cell.epoch_file, cell.strength_model, cell.strength_text, cell.steps, cell.guidance)):
            cells = list(group)
            for start in range(0, len(cells), _BATCH):
                if control.stop_requested:
                    break
                piece = cells[start : start + _BATCH]
                try:
                    with torch.no_grad(), painter.autocast:
                        pictures = painter.paint(piece)
                except (AthanorError, RuntimeError) as error:
                    failures.append(error)
                    for cell in piece:
                        events.write("cell_failed", {"step": done, "file": cell.file, "message": str(error).splitlines()[0]})
                    continue
                for cell, picture in zip(piece, pictures, strict=True):
                    save_picture(run.folder / cell.file, picture, cell.prompt, cell.negative_prompt, cell.steps, cell.seed, cell.guidance, cell.label)
                    done += 1
                    events.write("cell", {"step": done, "file": cell.file})
    for note in painter.notes if missing else ():
        events.write("warning", {"message": note})
    if failures and done == len(job.cells) - len(missing):
        raise failures[0]
    events.write("done", {"step": done, "stopped": done < len(job.cells), "peak_mib": round(peak_mib(), 1)})
