"""Files of adapters and their strengths, a line each: `style.safetensors: 0.8`, or `style.safetensors: 0.8, 0.4` with one for the text encoders."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ..errors import AthanorError
from .additions import Addition

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
_STRENGTHS = re.compile(rf"\s*({_NUMBER})\s*(?:,\s*({_NUMBER}))?\s*")


def read_additions(text: str, locate: Callable[[str], Path] = Path) -> tuple[Addition, ...]:
    """Empty lines and those behind # count nothing; without a number the strength is 1. `locate` finds the file of a name.

    Raises AthanorError for a strength that is no number.
    """
    found = []
    for line in (raw.strip() for raw in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        name, colon, numbers = line.rpartition(":")
        strengths = _STRENGTHS.fullmatch(numbers)
        if colon and strengths:
            model = float(strengths[1])
            found.append(Addition(locate(name.strip()), model, float(strengths[2]) if strengths[2] else model))
        # A drive's colon stands before its path.
        elif not colon or "/" in numbers or "\\" in numbers or numbers.lower().endswith(".safetensors"):
            found.append(Addition(locate(line)))
        else:
            raise AthanorError(f"LoRAs: {numbers.strip()!r} in {line!r} is not a strength; write for example style.safetensors: 0.7.")
    return tuple(found)
