"""When a run ends by itself before its last step: nothing is learned any more, or the training has broken. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

WINDOW_STEPS = 20


def lost_patience(losses: Mapping[int, float], patience: int) -> bool:
    """Whether the held-out losses, by epoch (0 is the bare base), have not become lower for `patience` measurements. 0 is never."""
    measured = [losses[epoch] for epoch in sorted(losses)]
    if patience < 1 or len(measured) <= patience:
        return False
    best = min(range(len(measured)), key=measured.__getitem__)
    return len(measured) - 1 - best >= patience


class ExplosionWatch:
    """Compares the mean loss of the last 20 steps with the lowest such mean so far; `factor` 0 never finds anything."""

    def __init__(self, factor: float, losses: Sequence[float]):
        self._factor, self._recent, self._lowest = factor, [], math.inf
        for loss in losses:
            self.broken(loss)

    def broken(self, loss: float) -> bool:
        """Whether the training has broken with this step's loss. To be asked once a step."""
        if not math.isfinite(loss):
            return True
        self._recent = [*self._recent[-WINDOW_STEPS + 1 :], loss]
        if len(self._recent) < WINDOW_STEPS:
            return False
        mean = sum(self._recent) / WINDOW_STEPS
        self._lowest = min(self._lowest, mean)
        return self._factor > 0 and mean > self._factor * self._lowest

    def num_bad_steps(self) -> int:
        """Of a broken training: how many of the last steps, this one among them, belong to it."""
        high = self._factor * self._lowest / 2
        first = next((i for i, loss in enumerate(self._recent) if loss > high), len(self._recent) - 1)
        return len(self._recent) - first
