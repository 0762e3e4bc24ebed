"""Which images are held out to measure the loss on what the training never sees."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Collection

from ..errors import AthanorError


def held_out(names: Collection[str], percent: float) -> frozenset[str]:
    """Those of `names` (paths relative to the dataset's folder, with /) that are held out.

    Each name is hashed to a number from 0 to 1 and held out where that is below `percent` / 100. So the choice hangs on
    nothing but the name: adding images moves no other image from one side to the other, on any computer. Two exceptions
    keep small datasets useful: with at least two images and a percentage above 0, the one of the smallest hash is always
    held out, and the one of the largest never.
    Raises AthanorError for a percentage outside 0 to 100.
    """
    if not 0 <= percent <= 100:
        raise AthanorError(f"The held-out share is {percent} %; it must be from 0 to 100.")
    if percent == 0 or len(names) < 2:
        return frozenset()
    ordered = sorted(names, key=lambda name: (_fraction(name), name))
    return frozenset([ordered[0], *(name for name in ordered[1:-1] if _fraction(name) < percent / 100)])


def _fraction(name: str) -> float:
    # macOS hands out decomposed letters, Windows composed ones.
    digest = hashlib.sha256(unicodedata.normalize("NFC", name).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
