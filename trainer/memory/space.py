"""What a run of a whole model takes: of the disk, which is looked at before it begins, and of memory. No weights are read."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from ..config import TrainJob
from ..ending import WINDOW_STEPS
from ..families import family
from ..files import told_bytes
from ..optimizing.steps import steps_of
from ..trainees.checkpoint_file import planned_bytes
from ..trainees.trainee import Trainee

_MEANS_BYTES = {"adamw": 8, "adam": 8, "prodigy": 16, "schedulefree_adamw": 8, "lion": 4, "sgd": 4, "rmsprop": 4, "adafactor": 0.1}
"""What the optimizers keep for each weight, in bytes; those in 8 bits two."""
_SPARE_BYTES = 200 << 20


def num_files_at_once(job: TrainJob) -> int:
    """How many epochs' files lie there at most; with keep_last also the best one, and the newest before an old one goes."""
    steps, run = steps_of(job), job.run
    by_epoch = -(-steps.epochs // job.train.save_every_epochs)
    total = by_epoch + (steps.total // run.save_every_steps if run.save_every_steps else 0)
    kept = run.keep_last + 1 + bool(job.dataset.with_role("validation"))
    return min(total, kept) if run.keep_last else total


def num_states(job: TrainJob) -> int:
    """How many states lie there at most: more than two where they are saved more often than an explosion is noticed."""
    saved_every = [job.train.save_every_epochs * steps_of(job).per_epoch, *([job.run.save_every_steps] if job.run.save_every_steps else [])]
    return 2 if min(saved_every) >= WINDOW_STEPS else 4


def state_bytes(job: TrainJob, trained_bytes: int) -> int:
    """Of one state, where what is trained takes `trained_bytes` in fp32."""
    num_weights, kept = trained_bytes // 4, 2.0 if "8bit" in job.train.optimizer else _MEANS_BYTES.get(job.train.optimizer, 8)
    weights = 2 if job.checkpoint.weights == "bf16" else 4
    return int(num_weights * (weights + kept + (4 if job.optimizer.ema_decay > 0 else 0)))


def bytes_to_come(job: TrainJob, trainee: Trainee) -> int:
    """What gradients, optimizer and running mean will take beside a whole model's weights, on their device; adapters take next to nothing."""
    if job.kind != "checkpoint":
        return 0
    num_weights = sum(group.num_parameters for group in trainee.groups)
    weights = 2 if job.checkpoint.weights == "bf16" else 4
    averaged = job.optimizer.ema_decay > 0 and not job.optimizer.ema_on_cpu
    gradients = 0 if job.checkpoint.fused_backward else weights
    return state_bytes(job, 4 * num_weights) - num_weights * (weights + (4 if job.optimizer.ema_decay > 0 and not averaged else 0) - gradients)


def space_problems(job: TrainJob, folder: Path, free_bytes: int | None = None) -> list[str]:
    """A sentence where a run of a whole model in `folder` will not fit onto its disk; what lies there already counts as there.

    `free_bytes` is what is free, None asks the disk.
    """
    if job.kind != "checkpoint":
        return []
    chosen = family(job.base.family)
    parts = trained_part_names(job)
    file_bytes = planned_bytes(chosen, job.base, parts, job.train.save_precision)
    num_files = num_files_at_once(job)
    state = state_bytes(job, _part_bytes(job, parts))
    needed = num_files * file_bytes + num_states(job) * state + _SPARE_BYTES - _there(folder)
    free = shutil.disk_usage(folder).free if free_bytes is None else free_bytes
    if needed <= free:
        return []
    fewer = "set keep_last in Run Settings lower" if job.run.keep_last > 1 else "set keep_last in Run Settings, for example to 2"
    times = "twice" if num_states(job) == 2 else f"{num_states(job)} times"
    return [
        f"Disk: the run will write {num_files} checkpoint{'s' * (num_files != 1)} of {told_bytes(file_bytes)} and its state of {told_bytes(state)} {times}, "
        f"{told_bytes(needed)} in all, but only {told_bytes(free)} are free in {folder}; {fewer}, save less often, or free some space."
    ]


def trained_part_names(job: TrainJob) -> tuple[str, ...]:
    """Those whose learning rate is not 0."""
    chosen = family(job.base.family)
    found = [part for part, rate in zip(chosen.text_parts, job.text_rates, strict=False) if rate > 0]
    t5 = chosen.t5_part(job.base) if job.optimizer.t5_rate > 0 else None
    return (*(("denoiser",) if job.train.rate > 0 else ()), *found, *((t5,) if t5 else ()))


def _part_bytes(job: TrainJob, parts: Iterable[str]) -> int:
    """In fp32."""
    total = 0
    for each in family(job.base.family).saved_parts(job.base):
        if each.part in parts:
            source = each.open()
            total += 4 * sum(source.stored(name).numel() for name in source.names)
    return total


def _there(folder: Path) -> int:
    return sum(file.stat().st_size for name in ("epochs", "state") for file in (folder / name).rglob("*") if file.is_file())
