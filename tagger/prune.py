"""Which tags of a set say what its subject is, so that the trigger word learns them.

What a character always has (hair, eyes, ears) belongs into the trigger: left in the captions it stays a separate thing that a prompt must
name each time. So does the name of a style, and the parts of an outfit. A tag is pruned if it is of such a kind and most pictures have it;
the same tag in few pictures is a variation and stays. Method: `character_core` of anime_screenshot_pipeline; the lists are our own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from . import wordlists as words
from .categories import ARTIST, CHARACTER, COPYRIGHT
from .lexicon import Lexicon
from .tags import match_key, tag_matcher

Subject = Literal["character", "style", "outfit", "concept"]
SUBJECTS: tuple[Subject, ...] = ("character", "style", "outfit", "concept")


@dataclass(frozen=True)
class Pruned:
    """A tag that goes, and why."""

    key: str
    """`match_key` of the tag."""
    kind: str
    """For people: "a trait", "a name", …"""
    share: float
    """Of the captions that decide, above 0, to 1."""


def _by_last_words(last_words: Sequence[str], patterns: Sequence[str] = ()) -> Callable[[str], bool]:
    return tag_matcher([*last_words, *(f"* {word}" for word in last_words), *patterns])


_is_trait = _by_last_words(words.TRAIT_LAST_WORDS, words.TRAIT_PATTERNS)
_is_state = tag_matcher(words.STATES)
_is_style = tag_matcher(words.STYLE_PATTERNS)
_is_overlay = tag_matcher(words.OVERLAY_PATTERNS)
_is_clothing = _by_last_words(words.CLOTHES_LAST_WORDS, words.CLOTHES_PATTERNS)
_is_no_clothing = tag_matcher(words.NOT_CLOTHES)
_is_count = tag_matcher(words.COUNTS)
_is_one = tag_matcher(("1girl", "1boy", "1other"))


def usual_percent(subject: Subject) -> int:
    """What is left of `prune` without a number: the share of captions from which on a tag is of the subject."""
    return 80 if subject == "concept" else 40


def prunable(captions: Sequence[Sequence[str]], subject: Subject, min_share: float, lexicon: Lexicon | None = None) -> tuple[Pruned, ...]:
    """The tags to prune, the most frequent first: of a kind of the subject, in at least `min_share` (above 0, to 1) of the captions.

    For a character captions with `solo`, or with one person and no others, decide; if there are none, all do, as for the other subjects.
    For a concept every kind of tag counts, and for a style what is written upon pictures goes however rare. With a `lexicon` names go, too:
    of characters and series for a character, of artists for a style. How many people there are always stays.
    """
    deciding = _deciding(captions, subject)
    shares = Counter(key for caption in deciding for key in {match_key(tag) for tag in caption})
    found = []
    for key, number in shares.items():
        share, kind = number / len(deciding), _kind(key, subject, lexicon)
        if kind and not _is_count(key) and (number >= min_share * len(deciding) or kind == _OVERLAY):
            found.append(Pruned(key, kind, share))
    return tuple(sorted(found, key=lambda pruned: (-pruned.share, pruned.key)))


_OVERLAY = "written upon it"


def _kind(key: str, subject: Subject, lexicon: Lexicon | None) -> str:
    """Why the tag may be of the subject; empty if it cannot."""
    entry = lexicon.tag(key) if lexicon else None
    category = entry.category if entry else None
    if subject == "character":
        if category in (CHARACTER, COPYRIGHT):
            return "a name"
        return "a trait" if _is_trait(key) and not _is_state(key) else ""
    if subject == "style":
        if _is_overlay(key):
            return _OVERLAY
        return "an artist" if category == ARTIST else "a style" if _is_style(key) else ""
    if subject == "outfit":
        return "clothes" if _is_clothing(key) and not _is_no_clothing(key) else ""
    return "common to all"


def _deciding(captions: Sequence[Sequence[str]], subject: Subject) -> Sequence[Sequence[str]]:
    solo = [caption for caption in captions if _is_solo(caption)] if subject == "character" else []
    return solo or captions


def _is_solo(caption: Iterable[str]) -> bool:
    keys = {match_key(tag) for tag in caption}
    people = [key for key in keys if _is_count(key) and key not in ("solo", "solo focus", "male focus", "female focus", "no humans")]
    return "solo" in keys or (len(people) == 1 and _is_one(people[0]))
