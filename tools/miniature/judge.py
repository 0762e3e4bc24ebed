"""Says what a picture of the miniature's world shows: shape, colour, background.

It measures pixels and knows nothing of any model: the backgrounds are achromatic and the shapes are saturated, so
chroma separates them; the shape is the outline that overlaps best after both are fitted into the same box.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from . import world

_GRID = 48
_MIN_OVERLAP = 0.72
_MIN_AREA = 0.02


@dataclass(frozen=True)
class Verdict:
    """What the judge sees; None where nothing fits well enough. `overlap` is the intersection over union, 0..1."""

    shape: str | None
    colour: str | None
    background: str | None
    overlap: float


def judge(image: Image.Image) -> Verdict:
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    mask = _largest_region(_saturated(pixels))
    background = _background(pixels)
    if mask.mean() < _MIN_AREA:
        return Verdict(None, None, background, 0.0)
    shape, overlap = _best_shape(mask)
    return Verdict(shape if overlap >= _MIN_OVERLAP else None, _colour(pixels, mask), background, overlap)


def _saturated(pixels: np.ndarray) -> np.ndarray:
    return pixels.max(axis=-1) - pixels.min(axis=-1) > 48


def _largest_region(mask: np.ndarray) -> np.ndarray:
    """The largest 4-connected region, its holes (eyes, mouth) filled."""
    labels = np.arange(1, mask.size + 1).reshape(mask.shape) * mask
    regions = _connected(labels)
    if not regions.any():
        return np.zeros_like(mask)
    values, counts = np.unique(regions[regions > 0], return_counts=True)
    region = regions == values[counts.argmax()]
    outside = np.pad(~region, 1, constant_values=True)
    connected = _connected(np.arange(1, outside.size + 1).reshape(outside.shape) * outside)
    return ~(connected == connected[0, 0])[1:-1, 1:-1]


def _connected(labels: np.ndarray) -> np.ndarray:
    """Spreads the largest label through each 4-connected region of non-zero labels."""
    inside = labels > 0
    while True:
        spread = labels.copy()
        for axis in (0, 1):
            for step in (1, -1):
                moved = np.roll(spread, step, axis)
                edge = 0 if step == 1 else -1
                moved[(edge, slice(None)) if axis == 0 else (slice(None), edge)] = 0
                spread = np.where(inside, np.maximum(spread, moved), 0)
        if np.array_equal(spread, labels):
            return labels
        labels = spread


def _colour(pixels: np.ndarray, mask: np.ndarray) -> str:
    inside = pixels[mask & _saturated(pixels)]
    bright = inside[inside.max(axis=-1) >= np.percentile(inside.max(axis=-1), 40)]
    middle = np.median(bright, axis=0)
    return min(world.COLOURS, key=lambda name: float(np.abs(middle - np.array(world.COLOURS[name])).sum()))


def _background(pixels: np.ndarray) -> str | None:
    grey = pixels[~_saturated(pixels)]
    border = np.concatenate([pixels[:4].reshape(-1, 3), pixels[-4:].reshape(-1, 3), pixels[:, :4].reshape(-1, 3), pixels[:, -4:].reshape(-1, 3)])
    border = border[border.max(axis=-1) - border.min(axis=-1) <= 48].mean(axis=-1)
    if len(border) < 32 or len(grey) < 32:
        return None
    low, middle, high = np.percentile(border, (15, 50, 85))
    if high - low > 35:
        return "striped background" if low > 110 else None
    return "white background" if middle > 218 else "black background" if middle < 75 else "grey background" if 110 < middle < 190 else None


def _fitted(mask: np.ndarray) -> np.ndarray:
    """The region cut at its bounding box and scaled to a fixed height, aspect kept: [_GRID, 2 * _GRID]."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    width = min(2 * _GRID, max(1, round(_GRID * cut.shape[1] / cut.shape[0])))
    small = np.asarray(Image.fromarray(cut.astype(np.uint8) * 255).resize((width, _GRID), Image.Resampling.BILINEAR)) > 127
    canvas = np.zeros((_GRID, 2 * _GRID), dtype=bool)
    left = (2 * _GRID - width) // 2
    canvas[:, left : left + width] = small
    return canvas


@functools.cache
def _templates() -> tuple[tuple[str, np.ndarray], ...]:
    side, centre, radius = 200, 100, 70
    found = []
    for shape in (*world.SHAPES, world.CONCEPT_SHAPE):
        image = Image.new("L", (side, side))
        points = [(centre + radius * x, centre + radius * y) for x, y in world.outline(shape)]
        ImageDraw.Draw(image).polygon(points, fill=255)
        for angle in (-6, 0, 6):
            found.append((shape, _fitted(np.asarray(image.rotate(angle)) > 127)))
    return tuple(found)


def _best_shape(mask: np.ndarray) -> tuple[str, float]:
    fitted = _fitted(mask)
    scores = [(shape, float((fitted & template).sum() / (fitted | template).sum())) for shape, template in _templates()]
    return max(scores, key=lambda pair: pair[1])
