"""Captions from file names: a pattern such as `{words}_{number}` finds "red cat" in red_cat_012.png."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import AthanorError

_PART = re.compile(r"(\{[^{}]*\}|\*)")
_KINDS = ("{caption}", "{words}", "{number}", "*")


@dataclass(frozen=True)
class NamePattern:
    """What a file name says.

    `{caption}` is taken as it stands, `{words}` with blanks for underscores, `{number}` is digits and `*` is anything,
    both left out; everything else must be there literally. With a / in the pattern it is laid over the folder's name and
    the file's, such as `{caption}/*`. Several parts become one caption with commas between.
    """

    text: str
    parts: tuple[str, ...]

    def caption(self, name: str) -> str | None:
        """The caption in `name` (a path with /, with its ending), or None if the pattern does not fit."""
        stem = name.rpartition(".")[0] or name
        wanted = "/".join(stem.split("/")[-1 - self.text.count("/") :])
        found = self._match(0, wanted, 0, set())
        if found is None:
            return None
        return ", ".join(text for part in found if (text := part.strip(" ,")))

    def _match(self, part: int, name: str, at: int, dead_ends: set[tuple[int, int]]) -> list[str] | None:
        """The captions of what follows `at`, each as short as the rest allows. A user's pattern never takes long: no place is tried twice."""
        if part == len(self.parts):
            return [] if at == len(name) else None
        if (part, at) in dead_ends:
            return None
        kind = self.parts[part]
        if kind not in _KINDS:
            ends = [at + len(kind)] if name.startswith(kind, at) else []
        elif kind == "{number}":
            digits = re.match(r"[0-9]+", name[at:])
            ends = [at + digits.end()] if digits else []
        else:
            ends = list(range(at if kind == "*" else at + 1, len(name) + 1))
        for end in ends:
            taken = name[at:end]
            if kind in _KINDS and "/" in taken:
                break
            rest = self._match(part + 1, name, end, dead_ends)
            if rest is not None:
                return [taken, *rest] if kind == "{caption}" else [taken.replace("_", " "), *rest] if kind == "{words}" else rest
        dead_ends.add((part, at))
        return None


def name_pattern(text: str) -> NamePattern:
    """Raises AthanorError for a pattern that takes nothing from the name, or has a part that is not known."""
    text = text.strip()
    parts = tuple(part for part in _PART.split(text) if part)
    unknown = [part for part in parts if part.startswith("{") and part not in _KINDS]
    if unknown or not {"{caption}", "{words}"} & set(parts) or len(parts) > 40:
        what = f"has the unknown part {unknown[0]}" if unknown else "takes no caption from the name"
        raise AthanorError(
            f"The pattern {text!r} for file names {what}; write {{caption}} or {{words}} for the caption, {{number}} for digits and * for anything."
        )
    return NamePattern(text, parts)
