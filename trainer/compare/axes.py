"""What people write on an axis, as values. Pure text work.

The grammar is that of A1111's X/Y/Z plot: values between commas, quotes around one that holds a comma; `1-5` counts up,
`1-10 (+3)` in steps of 3, `0-1 [5]` gives 5 values spread evenly, and among whole numbers the part behind the point falls off
(`1-10 [5]` is 1, 3, 5, 7, 10). Steps may be negative: `1.0-0.5 (-0.25)`. A text of several lines is read line by line instead,
commas and all. Unlike there, steps never go beyond the end, `5-1` counts down, and a value that is written twice is drawn once.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from ..errors import AthanorError

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*(?:\(\s*({_NUMBER})\s*\)|\[\s*(\d+)\s*\])?\s*")
_MAX_VALUES = 1000


def parse_texts(text: str, with_empty: bool = False) -> tuple[str, ...]:
    """The values of an axis of words: lines where there are several (those that start with # are left out), otherwise values between commas.

    `with_empty` keeps a value that is empty between commas, or a line of nothing but two quotes.
    """
    lines = parse_lines(text)
    if len(lines) != 1:
        return tuple("" if with_empty and line == '""' else line for line in lines)
    values = _between_commas(lines[0])
    return values if with_empty else tuple(filter(None, values))


def parse_lines(text: str) -> tuple[str, ...]:
    """The lines of a text, for values that hold commas; those that start with # are left out."""
    return tuple(line for raw in text.splitlines() if (line := raw.strip()) and not line.startswith("#"))


def parse_numbers(text: str, axis: str) -> tuple[float, ...]:
    """The numbers of an axis in the order written, each once. Raises AthanorError naming `axis` and the part that is no number."""
    return _numbers(text, axis, is_whole=False)


def parse_whole_numbers(text: str, axis: str, minimum: int) -> tuple[int, ...]:
    """As `parse_numbers`, for seeds and steps."""
    values = _numbers(text, axis, is_whole=True)
    wrong = [value for value in values if value != int(value) or value < minimum]
    if wrong:
        raise AthanorError(f"{axis}: {_shown(wrong[0])} will not do; write whole numbers from {minimum} on.")
    return tuple(int(value) for value in values)


def _numbers(text: str, axis: str, is_whole: bool) -> tuple[float, ...]:
    parts = [part for line in parse_lines(text) for part in _between_commas(line) if part]
    values = [value for part in parts for value in _expand(part, axis, is_whole)]
    if not values:
        raise AthanorError(f"{axis}: nothing is written there; write numbers with commas, for example {'1, 2, 3' if is_whole else '0.6, 0.8, 1.0'}.")
    return tuple(dict.fromkeys(values))


def _between_commas(line: str) -> tuple[str, ...]:
    """As `csv` reads them, blanks around them away."""
    try:
        return tuple(value.strip() for value in next(csv.reader([line], skipinitialspace=True)))
    except csv.Error:
        raise AthanorError(f"{line[:40]!r} … cannot be taken apart at its commas; write one value a line.") from None


def _shown(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _expand(part: str, axis: str, is_whole: bool) -> list[float]:
    if re.fullmatch(rf"\s*{_NUMBER}\s*", part):
        return [float(part)]
    found = _RANGE.fullmatch(part)
    if not found:
        raise AthanorError(f"{axis}: {part.strip()!r} is neither a number nor a range; write for example 0.8, or 1-5, or 0-1 (+0.25), or 0-1 [5].")
    first, last = float(found[1]), float(found[2])
    if found[4] is not None:
        num = int(found[4])
        if not 1 <= num <= _MAX_VALUES:
            raise AthanorError(f"{axis}: {part.strip()!r} asks for {num} values; ask for 1 to {_MAX_VALUES}.")
        spread = [round(first + (last - first) * i / max(1, num - 1), 6) for i in range(num)]
        return [float(int(value)) for value in spread] if is_whole and first == int(first) and last == int(last) else spread
    step = float(found[3]) if found[3] is not None else (1.0 if last >= first else -1.0)
    if step == 0 or (last - first) * step < 0:
        raise AthanorError(f"{axis}: {part.strip()!r} never arrives: steps of {step:g} do not lead from {first:g} to {last:g}.")
    num = int((last - first) / step + 1e-9) + 1
    if num > _MAX_VALUES:
        raise AthanorError(f"{axis}: {part.strip()!r} has {num} values; at most {_MAX_VALUES} are drawn.")
    return [round(first + step * i, 6) for i in range(num)]


def parse_epochs(text: str, available: Sequence[int], best: int | None = None) -> tuple[int, ...]:
    """Epoch numbers: `all`, `last`, `best`, `every 2` (and always the last), numbers and ranges as in `parse_whole_numbers`, or several with commas.

    Raises AthanorError if one was not saved, telling which were, or if the best is asked for and not known.
    """
    known = tuple(available)
    if not known:
        raise AthanorError("The run has no saved epoch yet; let it train to the end of its first saved epoch.")
    parts = [part for line in parse_lines(text) for part in _between_commas(line) if part] or ["all"]
    return tuple(dict.fromkeys(number for part in parts for number in _epochs(part, known, best)))


def _epochs(part: str, known: tuple[int, ...], best: int | None) -> tuple[int, ...]:
    word = part.lower()
    if word == "all":
        return known
    if word == "last":
        return known[-1:]
    if word == "best":
        if best is None:
            raise AthanorError("Epochs: the best cannot be told, since no image was held out; write last, all or numbers.")
        return (best,)
    if every := re.fullmatch(r"every\s+(\d+)", word):
        stride = int(every[1])
        if stride < 1:
            raise AthanorError("Epochs: every 0 picks none; write every 2, for example.")
        return tuple(number for i, number in enumerate(known, start=1) if i % stride == 0 or number == known[-1])
    if not re.fullmatch(r"[\s\d.+()\[\]-]+", part):
        raise AthanorError(f"Epochs: {part!r} is no choice of epochs; write all, last, best, every 2, or numbers and ranges such as 2, 4-10 (+2).")
    numbers = _expand(part, "Epochs", is_whole=True)
    unknown = [number for number in numbers if number not in known]
    if unknown:
        raise AthanorError(f"Epochs: {_shown(unknown[0])} was not saved; saved are {_in_short(known)}.")
    return tuple(int(number) for number in numbers)


def _in_short(numbers: Sequence[int]) -> str:
    told = list(map(str, numbers))
    return ", ".join(told if len(told) <= 24 else [*told[:12], "…", *told[-11:]])
