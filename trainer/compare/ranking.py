"""Who wins how often: a ranking from votes over pairs, with how sure it is.

The model is that of Bradley and Terry, "Rank Analysis of Incomplete Block Designs" (Biometrika 39, 1952): contestant i is
preferred to j with probability 1 / (1 + exp(theta_j - theta_i)). A tie counts as half a win for both. A wide normal prior on the
strengths keeps them finite where one has won or lost all its votes, and where the pairs do not hang together; what it allows is
the mode of the posterior, found by Newton's method, with the normal approximation around it for the uncertainty
(MacKay, "Information Theory, Inference, and Learning Algorithms", chapter 27).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PRIOR_DEVIATION = 2.0
"""Of each strength: between two contestants odds of 17 to 1 are nothing unusual."""
SURE = 0.95
_MAX_ROUNDS = 100
_TWO_SIDED_95 = 1.959964


@dataclass(frozen=True)
class Duel:
    first: int
    second: int
    """Numbers of the contestants, from 0."""
    score: float
    """1 if the first was preferred, 0 if the second was, 0.5 for a tie."""


@dataclass(frozen=True)
class Place:
    contestant: int
    strength: float
    """theta; their mean is 0."""
    error: float
    """Standard deviation of the strength."""
    num_duels: int
    num_won: float
    """Ties count half."""

    @property
    def share(self) -> float:
        """How often it is preferred to one of mean strength, 0 to 1."""
        return _logistic(self.strength)

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share lies with a probability of 95 %."""
        return _logistic(self.strength - _TWO_SIDED_95 * self.error), _logistic(self.strength + _TWO_SIDED_95 * self.error)


@dataclass(frozen=True)
class Ranking:
    places: tuple[Place, ...]
    """The strongest first."""
    certainty: float
    """How likely the first is truly the strongest, at least: 1 minus the sum over the others of the chance that each is stronger."""

    @property
    def is_decided(self) -> bool:
        return self.certainty >= SURE


def rank(num_contestants: int, duels: Sequence[Duel], prior_deviation: float = PRIOR_DEVIATION) -> Ranking:
    """The ranking after these votes. Without any all are equal and nothing is certain."""
    import numpy

    if num_contestants == 0:
        return Ranking((), 0.0)
    won = numpy.zeros((num_contestants, num_contestants))
    for duel in duels:
        won[duel.first, duel.second] += duel.score
        won[duel.second, duel.first] += 1.0 - duel.score
    met = won + won.T
    precision = 1.0 / prior_deviation**2
    theta = numpy.zeros(num_contestants)
    for _ in range(_MAX_ROUNDS):
        chance = 1.0 / (1.0 + numpy.exp(theta[None, :] - theta[:, None]))
        slope = (won - met * chance).sum(axis=1) - precision * theta
        information = met * chance * (1.0 - chance)
        curvature = numpy.diag(information.sum(axis=1) + precision) - information
        # Half-way at most: from far away a whole step of Newton's can overshoot, and the posterior is concave.
        step = numpy.linalg.solve(curvature, slope)
        theta += step * min(1.0, 2.0 / max(float(numpy.abs(step).max()), 1e-12))
        if float(numpy.abs(step).max()) < 1e-10:
            break
    centre = numpy.eye(num_contestants) - 1.0 / num_contestants
    covariance = centre @ numpy.linalg.inv(curvature) @ centre
    order = sorted(range(num_contestants), key=lambda i: (-round(float(theta[i]), 9), i))
    places = tuple(
        Place(i, float(theta[i]), math.sqrt(max(float(covariance[i, i]), 0.0)), round(float(met[i].sum())), float(won[i].sum())) for i in order
    )
    return Ranking(places, _certainty(theta, covariance, order) if duels else 0.0)


def _certainty(theta: Sequence[float], covariance: Sequence[Sequence[float]], order: Sequence[int]) -> float:
    first, doubt = order[0], 0.0
    for other in order[1:]:
        variance = covariance[first][first] + covariance[other][other] - 2.0 * covariance[first][other]
        gap = float(theta[first] - theta[other])
        doubt += 0.5 * math.erfc(gap / math.sqrt(2.0 * max(float(variance), 1e-18)))
    return max(0.0, 1.0 - doubt)


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-700.0, min(700.0, value))))
