"""Notes for the reader of a dataset: lists that stay short; and the endings of file names."""

from __future__ import annotations

from collections.abc import Sequence

_NUM_OF_A_KIND = 20
_NUM_NAMES = 5
_NUM_NAMES_OF_MORE = 500
_MAX_CHARS = 100


def ending(name: str) -> str:
    """Of a file name, with its dot, in small letters; "" where there is none. As `Path.suffix`, in a tenth of the time."""
    stem, dot, last = name.rpartition(".")
    return f".{last.lower()}" if dot and stem.strip(".") and last else ""


def capped(notes: Sequence[str], kind: str, names: Sequence[str] = ()) -> list[str]:
    """The first twenty of `notes` and how many more of that kind there are; with `names`, one for each note, the names of those, too."""
    more = len(notes) - _NUM_OF_A_KIND
    if more <= 0:
        return list(notes)
    told = f": {listed(names[_NUM_OF_A_KIND:], _NUM_NAMES_OF_MORE)}" if names else ""
    return [*notes[:_NUM_OF_A_KIND], f"… and {more} more {kind}{told}."]


def listed(names: Sequence[str], num_names: int = _NUM_NAMES) -> str:
    """The first few names and how many more there are: "a, b, c, d, e and 3 more"."""
    more = len(names) - num_names
    return ", ".join(names[:num_names]) + (f" and {more} more" if more > 0 else "")


def several(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def value_told(value: object) -> str:
    """A wrong value for a message, cut off where it is long: some files hold all of their images in one."""
    text = repr(value)
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
