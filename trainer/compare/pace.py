"""How long pictures take: measured while some are drawn, told before the next ones are."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import CompareJob
from ..errors import AthanorError
from ..files import replace_atomically
from ..runs.run import Run

SAME_BATCH_SEC = 0.05
"""Pictures that come so shortly after each other were drawn together."""
_FILE = "pace.json"
_MAX_MODELS = 50
_BACKWARD_SHARE = 3.0
"""A training step's forward and backward pass, as a multiple of the forward pass (Kaplan et al. 2020, section 2.1)."""


@dataclass(frozen=True)
class Pace:
    sec_per_step: float
    """Of one picture."""
    is_rough: bool = False
    """Not measured on pictures of this model and size."""

    def told(self, num_steps: int) -> str:
        """How long `num_steps` sampling steps take, for people."""
        return ("roughly " if self.is_rough else "about ") + duration(self.sec_per_step * num_steps)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1.0, seconds):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def progress_text(done: int, total: int, num_drawn: int, passed_sec: float) -> str:
    """How far the drawing is, with the time that is left where `num_drawn` pictures took `passed_sec`."""
    left = f", about {duration(passed_sec / num_drawn * (total - done))} left" if num_drawn and done < total else ""
    return f"{done} of {total} pictures{left}"


def known_pace(cache_folder: Path, model: str, size_px: tuple[int, int]) -> Pace | None:
    """What earlier pictures of `model` took: of this size, or of the nearest one, by the number of pixels."""
    sizes = _read(cache_folder / _FILE).get(model, {})
    if found := sizes.get(_size(size_px)):
        return Pace(found)
    area = size_px[0] * size_px[1]
    scaled = [(abs(area - _area(size)), sec * area / _area(size)) for size, sec in sizes.items()]
    return Pace(min(scaled)[1], is_rough=True) if scaled else None


def pace_of_training(run: Run, size_px: tuple[int, int], is_guided: bool) -> Pace | None:
    """From the run's own steps; with guidance each sampling step asks the model twice. None where it has none."""
    try:
        job = run.train_job()
    except AthanorError:
        return None
    seconds = [event["seconds"] for event in run.events() if event["event"] == "step"]
    areas = [sample.placement.bucket_px[0] * sample.placement.bucket_px[1] for sample in job.dataset.trained if sample.placement]
    if not seconds or not areas:
        return None
    forward_sec = statistics.median(seconds) / job.train.batch_size / job.optimizer.accumulation / _BACKWARD_SHARE
    return Pace(forward_sec * (2 if is_guided else 1) * size_px[0] * size_px[1] / statistics.median(areas), is_rough=True)


def remember_pace(cache_folder: Path, model: str, size_px: tuple[int, int], sec_per_step: float) -> None:
    """Keeps what pictures of `model` took. Nothing depends on it, so that a folder that cannot be written is no problem."""
    known = _read(cache_folder / _FILE)
    sizes = {**known.pop(model, {}), _size(size_px): round(sec_per_step, 5)}
    kept = {**dict(list(known.items())[-_MAX_MODELS:]), model: sizes}
    try:
        replace_atomically(cache_folder / _FILE, lambda temporary: temporary.write_text(json.dumps(kept), encoding="utf-8"))
    except AthanorError:
        return


def remember_cells(cache_folder: Path, model: str, job: CompareJob, events: Sequence[Mapping[str, Any]]) -> None:
    """Keeps what the worker's pictures took, told from its events, without the time until the first ones were there."""
    steps = {cell.file: cell.steps for cell in job.cells}
    done = [(event["time"], steps.get(event["file"], 0)) for event in events if event["event"] == "cell"]
    later = sum(num_steps for time_sec, num_steps in done if time_sec > done[0][0] + SAME_BATCH_SEC)
    if later:
        remember_pace(cache_folder, model, (job.width_px, job.height_px), (done[-1][0] - done[0][0]) / later)


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, Mapping) else {}


def _size(size_px: tuple[int, int]) -> str:
    return f"{size_px[0]}x{size_px[1]}"


def _area(size: str) -> int:
    width, height = size.split("x")
    return int(width) * int(height)
