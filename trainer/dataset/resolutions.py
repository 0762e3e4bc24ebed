"""Training in several resolutions at once: every image once in each, as sd-scripts does with several `[[datasets]]` of one folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ..errors import AthanorError
from ..types import Dataset


def read_resolutions(text: str) -> tuple[int, ...]:
    """Sides in pixels of "768, 1024", without repetition. Raises AthanorError for anything that is not one."""
    parts = [part for part in re.split(r"[\s,;，、]+", text.strip()) if part]
    wrong = [part for part in parts if not part.isdecimal() or int(part) == 0]
    if wrong:
        raise AthanorError(f"More resolutions: {wrong[0]!r} is no side in pixels; write numbers with commas between, for example 768, 1024.")
    return tuple(dict.fromkeys(map(int, parts)))


def in_resolutions(resolutions_px: Sequence[int], place: Callable[[int], Dataset]) -> Dataset:
    """One dataset of what `place` makes for each resolution: every image is there once for each, held-out ones too.

    An image that comes into the same size twice, as small ones do that are not enlarged, is there once.
    Notes of a further resolution begin with it.
    """
    placed = [place(resolution_px) for resolution_px in dict.fromkeys(resolutions_px)]
    samples = tuple(dict.fromkeys(sample for dataset in placed for sample in dataset.samples))
    notes = list(placed[0].notes)
    for resolution_px, dataset in zip(list(dict.fromkeys(resolutions_px))[1:], placed[1:], strict=True):
        notes += [f"At {resolution_px} px: {note}" for note in dataset.notes if note not in placed[0].notes]
    return Dataset(samples, placed[0].trigger, tuple(notes))
