"""Images whose size or shape makes poor training material."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..types import Dataset, Sample
from .notes import listed, several

_EXTREME_RATIO = 3.0


def shape_notes(dataset: Dataset, resolution_px: int = 0) -> tuple[str, ...]:
    """On images with fewer pixels than a square of `resolution_px` (0 asks for none), and on very long or tall ones."""
    small = [sample for sample in dataset.samples if sample.width_px * sample.height_px < resolution_px**2]
    small.sort(key=lambda sample: sample.width_px * sample.height_px)
    long = [sample for sample in dataset.samples if _ratio(sample) > _EXTREME_RATIO]
    long.sort(key=_ratio, reverse=True)
    notes = []
    if small:
        notes.append(
            f"{several(len(small), 'image')} with fewer pixels than {resolution_px} x {resolution_px}, to be enlarged or trained small: {_sizes(small)}."
        )
    if long:
        notes.append(f"{several(len(long), 'image')} more than {_EXTREME_RATIO:.0f} times as long as wide, to be cut much: {_sizes(long)}.")
    return tuple(notes)


def _ratio(sample: Sample) -> float:
    return max(sample.width_px, sample.height_px) / min(sample.width_px, sample.height_px)


def _sizes(samples: Sequence[Sample]) -> str:
    return listed([f"{Path(sample.path).name} ({sample.width_px} x {sample.height_px} px)" for sample in samples])
