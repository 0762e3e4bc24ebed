"""How the learning rate rises and falls, beside the schedule's name and the warm-up's percent."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ..optimizing.schedules import SCHEDULES, Option
from .field import setting


@dataclass(frozen=True)
class ScheduleSettings:
    """Options of single schedules are None where nobody set them: then the schedule's own default counts."""

    kind: str = setting(
        "", "The schedule that these options are for; empty where they are for whichever is chosen.", choices=("", *SCHEDULES.names())
    )
    num_cycles: int | None = setting(None, "How often the cosine starts anew at the full rate. 2 to 5.", 1, 1000)
    power: float | None = setting(None, "1 is a straight line; larger falls faster at first. 1 to 3.", 0.01, 20.0, step=0.1)
    timescale_steps: int | None = setting(
        None,
        "Steps after which the rate has fallen to 71 %. 0 takes the length of the warm-up, or a tenth of the run, which is usual.",
        0,
        10_000_000,
    )
    decay_percent: float | None = setting(None, "Share of the run, at its end, over which the rate falls. 10 to 30.", 0.0, 100.0, step=1.0)
    decay_shape: str | None = setting(
        None, "How it falls there: a straight line, half a cosine, or 1 - sqrt, which is steep first.", choices=("cosine", "linear", "sqrt")
    )
    warmup_steps: int = setting(
        0, "Length of the warm-up in steps. Usual: 50 to 500; 0 takes the percent that the training node says.", 0, 10_000_000
    )
    min_ratio: float = setting(0.0, "The rate falls to this share of itself instead of to 0, for example 0.1.", 0.0, 1.0, step=0.01)


_COMMON = ("kind", "warmup_steps", "min_ratio")


def option_field_names() -> tuple[str, ...]:
    """The fields that only some schedules have."""
    return tuple(item.name for item in dataclasses.fields(ScheduleSettings) if item.name not in _COMMON)


def chosen_options(settings: ScheduleSettings) -> dict[str, Option]:
    """The options that somebody set."""
    return {name: value for name in option_field_names() if (value := getattr(settings, name)) is not None}
