"""How sure a mean is: the bootstrap (Efron 1979), percentile intervals (Efron and Tibshirani 1993, chapter 13).

What is drawn again is the held-out image: all its numbers, of every epoch, go together, so that differences are paired.
N held-out images, E epochs, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..seeds import stable_seed

if TYPE_CHECKING:
    import numpy

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
MIN_UNITS = 3
"""Of fewer there are not enough different resamples for an interval."""


@dataclass(frozen=True)
class Interval:
    low: float
    high: float

    def excludes_0(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Resampled:
    """The means of every epoch in every resample, [R, E]; None where there are too few images."""

    means: numpy.ndarray | None

    def interval(self, epoch: int) -> Interval | None:
        """Of the mean of the epoch in that column."""
        return None if self.means is None else _percentiles(self.means[:, epoch])

    def difference(self, epoch: int, other: int) -> Interval | None:
        """Of the mean of `epoch` minus that of `other`, paired."""
        return None if self.means is None else _percentiles(self.means[:, epoch] - self.means[:, other])

    def chance_of_best(self, epoch: int, among: Sequence[int], better: str) -> float | None:
        """In what share of the resamples the epoch is the best of `among`; ties count in full."""
        if self.means is None:
            return None
        means = self.means[:, list(among)]
        best = means.min(axis=1) if better == "lower" else means.max(axis=1)
        return float((self.means[:, epoch] == best).mean())


def resampled(values: Sequence[Sequence[float]], name: str) -> Resampled:
    """Of `values[epoch][image]`, all epochs with the same images. The same values and name give the same resamples everywhere."""
    import numpy

    table = numpy.asarray(values, dtype=numpy.float64)
    num_images = table.shape[1]
    if num_images < MIN_UNITS:
        return Resampled(None)
    draw = numpy.random.Generator(numpy.random.PCG64(stable_seed("bootstrap", name)))
    chosen = draw.integers(0, num_images, (NUM_RESAMPLES, num_images))
    return Resampled(table[:, chosen].mean(axis=2).T)


def _percentiles(values: numpy.ndarray) -> Interval:
    import numpy

    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = numpy.percentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high))
