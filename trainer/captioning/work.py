"""Writes the captions of a job, batch by batch, each kept the moment it is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..config import CaptionJob
from ..control import Control
from ..dataset.crop import open_image
from ..errors import AthanorError
from ..memory.devices import best_device, peak_mib
from ..runs.events import EventLog
from ..runs.run import Run
from . import blip, florence2  # noqa: F401 - they register themselves
from .base import CAPTIONERS, Captioner
from .store import read_text, write_text

if TYPE_CHECKING:
    from PIL import Image


def write_captions(run: Run, job: CaptionJob, control: Control) -> None:
    """The texts of all pictures of `job` that are not there yet; those of a picture that cannot be read stay away, with a warning.

    Ends well when it is asked to stop, between two words. Raises AthanorError if the model cannot be loaded.
    """
    events = EventLog(run.folder)
    waiting = [(name, Path(path)) for name, path in job.pictures if read_text(run.folder, name) is None]
    done, total = len(job.pictures) - len(waiting), len(job.pictures)
    events.write("start", {"step": done, "total_steps": total})
    captioner = _loaded(job) if waiting else None
    for start in range(0, len(waiting), job.batch_size):
        if control.stop_requested:
            break
        batch = [(name, picture) for name, path in waiting[start : start + job.batch_size] if (picture := _opened(path, events)) is not None]
        texts = captioner.describe([picture for _, picture in batch], job.settings, lambda: control.stop_requested) if captioner and batch else []
        if control.stop_requested:
            break
        for (name, _), text in zip(batch, texts, strict=True):
            write_text(run.folder, name, text)
        done += len(waiting[start : start + job.batch_size])
        events.write("caption", {"step": done})
    events.write("done", {"step": done, "stopped": done < total, "peak_mib": round(peak_mib(), 1)})


def _loaded(job: CaptionJob) -> Captioner:
    import torch

    device = best_device()
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    load = CAPTIONERS[job.captioner]
    try:
        return load(Path(job.model), device, dtype)
    except AthanorError:
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a broken file makes transformers, safetensors or torch raise
        reason = " ".join(str(error).split())[:300]
        raise AthanorError(f"The captioner in {job.model} cannot be loaded ({type(error).__name__}: {reason}). Download it again.") from error


def _opened(path: Path, events: EventLog) -> Image.Image | None:
    try:
        return open_image(path)
    except AthanorError as error:
        events.write("warning", {"message": str(error)})
        return None
