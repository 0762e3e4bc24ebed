"""How the learning rate changes over a run: pure functions of the step, so that a resume needs no state."""

from __future__ import annotations

import math
from collections.abc import Callable

from .registry import Registry

SCHEDULES: Registry[Callable[[float], float]] = Registry("schedule")
"""Each takes the share of the run after warm-up that is done, 0..1, and gives a factor of the rate, 0..1."""


@SCHEDULES.register("constant")
def constant(done: float) -> float:
    return 1.0


@SCHEDULES.register("cosine")
def cosine(done: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, equation 5, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * done))


def rate_factor(schedule: str, step: int, total_steps: int, warmup_steps: int) -> float:
    """The factor for optimizer step `step`, counted from 0: a linear rise over `warmup_steps`, then the schedule."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return SCHEDULES[schedule](min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps)))
