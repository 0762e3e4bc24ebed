"""From scores to tags, and how new tags meet those that are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from .errors import TaggerError
from .models import CHARACTER, GENERAL, RATING, Labels
from .tags import escaped, spaced, tag_matcher, without_duplicates

Sort = Literal["score", "model"]
RatingPlace = Literal["off", "first", "last"]
Mode = Literal["fill-empty", "overwrite", "prepend", "append"]
MODES: tuple[Mode, ...] = ("fill-empty", "overwrite", "prepend", "append")


def select_tags(
    scores: np.ndarray,
    labels: Labels,
    *,
    general_threshold: float = 0.35,
    character_threshold: float = 0.85,
    replace_underscores: bool = True,
    exclude: Sequence[str] = (),
    sort: Sort = "score",
    character_first: bool = True,
    rating: RatingPlace = "off",
    escape_parentheses: bool = False,
) -> tuple[str, ...]:
    """The tags whose score is above the threshold of their category; a threshold of 1 leaves a category out.

    `scores` is float32 [labels]. Categories other than general and character (artist, copyright, meta) are left out. `exclude`
    takes whole tags, with `*` and `?` as in rules. Sorted by score, best first, or as the model has them. The rating is the
    likeliest one, not a matter of thresholds. Parentheses are escaped for prompts only: training reads them as they are.
    """
    is_excluded = tag_matcher(exclude)

    def above(category: int, threshold: float) -> list[int]:
        return [i for i in labels.rows(category) if scores[i] > threshold and not is_excluded(labels.names[i])]

    def ordered(rows: list[int]) -> list[int]:
        return sorted(rows, key=lambda i: (-scores[i], i)) if sort == "score" else sorted(rows)

    general, characters = above(GENERAL, general_threshold), above(CHARACTER, character_threshold)
    chosen = ordered(characters) + ordered(general) if character_first else ordered(characters + general)
    ratings = [] if rating == "off" else labels.rows(RATING)
    if ratings:
        likeliest = max(ratings, key=lambda i: scores[i])
        if not is_excluded(labels.names[likeliest]):
            chosen = [likeliest, *chosen] if rating == "first" else [*chosen, likeliest]
    names = [spaced(labels.names[i]) if replace_underscores else labels.names[i] for i in chosen]
    return without_duplicates(escaped(name) if escape_parentheses else name for name in names)


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
