"""The spelling of a tag: underscores, kaomoji, escaped parentheses, and when two spellings mean the same tag."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from .wildcards import is_wild, whole_test

KAOMOJI = frozenset(
    "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||".split()  # noqa: SIM905
)
"""The faces whose underscore is a mouth and stays. The same list as in TagGUI and in the tagcomplete extension: a rule by
length would also catch words such as `ao_dai`."""


def spaced(tag: str) -> str:
    """`long_hair` as `long hair`; kaomoji stay as they are."""
    return tag if tag in KAOMOJI else tag.replace("_", " ")


def escaped(tag: str) -> str:
    r"""`poster (object)` as `poster \(object\)`, the way prompts want it. Captions for training want it unescaped."""
    return re.sub(r"([()])", r"\\\1", tag)


def unescaped(tag: str) -> str:
    r"""`poster \(object\)` as `poster (object)`.

    Only where every parenthesis is escaped: in the tag `\(^o^)/` the backslash is an arm. Other backslashes (`\m/`) stay.
    """
    if "\\" not in tag or re.search(r"(?<!\\)[()]", tag):
        return tag
    return re.sub(r"\\([()])", r"\1", tag)


@lru_cache(maxsize=1 << 17)
def match_key(tag: str) -> str:
    """Two spellings of one tag have one key: blind to case, underscore or blank, and escaped parentheses."""
    return " ".join(unescaped(tag).replace("_", " ").casefold().split())


def split_tags(text: str) -> tuple[str, ...]:
    """Tags of a list: split at commas (the full-width one too), trimmed, empty ones dropped.

    Never at semicolons: `;d` is a tag.
    """
    return tuple(tag for part in re.split("[,，]", text) if (tag := part.strip()))


def without_duplicates(tags: Iterable[str]) -> tuple[str, ...]:
    """The first of every tag, order kept; `long_hair` and `long hair` are one tag. Blank ones are dropped."""
    first: dict[str, str] = {}
    for tag in tags:
        if key := match_key(tag):
            first.setdefault(key, tag)
    return tuple(first.values())


def tag_matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    r"""A test whether a whole tag is one of `patterns`, compared by `match_key`.

    `*` stands for any text, `?` for one character; `\*` and `\?` for themselves. Never a part of a tag: `hat` is not in
    `hatsune miku`.
    """
    keys = [match_key(pattern) for pattern in patterns]
    plain = frozenset(key for key in keys if not is_wild(key))
    tests = [whole_test(key) for key in dict.fromkeys(keys) if key not in plain]
    known: dict[str, bool] = {}

    def matches(tag: str) -> bool:
        if tag not in known:
            key = match_key(tag)
            known[tag] = key in plain or any(test(key) for test in tests)
        return known[tag]

    return matches
