"""From scores to tags, and how new tags meet those that are there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from .categories import ARTIST, CHARACTER, COPYRIGHT, GENERAL, META, MODEL, QUALITY, RATING, YEAR
from .errors import TaggerError
from .labels import Labels
from .tags import escaped, match_key, spaced, tag_matcher, without_duplicates
from .thresholds import Thresholds

Sort = Literal["score", "model"]
Place = Literal["off", "first", "last"]
PLACES: tuple[Place, ...] = ("off", "first", "last")
MCut = Literal["off", "general", "character", "both"]
MCUTS: tuple[MCut, ...] = ("off", "general", "character", "both")
Mode = Literal["fill-empty", "overwrite", "prepend", "append"]
MODES: tuple[Mode, ...] = ("fill-empty", "overwrite", "prepend", "append")

_LEAST_CHARACTER_CUT = 0.15
"""As in SmilingWolf/wd-tagger: without it a picture of nobody known gets the likeliest of the unlikely characters."""
_BEHIND_CHARACTERS = (COPYRIGHT, ARTIST)
_OTHERS = (GENERAL, META, YEAR, MODEL)


class ScoredTag(NamedTuple):
    tag: str
    """As it is written."""
    category: int
    score: float


def select_tags(
    scores: np.ndarray,
    labels: Labels,
    *,
    general_threshold: float = 0.35,
    character_threshold: float = 0.85,
    copyright_threshold: float = 1.0,
    artist_threshold: float = 1.0,
    meta_threshold: float = 1.0,
    model_threshold: float = 1.0,
    mcut: MCut = "off",
    replace_underscores: bool = True,
    exclude: Sequence[str] = (),
    sort: Sort = "score",
    character_first: bool = True,
    expand_characters: bool = False,
    rating: Place = "off",
    quality: Place = "off",
    max_tags: int | None = None,
    escape_parentheses: bool = False,
) -> tuple[ScoredTag, ...]:
    """The tags whose score is above the threshold of their category, as they are written; a threshold of 1 leaves a category out.

    `scores` is float32 [labels]. `mcut` finds the threshold of a category in the widest gap between its scores instead, if the
    category is not left out. `exclude` takes whole tags, with `*` and `?` as in rules. Sorted by score, best first, or as the model
    has them; characters with their series and artists first, if wanted. Rating and quality are the likeliest one of their kind, not a
    matter of thresholds, and do not count for `max_tags`, which keeps the best ones. `expand_characters` writes the series in a
    character's name as a tag of its own, as well. Parentheses are escaped for prompts only: training reads them as they are.
    """
    scores = scores.astype(np.float64)  # as SmilingWolf/wd-tagger compares them
    is_excluded = tag_matcher(exclude)
    thresholds = Thresholds(general_threshold, character_threshold, copyright_threshold, artist_threshold, meta_threshold, model_threshold)

    def above(category: int) -> list[int]:
        threshold = thresholds.of(category)
        if threshold < 1 and (mcut == "both" or (mcut, category) in (("general", GENERAL), ("character", CHARACTER))):
            threshold = _cut(scores, labels, category)
        return [i for i in labels.rows(category) if scores[i] > threshold and not is_excluded(labels.names[i])] if threshold < 1 else []

    def ordered(rows: list[int]) -> list[int]:
        return sorted(rows, key=lambda i: (-scores[i], i)) if sort == "score" else sorted(rows)

    front = [above(CHARACTER), [i for category in _BEHIND_CHARACTERS for i in above(category)]]
    others = [i for category in _OTHERS for i in above(category)]
    if max_tags is not None:
        best = set(sorted([*front[0], *front[1], *others], key=lambda i: (-scores[i], i))[:max_tags])
        front, others = [[i for i in rows if i in best] for rows in front], [i for i in others if i in best]
    parts = [*map(ordered, front), ordered(others)] if character_first else [ordered([*front[0], *front[1], *others])]
    chosen = [i for part in parts for i in part]
    for category, place in ((QUALITY, quality), (RATING, rating)):
        rows = [] if place == "off" else labels.rows(category)
        if rows and not is_excluded(labels.names[likeliest := max(rows, key=lambda i: scores[i])]):
            chosen = [likeliest, *chosen] if place == "first" else [*chosen, likeliest]
    found: dict[str, ScoredTag] = {}
    for i in chosen:
        for name in _with_series(labels.names[i]) if expand_characters and labels.categories[i] == CHARACTER else [labels.names[i]]:
            spelled = spaced(name) if replace_underscores else name
            written = escaped(spelled) if escape_parentheses else spelled
            if key := match_key(name):
                found.setdefault(key, ScoredTag(written, labels.categories[i], float(scores[i])))
    return tuple(found.values())


def _cut(scores: np.ndarray, labels: Labels, category: int) -> float:
    """Maximum cut (Largeron et al., 2012): the middle of the widest gap between the sorted scores of a category."""
    rows = labels.rows(category)
    if len(rows) < 2:
        return 0.5
    falling = np.sort(scores[list(rows)])[::-1]
    widest = int(np.argmax(falling[:-1] - falling[1:]))
    cut = float(falling[widest] + falling[widest + 1]) / 2
    return max(cut, _LEAST_CHARACTER_CUT) if category == CHARACTER else cut


def _with_series(name: str) -> list[str]:
    """`miku_(2019)_(vocaloid)` as `miku_(2019)` and `vocaloid`: only the last parentheses hold a series."""
    match = re.fullmatch(r"(.+?)[_ ]\(([^()]+)\)", name)
    return [match[1], match[2]] if match else [name]


def combine(existing: Sequence[str], new: Sequence[str], mode: Mode) -> tuple[str, ...]:
    """`existing` tags of a caption and `new` ones as one tuple, order kept, nothing twice.

    `fill-empty` leaves a caption with any tag as it is; blank tags are none. `prepend` puts the new ones in front.
    """
    if mode == "fill-empty":
        return tuple(existing) if any(tag.strip() for tag in existing) else without_duplicates(new)
    if mode == "overwrite":
        return without_duplicates(new)
    if mode == "prepend":
        return without_duplicates([*new, *existing])
    if mode == "append":
        return without_duplicates([*existing, *new])
    raise TaggerError(f"Unknown mode {mode!r}; choose one of: {', '.join(MODES)}.")
