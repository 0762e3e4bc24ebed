"""Corners of a picture: the places that a picture is recognised by.

J. Shi and C. Tomasi, Good Features to Track (1994), with the numbers of A1111's focal crop, which takes them from OpenCV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

_NUM_CORNERS = 100
_QUALITY = 0.04
"""Of the strongest corner."""
_DISTANCE = 0.06
"""Of the shorter side, between two corners."""


def corners(grey: numpy.ndarray, *, watched: float = 1.0) -> numpy.ndarray:
    """At most a hundred corners as int [n, 2], across and down in px, the strongest first. `grey` is float [height, width].

    Below the share `watched` of the height none are looked for.
    """
    import numpy

    strength = _strength(grey)
    strength[[0, -1]] = 0
    strength[:, [0, -1]] = 0
    strength[int(len(grey) * watched) :] = 0
    strength[strength < _QUALITY * strength.max(initial=0)] = 0
    down, across = numpy.nonzero((strength == _largest_around(strength)) & (strength > 0))
    order = numpy.argsort(-strength[down, across], kind="stable")
    places = numpy.stack([across[order], down[order]], axis=1)
    least, found = (_DISTANCE * min(grey.shape)) ** 2, []
    while len(places) and len(found) < _NUM_CORNERS:
        found.append(places[0])
        places = places[((places - places[0]) ** 2).sum(axis=1) >= max(least, 1)]
    return numpy.array(found, int).reshape(-1, 2)


def _strength(grey: numpy.ndarray) -> numpy.ndarray:
    """The smaller eigenvalue of what Sobel's gradients do in 3 x 3 px: 0 in plain places and along straight edges."""
    import numpy

    padded = numpy.pad(grey, 1, mode="reflect") if min(grey.shape) > 1 else numpy.pad(grey, 1, mode="edge")
    smooth_down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    smooth_across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    across, down = smooth_down[:, 2:] - smooth_down[:, :-2], smooth_across[2:] - smooth_across[:-2]
    first, mixed, second = (_sum_around(product) for product in (across * across, across * down, down * down))
    return (first + second) / 2 - numpy.sqrt(((first - second) / 2) ** 2 + mixed * mixed)


def _sum_around(values: numpy.ndarray) -> numpy.ndarray:
    import numpy

    padded = numpy.pad(values, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]


def _largest_around(values: numpy.ndarray) -> numpy.ndarray:
    import numpy

    padded = numpy.pad(values, 1)
    rows = numpy.maximum(numpy.maximum(padded[:-2], padded[1:-1]), padded[2:])
    return numpy.maximum(numpy.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
