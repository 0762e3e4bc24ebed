r"""Texts with `*` for any text and `?` for one character; `\*` and `\?` stand for themselves.

A regular expression of `.*` takes years for some patterns, and a pattern comes with a workflow or a request of the page. Here each part
between two stars is looked for only once, as far to the left as it goes: time grows with text and pattern, no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_PIECES = re.compile(r"\\[*?]|[*?]|[^*?\\]+|\\")


@dataclass(frozen=True)
class _Part:
    """What stands between two stars; every match has the same length."""

    regex: re.Pattern[str]
    length: int


def is_wild(pattern: str) -> bool:
    """Whether it is more than a text that stands for itself."""
    return any(piece in ("*", "?", r"\*", r"\?") for piece in _PIECES.findall(pattern))


def whole_test(pattern: str) -> Callable[[str], bool]:
    """Whether all of a text is as `pattern` says. Case counts."""
    return _test(_parts(pattern))


def part_test(pattern: str) -> Callable[[str], bool]:
    """Whether a text has `pattern` somewhere in it. Case counts."""
    return _test([_part(()), *_parts(pattern), _part(())])


def _test(parts: Sequence[_Part]) -> Callable[[str], bool]:
    if len(parts) == 1:
        return lambda text: parts[0].regex.fullmatch(text) is not None
    first, *between, last = parts

    def fits(text: str) -> bool:
        place, end = first.length, len(text) - last.length
        if place > end or not first.regex.match(text) or not last.regex.match(text, end):
            return False
        for part in between:
            found = part.regex.search(text, place, end)
            if found is None:
                return False
            place = found.end()
        return True

    return fits


def _parts(pattern: str) -> list[_Part]:
    parts: list[list[str]] = [[]]
    for piece in _PIECES.findall(pattern):
        if piece == "*":
            parts.append([])
        else:
            parts[-1] += ["."] if piece == "?" else map(re.escape, piece[1] if piece in (r"\*", r"\?") else piece)
    return [_part(part) for part in parts]


def _part(characters: Sequence[str]) -> _Part:
    """Each as a regular expression of its own."""
    return _Part(re.compile("".join(characters), re.DOTALL), len(characters))
