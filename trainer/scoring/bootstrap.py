"""How sure a mean is: the bootstrap (Efron 1979), percentile intervals (Efron and Tibshirani 1993, chapter 13), made wider where there is little.

Of few images resamples spread too little, by sqrt((N - 1) / N), and how much they spread is itself uncertain, which Student's t
accounts for (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 4.1). Without both an interval of 3 images
that is called 95 % would hold the truth in 73 % of the cases.

What is drawn again is the held-out image: all its numbers, of every epoch, go together, so that differences are paired.
N held-out images, E epochs, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from ..seeds import stable_seed

if TYPE_CHECKING:
    import numpy

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
_FEW = {2: 4.3027, 3: 3.1824, 4: 2.7764, 5: 2.5706}
"""Student's t of so few degrees of freedom, at 97.5 %, where the series is not near enough."""
MIN_UNITS = 3
"""Of fewer there are not enough different resamples for an interval."""


@dataclass(frozen=True)
class Interval:
    low: float
    high: float

    def within(self, least: float, most: float) -> Interval:
        """Cut off at what the mean itself can be: widened, it may reach beyond."""
        return Interval(max(self.low, least), min(self.high, most))

    def excludes_0(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Resampled:
    """The means of every epoch in every resample, [R, E]; None where there are too few images."""

    means: numpy.ndarray | None
    measured: tuple[float, ...] = ()
    """The means of all images themselves, [E]."""
    num_images: int = 0

    def interval(self, epoch: int) -> Interval | None:
        """Of the mean of the epoch in that column."""
        return None if self.means is None else _widened(self.means[:, epoch], self.measured[epoch], self.num_images)

    def difference(self, epoch: int, other: int) -> Interval | None:
        """Of the mean of `epoch` minus that of `other`, paired."""
        if self.means is None:
            return None
        return _widened(self.means[:, epoch] - self.means[:, other], self.measured[epoch] - self.measured[other], self.num_images)

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
    return Resampled(table[:, chosen].mean(axis=2).T, tuple(table.mean(axis=1).tolist()), num_images)


def _widened(values: numpy.ndarray, measured: float, num_images: int) -> Interval:
    import numpy

    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = numpy.percentile(values, [tail, 100 - tail])
    factor = widening(num_images)
    return Interval(measured + factor * (float(low) - measured), measured + factor * (float(high) - measured))


def widening(num_images: int) -> float:
    """By how much more the ends of an interval stand off than those of the resamples: 2.7 for 3 images, 1.3 for 8, nearly 1 for many."""
    normal = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return student(num_images - 1) / normal * math.sqrt(num_images / (num_images - 1))


def student(freedom: int) -> float:
    """The quantile of Student's t to both sides of which CONFIDENCE lies; the series is that of Abramowitz and Stegun 1964, 26.7.5."""
    if freedom in _FEW:
        return _FEW[freedom]
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
