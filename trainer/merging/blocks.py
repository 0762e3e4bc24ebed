"""How much of each block of the model is taken: lines such as `*up_blocks*: 0.5`."""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass

from ..errors import AthanorError


@dataclass(frozen=True)
class BlockWeights:
    """Patterns of layer names (with underscores, as kohya's files spell them) and their factors; the last that fits counts."""

    rules: tuple[tuple[str, float], ...] = ()

    def factor(self, *names: str) -> float:
        """Of a layer by all that it is called."""
        return next((factor for pattern, factor in reversed(self.rules) if any(fnmatch.fnmatchcase(name, pattern) for name in names)), 1.0)

    def unused(self, names: frozenset[str]) -> tuple[str, ...]:
        """The patterns that fit none of `names`."""
        return tuple(pattern for pattern, _ in self.rules if not fnmatch.filter(names, pattern))


def read_block_weights(text: str) -> BlockWeights:
    """A line is a part of a layer's name (or a pattern with * in it), a colon and a factor; empty lines and those behind # count nothing.

    Raises AthanorError naming the first line that is not understood.
    """
    rules = []
    for line in text.splitlines():
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        pattern, colon, number = line.rpartition(":")
        try:
            factor = float(number)
        except ValueError:
            factor = math.nan
        if not colon or not pattern.strip() or not math.isfinite(factor):
            raise AthanorError(
                f"Block weights: {line!r} is not understood; write a part of a layer's name, a colon and a number, such as up_blocks: 0.5."
            )
        plain = pattern.strip().replace(".", "_")
        rules.append((plain if "*" in plain else f"*{plain}*", factor))
    return BlockWeights(tuple(rules))
