"""Where the numbers of an axis stand, and how far it reaches."""

from __future__ import annotations

import math
from collections.abc import Sequence


def limits(raw: Sequence[float], certain: Sequence[float], log_scale: bool) -> tuple[float, float]:
    """Room for all `certain` values and for the middle 98 % of the `raw` ones."""
    ordered = sorted(raw)
    middle = [ordered[int(0.01 * (len(ordered) - 1))], ordered[math.ceil(0.99 * (len(ordered) - 1))]] if ordered else []
    values = [*middle, *certain] or [0.1, 1.0]
    low, high = min(values), max(values)
    if log_scale:
        low, high = math.log10(low), math.log10(high)
    spread = high - low if high - low > 1e-12 * max(abs(low), abs(high), 1e-30) else max(abs(high) * 0.2, 1e-3)
    if high - low < spread:
        low, high = low - spread / 2, high + spread / 2
    floor = low - 0.06 * spread
    return (floor if log_scale or low < 0 else max(0.0, floor)), high + 0.06 * spread


def even_ticks(low: float, high: float, count: int) -> list[tuple[float, str]]:
    """Round numbers from `low` to `high`, about `count` of them: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(low / step - 1e-9)
    values = [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]
    return [(value, f"{value:.{digits}f}" if 1e-5 <= step < 1e6 else f"{value:.3g}") for value in values]


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """The roundest numbers between the powers of ten `low` and `high`, 4 to 10 of them, none too near to another."""
    kept: list[float] = []
    gap = (high - low) / 9
    for factors in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(1 + i / 10 for i in range(90)), tuple(1 + i / 100 for i in range(900))):
        for value in (factor * 10.0**power for power in range(math.floor(low) - 1, math.ceil(high) + 1) for factor in factors):
            place = math.log10(value)
            if low <= place <= high and all(abs(place - math.log10(other)) >= gap for other in kept):
                kept.append(value)
        if len(kept) >= 4:
            break
    return [(value, f"{value:.3g}") for value in sorted(kept or [10**low, 10**high])]
