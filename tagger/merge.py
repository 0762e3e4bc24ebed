"""Two taggers that look at the same pictures, as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .labels import Labels
from .tags import match_key
from .thresholds import Thresholds

Merging = Literal["union", "intersection", "mean"]
MERGINGS: tuple[Merging, ...] = ("union", "intersection", "mean")


@dataclass(frozen=True, eq=False)
class Merge:
    """The labels of two taggers as one list. Made by `merge_labels`."""

    labels: Labels
    """All of the first tagger, then those that only the second one knows."""
    _rows: tuple[np.ndarray, np.ndarray]
    """For each label its output in the first and in the second tagger, -1 where it has none."""

    def scores(self, first: np.ndarray, second: np.ndarray, merging: Merging) -> np.ndarray:
        """float32 [labels] of the scores that both taggers gave one picture: the higher, the lower, or the mean of the two.

        A tag that one tagger does not know has 0 there, except in the mean, where only the other one counts.
        """
        known = [rows >= 0 for rows in self._rows]
        found = [np.where(k, scores[rows], 0) for k, scores, rows in zip(known, (first, second), self._rows, strict=True)]
        if merging == "union":
            merged = np.maximum(*found)
        elif merging == "intersection":
            merged = np.minimum(*found)
        else:
            merged = (found[0] + found[1]) / np.maximum(1, known[0].astype(np.float32) + known[1])
        return merged.astype(np.float32)


def merge_labels(first: Labels, second: Labels) -> Merge:
    """Tags are the same if their spelling is (`match_key`) and their category is."""
    places: dict[tuple[str, int], int] = {}
    names: list[str] = []
    for labels in (first, second):
        for name, category in zip(labels.names, labels.categories, strict=True):
            if places.setdefault((match_key(name), category), len(names)) == len(names):
                names.append(name)
    rows = []
    for labels in (first, second):
        own = np.full(len(names), -1)
        for i in reversed(range(len(labels))):  # of a tag that stands twice the first counts
            own[places[match_key(labels.names[i]), labels.categories[i]]] = i
        rows.append(own)
    return Merge(Labels(tuple(names), tuple(category for _, category in places)), (rows[0], rows[1]))


def on_scale_of(scores: np.ndarray, labels: Labels, own: Thresholds, common: Thresholds) -> np.ndarray:
    """float32 [labels]: scores whose thresholds are `own`, moved so that `common` ones judge them alike.

    Within each category what lies below its threshold and what lies above is stretched evenly, so that 0, 1 and the order stay. Two
    taggers whose thresholds differ can so be merged.
    """
    moved = np.array(scores, np.float32)
    for category in set(labels.categories):
        old, new = own.of(category), common.of(category)
        if old != new and 0 < old < 1:
            rows = np.array(labels.rows(category))
            values = scores[rows].astype(np.float64)
            moved[rows] = np.where(values > old, new + (values - old) * (1 - new) / (1 - old), values * new / old)
    return moved
