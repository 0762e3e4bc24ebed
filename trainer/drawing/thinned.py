"""Curves with no more points than their columns of pixels can show."""

from __future__ import annotations

from collections.abc import Sequence


def thinned(points: Sequence[tuple[float, float]], num_columns: int) -> Sequence[tuple[float, float]]:
    """Of the points (x, y), x rising, in one column of pixels the lowest and the highest: a long run is as quick to draw as a short one."""
    stride = len(points) // max(1, num_columns)
    if stride <= 2:
        return points
    thin: list[tuple[float, float]] = []
    for first in range(0, len(points), stride):
        column = sorted(points[first : first + stride], key=lambda point: point[1])
        thin += sorted((column[0], column[-1]))
    return thin
