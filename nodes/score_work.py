"""The worker's part of scores, and what judges likeness."""

from __future__ import annotations

from ..trainer.checks.validate import check_score_job
from ..trainer.compare.pace import remember_cells
from ..trainer.config import ScoreJob
from ..trainer.errors import AthanorError
from ..trainer.runs.run import Run, write_job_file
from ..trainer.scoring.embedders import BUILT_IN, kind_of_embedder
from ..trainer.scoring.measured import Measured, read_measured
from ..trainer.scoring.scoring import LOOKS, Scoring
from . import host
from .worker import run_worker

AUTO = "auto"
_PREFERRED = ("dino", "clip", "clip-vision", "onnx")


def likeness_choices() -> list[str]:
    return [AUTO, LOOKS, *host.image_encoders()]


def likeness_path(name: str) -> str:
    """Of the model called `name`; BUILT_IN for shapes and colours. Raises AthanorError if there is none of that name."""
    known = host.image_encoders()
    if name == LOOKS:
        return BUILT_IN
    if name != AUTO:
        if name not in known:
            raise AthanorError(f"There is no likeness model {name!r}; put it into models/image_encoders and press R, or choose auto.")
        kind_of_embedder(known[name])
        return str(known[name])
    ranked = []
    for path in known.values():
        try:
            ranked.append((_PREFERRED.index(kind_of_embedder(path)), str(path)))
        except AthanorError:
            continue  # Some other model; it was not asked for.
    return min(ranked, default=(0, BUILT_IN), key=lambda pair: pair[0])[1]


def measured_by_worker(scoring: Scoring, job: ScoreJob, node_id: str | None) -> Measured:
    """Measures what is not there yet in a process of its own."""
    check_score_job(job)
    folder = scoring.folder(job)
    host.say(node_id, scoring.forecast(job, host.cache_folder()))
    host.raise_if_interrupted()
    write_job_file(folder, job)
    run = Run(folder)
    first_event = len(run.events())
    run_worker(run, node_id)
    remember_cells(host.cache_folder(), scoring.facts.pace_key(scoring.base), job.pictures, run.events()[first_event:])
    return read_measured(folder)
