"""How the learning rate changes over a run: pure functions of the step, so that a resume needs no state.

A schedule's keyword arguments are its own options with their defaults; settings/schedule.py holds the range and the
sentence of each.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..registry import Registry

Option = float | str


@dataclass(frozen=True)
class Progress:
    """Where the part of a run after the warm-up is."""

    step: int
    """Counted from 0 at the end of the warm-up."""
    num_steps: int
    """At least 1."""
    warmup_steps: int

    @property
    def done(self) -> float:
        """0..1"""
        return min(1.0, self.step / self.num_steps)


SCHEDULES: Registry[Callable[..., float]] = Registry("schedule")
"""Each takes a `Progress` and gives a factor of the rate, 0..1."""


@SCHEDULES.register("constant")
def constant(at: Progress) -> float:
    return 1.0


@SCHEDULES.register("cosine")
def cosine(at: Progress) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, equation 5, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * at.done))


@SCHEDULES.register("linear")
def linear(at: Progress) -> float:
    """A straight line from 1 to 0."""
    return 1 - at.done


@SCHEDULES.register("cosine_restarts")
def cosine_restarts(at: Progress, *, num_cycles: int = 3) -> float:
    """Half a cosine, begun anew `num_cycles` times at the full rate (Loshchilov and Hutter 2017, equation 5)."""
    return 0.0 if at.done >= 1 else 0.5 * (1 + math.cos(math.pi * (num_cycles * at.done % 1.0)))


@SCHEDULES.register("polynomial")
def polynomial(at: Progress, *, power: float = 2.0) -> float:
    """(1 - done) ** power; a power of 1 is the straight line."""
    return (1 - at.done) ** power


@SCHEDULES.register("inverse_sqrt")
def inverse_sqrt(at: Progress, *, timescale_steps: int = 0) -> float:
    """1 / sqrt(1 + step / timescale) (Vaswani et al. 2017, equation 3).

    A timescale of 0 is the length of the warm-up, or a tenth of the run where there is none.
    """
    timescale = timescale_steps or at.warmup_steps or max(1, at.num_steps // 10)
    return 1 / math.sqrt(1 + at.step / timescale)


@SCHEDULES.register("rex")
def rex(at: Progress) -> float:
    """Slow at first, steep at the end: (1 - done) / (1/2 + (1 - done) / 2) (Chen et al. 2021, REX)."""
    return (1 - at.done) / (0.5 + 0.5 * (1 - at.done))


@SCHEDULES.register("warmup_stable_decay")
def warmup_stable_decay(at: Progress, *, decay_percent: float = 20.0, decay_shape: str = "cosine") -> float:
    """The full rate, and a fall to 0 over the last `decay_percent` of the run (Hu et al. 2024, equation 1).

    Shapes: a straight line, half a cosine, or 1 - sqrt (Hägele et al. 2024).
    """
    decay_steps = round((at.num_steps + at.warmup_steps) * decay_percent / 100)
    left = (at.num_steps - at.step) / decay_steps if decay_steps else 1.0
    if left >= 1:
        return 1.0
    left = max(0.0, left)
    return {"linear": left, "cosine": 0.5 * (1 + math.cos(math.pi * (1 - left))), "sqrt": 1 - math.sqrt(1 - left)}[decay_shape]


def own_options(name: str) -> dict[str, Option]:
    """The options that only some schedules have, as this one takes them, with its defaults."""
    signature = inspect.signature(SCHEDULES[name])
    return {key: item.default for key, item in signature.parameters.items() if item.kind is inspect.Parameter.KEYWORD_ONLY}


def rate_factor(
    schedule: str, step: int, total_steps: int, warmup_steps: int, options: Mapping[str, Option] | None = None, min_ratio: float = 0.0
) -> float:
    """The factor for optimizer step `step`, counted from 0: a linear rise over `warmup_steps`, then the schedule.

    The schedule falls to `min_ratio` of the rate instead of to 0. The rise begins above 0, so that no step is lost.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    at = Progress(step - warmup_steps, max(1, total_steps - warmup_steps), warmup_steps)
    return min_ratio + (1 - min_ratio) * SCHEDULES[schedule](at, **(options or {}))
