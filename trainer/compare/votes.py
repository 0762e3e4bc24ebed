"""Votes over pairs of a comparison's pictures whose names are hidden: kept beside the pictures, counted along an axis.

A vote names the two files, and those are named by what they show: it stays true when the comparison is arranged anew.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ..config import from_json
from ..errors import AthanorError
from ..files import replace_atomically
from .ranking import Duel, Ranking, rank
from .sheet import Sheet

VOTES_FILE = "votes.json"
MAX_VOTES = 20_000
Axis = Literal["x", "y", "z"]
_PLACE_OF: Mapping[Axis, int] = {"z": 0, "y": 1, "x": 2}
"""In (page, row, column)."""
Position = tuple[int, int, int]


@dataclass(frozen=True)
class Vote:
    first: str
    second: str
    """Files, relative to the comparison's folder."""
    score: float
    """1 if the first was preferred, 0 if the second was, 0.5 if neither."""


@dataclass(frozen=True)
class Pair:
    """Two pictures that differ along one axis only."""

    first: str
    second: str
    place: Position
    """Of the first one."""


def read_votes(folder: Path) -> tuple[Vote, ...]:
    """None yet, or not readable, is no vote."""
    try:
        return from_json(tuple[Vote, ...], json.loads((folder / VOTES_FILE).read_text(encoding="utf-8")), "votes")
    except (OSError, ValueError, RecursionError, AthanorError):
        return ()


def add_vote(folder: Path, vote: Vote) -> None:
    """Raises AthanorError when there are too many already."""
    votes = read_votes(folder)
    if len(votes) >= MAX_VOTES:
        raise AthanorError(f"This comparison has {len(votes):,} votes; no more are kept.")
    _write(folder, (*votes, vote))


def take_back(folder: Path) -> None:
    """Forgets the last vote, if there is one."""
    _write(folder, read_votes(folder)[:-1])


def ranking(sheet: Sheet, votes: Sequence[Vote], axis: Axis) -> Ranking:
    """Of the values of `axis`, by all votes between two pictures that differ in it alone."""
    return rank(len(labels(sheet, axis)), [Duel(one, other, vote.score) for one, other, vote in _counted(sheet, votes, axis)])


def labels(sheet: Sheet, axis: Axis) -> tuple[str, ...]:
    return {"x": sheet.columns, "y": sheet.rows, "z": sheet.pages}[axis]


def next_pair(sheet: Sheet, votes: Sequence[Vote], axis: Axis, drawn: Collection[str], chance: random.Random) -> Pair | None:
    """Two pictures to ask about: of values that were asked about least so far, at a place where they were, and on random sides.

    `drawn` are the files that are there. None where no two differ.
    """
    at = _PLACE_OF[axis]
    files = {place: sheet.files[recipe] for place, recipe in sheet.cells.items() if recipe is not None and sheet.files[recipe] in drawn}
    places: dict[tuple[int, ...], list[Position]] = {}
    for place in files:
        places.setdefault(_without(place, at), []).append(place)
    met: Counter[frozenset[int]] = Counter()
    seen: Counter[int] = Counter()
    asked: Counter[frozenset[str]] = Counter(frozenset((vote.first, vote.second)) for vote in votes)
    for one, other, _ in _counted(sheet, votes, axis):
        met[frozenset((one, other))] += 1
        seen.update((one, other))
    values = list(range(len(labels(sheet, axis))))
    chance.shuffle(values)
    for one in sorted(values, key=lambda value: seen[value]):
        mine = [place for place in files if place[at] == one]
        found = [(place, other) for place in mine for other in places[_without(place, at)] if files[place] != files[other]]
        if found:
            least = [(met[frozenset((one, b[at]))], seen[b[at]], asked[frozenset((files[a], files[b]))]) for a, b in found]
            a, b = chance.choice([pair for pair, cost in zip(found, least, strict=True) if cost == min(least)])
            if chance.random() < 0.5:
                a, b = b, a
            return Pair(files[a], files[b], a)
    return None


def _counted(sheet: Sheet, votes: Sequence[Vote], axis: Axis) -> Iterator[tuple[int, int, Vote]]:
    """The values of the axis that each vote is about; votes about other differences are passed over."""
    at = _PLACE_OF[axis]
    places: dict[str, list[Position]] = {}
    for place, recipe in sheet.cells.items():
        if recipe is not None:
            places.setdefault(sheet.files[recipe], []).append(place)
    for vote in votes:
        there = {_without(place, at): place for place in places.get(vote.second, ())}
        one = next((place for place in places.get(vote.first, ()) if _without(place, at) in there), None)
        if one is not None and (other := there[_without(one, at)])[at] != one[at]:
            yield one[at], other[at], vote


def _without(place: Position, at: int) -> tuple[int, ...]:
    return place[:at] + place[at + 1 :]


def _write(folder: Path, votes: Sequence[Vote]) -> None:
    text = json.dumps([asdict(vote) for vote in votes], ensure_ascii=False)
    replace_atomically(folder / VOTES_FILE, lambda temporary: temporary.write_text(text, encoding="utf-8"))
