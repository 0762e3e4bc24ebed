"""What one rule does to the captions of a whole set. Pure functions of their input, made by `rule_language.parse_rules`.

`pinned` holds the keys of the triggers that earlier rules have put in front: they keep their place whatever follows.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

from .consolidate import general_tags
from .lexicon import Lexicon
from .prune import Pruned, Subject, prunable
from .tags import match_key, spaced, tag_matcher, unescaped, without_duplicates
from .tokens import CountTokens

Caption = tuple[str, ...]
Captions = tuple[Caption, ...]


class Edit(Protocol):
    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        """As many captions as came in, in the same order."""
        ...


@dataclass(frozen=True)
class Trigger:
    """`tags` in front, spelled as here, moved there where they are present."""

    tags: Caption

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        return tuple(self.tags + _without(caption, self.keys) for caption in captions)

    @property
    def keys(self) -> frozenset[str]:
        return _keys(self.tags)


@dataclass(frozen=True)
class Remove:
    patterns: Caption

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        matches = tag_matcher(self.patterns)
        return tuple(tuple(tag for tag in caption if not matches(tag)) for caption in captions)


@dataclass(frozen=True)
class Keep:
    patterns: Caption

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        matches = tag_matcher(self.patterns)
        return tuple(tuple(tag for tag in caption if matches(tag) or match_key(tag) in pinned) for caption in captions)


@dataclass(frozen=True)
class Replace:
    """All tags that match become `new`, once, at the place of the first of them; a copy of `new` that was there goes."""

    patterns: Caption
    new: Caption

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        matches, new_keys = tag_matcher(self.patterns), _keys(self.new)

        def replaced(caption: Caption) -> Caption:
            first = next((i for i, tag in enumerate(caption) if matches(tag)), None)
            if first is None:
                return caption
            kept = [tag for tag in caption[first + 1 :] if not matches(tag)]
            before = caption[:first]
            return before + _without(self.new, _keys(before)) + _without(tuple(kept), new_keys)

        return tuple(map(replaced, captions))


@dataclass(frozen=True)
class Substitute:
    """Python's `re.sub` on every tag; the result is split at commas, and nothing is left of a tag that became empty."""

    pattern: re.Pattern[str]
    replacement: str

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        known: dict[str, Caption] = {}

        def substituted(tag: str) -> Caption:
            if tag not in known:
                text = self.pattern.sub(self.replacement, tag)
                known[tag] = (tag,) if text == tag else tuple(part.strip() for part in text.split(",") if part.strip())
            return known[tag]

        return tuple(tuple(new for tag in caption for new in substituted(tag)) for caption in captions)


@dataclass(frozen=True)
class Deduplicate:
    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        return tuple(map(without_duplicates, captions))


@dataclass(frozen=True)
class Sort:
    """Frequency means the number of captions of the whole set that have the tag, the most frequent first.

    By score the one of which the tagger was surest comes first; tags without a score stay behind, as they were.
    """

    by: Literal["alphabetical", "frequency", "length", "score"]
    reverse: bool = False
    scores: tuple[Mapping[str, float], ...] = ()
    """For each caption those of its tags, by `match_key`."""

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        if self.by == "score":
            known = self.scores or ({},) * len(captions)
            return tuple(self._by_score(caption, scores, pinned) for caption, scores in zip(captions, known, strict=True))
        frequency = Counter(key for caption in captions for key in _keys(caption))
        order: Callable[[str], str | int] = {
            "alphabetical": match_key,
            "frequency": lambda tag: -frequency[match_key(tag)],
            "length": len,
        }[self.by]
        return _behind_pinned(captions, pinned, lambda tags: tuple(sorted(tags, key=order, reverse=self.reverse)))

    def _by_score(self, caption: Caption, scores: Mapping[str, float], pinned: frozenset[str]) -> Caption:
        def rank(tag: str) -> tuple[bool, float]:
            score = scores.get(match_key(tag))
            return score is None, 0.0 if score is None else score if self.reverse else -score

        return _behind_pinned((caption,), pinned, lambda tags: tuple(sorted(tags, key=rank)))[0]


@dataclass(frozen=True)
class Move:
    """Tags that match come first (or last), in the order of the patterns, the others behind (before) them as they were."""

    patterns: Caption
    to: Literal["first", "last"]

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        matchers = [tag_matcher((pattern,)) for pattern in self.patterns]

        def rank(tag: str) -> int:
            found = next((i for i, matches in enumerate(matchers) if matches(tag)), None)
            if self.to == "first":
                return len(matchers) if found is None else found
            return -1 if found is None else found

        return _behind_pinned(captions, pinned, lambda tags: tuple(sorted(tags, key=rank)))


@dataclass(frozen=True)
class Shuffle:
    """All but the first `num_kept` in an order by chance, which is the same every time for the same tags and `seed`."""

    num_kept: int
    seed: int = 0

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        def shuffled(tags: Caption) -> Caption:
            rest = sorted(tags[self.num_kept :], key=match_key)
            random.Random(f"{self.seed} {' '.join(map(match_key, rest))}").shuffle(rest)
            return (*tags[: self.num_kept], *rest)

        return _behind_pinned(captions, pinned, shuffled)


@dataclass(frozen=True)
class Add:
    """The ones of `tags` that a caption lacks, in front or at the end."""

    tags: Caption
    to: Literal["front", "end"]

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        def added(caption: Caption) -> Caption:
            new = _without(self.tags, _keys(caption))
            if self.to == "end":
                return caption + new
            num_pinned = _num_pinned(caption, pinned)
            return caption[:num_pinned] + new + caption[num_pinned:]

        return tuple(map(added, captions))


@dataclass(frozen=True)
class Limit:
    num_tags: int

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        return tuple(caption[: self.num_tags] for caption in captions)


@dataclass(frozen=True)
class LimitTokens:
    """Whole tags go from the end until the caption has no more tokens; the first one stays in any case."""

    num_tokens: int
    count_tokens: CountTokens | None = None
    """None only while a text of rules is read."""

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        assert self.count_tokens is not None
        count = lru_cache(maxsize=1 << 17)(self.count_tokens)  # no token reaches over a blank, so each tag is counted for itself

        def shortened(caption: Caption) -> Caption:
            num_before = 0  # of the tags in front, with the comma behind each
            for place, tag in enumerate(caption):
                if place and num_before + count(tag) > self.num_tokens:
                    return caption[:place]
                num_before += count(f"{tag},")
            return caption

        return tuple(map(shortened, captions))


@dataclass(frozen=True)
class Prune:
    """What the pictures have in common because of their subject goes: see `prune.prunable`."""

    subject: Subject
    min_share: float
    lexicon: Lexicon | None = None

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        keys = frozenset(pruned.key for pruned in self.pruned(captions, pinned))
        return tuple(_without(caption, keys) for caption in captions)

    def pruned(self, captions: Captions, pinned: frozenset[str]) -> tuple[Pruned, ...]:
        """What goes, and why."""
        return tuple(pruned for pruned in prunable(captions, self.subject, self.min_share, self.lexicon) if pruned.key not in pinned)


@dataclass(frozen=True)
class Consolidate:
    """Tags that a more specific one of the same caption says already go: see `consolidate.general_tags`."""

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        return tuple(_without(caption, general_tags(caption) - pinned) for caption in captions)


@dataclass(frozen=True)
class Alias:
    """Other names become the tag that they mean, unless they mean several; spelled with blanks unless they had underscores."""

    lexicon: Lexicon

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        known: dict[str, str] = {}

        def canonical(tag: str) -> str:
            if tag not in known:
                meant = self.lexicon.meant_by(tag)
                is_meant = len(meant) == 1 and match_key(tag) not in pinned
                known[tag] = (meant[0].name if "_" in tag else spaced(meant[0].name)) if is_meant else tag
            return known[tag]

        def renamed(caption: Caption) -> Caption:
            new = tuple(map(canonical, caption))
            return caption if new == caption else without_duplicates(new)

        return tuple(map(renamed, captions))


@dataclass(frozen=True)
class Respell:
    to: Literal["spaces", "unescaped"]

    def edited(self, captions: Captions, pinned: frozenset[str]) -> Captions:
        spelled = {"spaces": spaced, "unescaped": unescaped}[self.to]
        return tuple(tuple(map(spelled, caption)) for caption in captions)


def _keys(tags: Caption) -> frozenset[str]:
    return frozenset(map(match_key, tags))


def _without(tags: Caption, keys: frozenset[str]) -> Caption:
    return tuple(tag for tag in tags if match_key(tag) not in keys)


def _num_pinned(caption: Caption, pinned: frozenset[str]) -> int:
    return next((i for i, tag in enumerate(caption) if match_key(tag) not in pinned), len(caption))


def _behind_pinned(captions: Captions, pinned: frozenset[str], change: Callable[[Caption], Caption]) -> Captions:
    def changed(caption: Caption) -> Caption:
        num_pinned = _num_pinned(caption, pinned)
        return caption[:num_pinned] + change(caption[num_pinned:])

    return tuple(map(changed, captions))
