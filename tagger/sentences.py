"""Sentences of captioners, made fit for captions, and mixed with tags."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .select import Mode
from .tags import match_key, split_tags

DEFAULT_PHRASES = (
    "In this image we can see",
    "In this picture we can see",
    "In this image there is",
    "In this image there are",
    "The image shows",
    "The image is a photograph of",
    "The image is a digital illustration of",
    "The image is",
    "The image depicts",
    "The image features",
    "The image portrays",
    "The picture shows",
    "This image shows",
    "This is an image of",
    "This is a picture of",
    "An image of",
    "A picture of",
    "arafed",
    "araffe",
)
"""With these captioners begin whatever they see; BLIP large is known for the last two, which are no words."""

_ENDS = ".!?。！？"
_LONG_WORDS = 8
"""A part between commas with so many words is no tag."""


def cleaned(text: str, phrases: Sequence[str] = DEFAULT_PHRASES) -> str:
    """What a model wrote, in one line, without `phrases` at the beginnings of its sentences, blind to case.

    A sentence that lost its beginning starts with a capital letter again.
    """
    line = re.sub(r"<[^<>\s]{1,40}>", " ", text)
    line = " ".join(line.split())
    sentences = re.split(r"(?<=[.!?。！？])\s+", line)
    longest_first = sorted((phrase.strip() for phrase in phrases if phrase.strip()), key=len, reverse=True)
    pattern = re.compile(rf"(?:{'|'.join(map(re.escape, longest_first))})(?!\w)[\s,:]*", re.IGNORECASE) if longest_first else None
    return " ".join(sentence for one in sentences if (sentence := _without(one, pattern)))


def _without(sentence: str, pattern: re.Pattern[str] | None) -> str:
    match = pattern.match(sentence) if pattern else None
    if not match:
        return sentence
    rest = sentence[match.end() :].strip()
    return rest[:1].upper() + rest[1:] if rest.strip(_ENDS) else ""


def is_prose(caption: str) -> bool:
    """Whether a caption holds sentences, which must stay as they are, rather than tags alone."""
    text = caption.strip()
    return (
        text.endswith(tuple("。！？"))
        or bool(re.search(r"[a-z)]\. |\w{2,}[.!?]$", text))
        or any(len(part.split()) >= _LONG_WORDS for part in split_tags(text))
    )


def combine_text(existing: str | None, new: str, mode: Mode) -> str:
    """A caption and a new sentence as one text. In front of others a sentence loses its last stop, so that a comma can follow.

    `fill-empty` leaves a caption that says anything as it is. A sentence that is there already is not written again.
    """
    old = (existing or "").strip()
    if mode == "overwrite" or not old:
        return new
    if mode == "fill-empty" or not new or new.rstrip(_ENDS).casefold() in old.casefold():
        return old
    first, second = (new, old) if mode == "prepend" else (old, new)
    return f"{first.rstrip(_ENDS + ', ')}, {second}"


def add_tags(caption: str, new: Sequence[str], mode: Mode) -> str:
    """New tags in front of a caption with sentences, or behind it. Its own words stay; what it has between commas is not added again."""
    there = {match_key(part.rstrip(_ENDS)) for part in split_tags(caption)}
    added = [tag for tag in new if match_key(tag) not in there]
    if not added:
        return caption
    tags = ", ".join(added)
    return f"{tags}, {caption}" if mode == "prepend" else f"{caption.strip().rstrip(_ENDS + ', ')}, {tags}"
