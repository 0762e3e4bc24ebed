"""Where the middle of a cut should be: what a picture is about.

The weights of faces, entropy and edges are those of the focal crop in A1111's training preprocess. A face counts at the height
of its eyes, edges in the lowest tenth of a picture do not, since watermarks stand there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..errors import AthanorError
from ..types import Sample
from .crop import open_image
from .fit import CENTRE, Point

if TYPE_CHECKING:
    import numpy

Box = tuple[float, float, float, float]
"""Left, top, right and bottom as shares of a picture."""
FindFaces = Callable[[Image.Image], Sequence[Box]]
OnProgress = Callable[[int, int], None]

_FACES, _ENTROPY, _EDGES = 0.9, 0.15, 0.5
_EYES = 0.33
_WATERMARKS = 0.9
_EDGES_PX, _FACES_PX = 192, 640
_NUM_AT_ONCE = 32


def upper_third(samples: Sequence[Sample]) -> Sequence[Point]:
    """Of portraits mostly the feet are cut off then."""
    return [(0.5, 1 / 3)] * len(samples)


def by_edges(samples: Sequence[Sample], on_progress: OnProgress | None = None) -> Sequence[Point]:
    """Where the most edges are."""
    return _looked_at(samples, lambda image: edges_middle(_grey(image)) or CENTRE, _EDGES_PX, on_progress)


def by_faces(samples: Sequence[Sample], find_faces: FindFaces, on_progress: OnProgress | None = None) -> Sequence[Point]:
    """Faces first, then edges and what is full of detail; without a face only those two."""
    return _looked_at(samples, partial(focal_point, find_faces=find_faces), _FACES_PX, on_progress)


def focal_point(image: Image.Image, find_faces: FindFaces) -> Point:
    """The weighted mean of the middle of all faces, of the edges and of the window with the most entropy."""
    faces = find_faces(image)
    grey = _grey(image)
    found: list[tuple[float, Point | None]] = [(_EDGES, edges_middle(grey)), (_ENTROPY, entropy_middle(grey))]
    if faces:
        middles = [((left + right) / 2, top + _EYES * (bottom - top)) for left, top, right, bottom in faces]
        found.append((_FACES, (sum(x for x, _ in middles) / len(middles), sum(y for _, y in middles) / len(middles))))
    known = [(weight, point) for weight, point in found if point is not None]
    total = sum(weight for weight, _ in known)
    return (sum(w * p[0] for w, p in known) / total, sum(w * p[1] for w, p in known) / total) if known else CENTRE


def edges_middle(grey: numpy.ndarray) -> Point | None:
    """Centre of gravity of the squared gradients; None where there are none. `grey` is float [height, width]."""
    import numpy

    energy = numpy.zeros_like(grey)
    energy[:, 1:-1] += (grey[:, 2:] - grey[:, :-2]) ** 2
    energy[1:-1] += (grey[2:] - grey[:-2]) ** 2
    energy[int(len(grey) * _WATERMARKS) :] = 0
    if not (total := energy.sum()):
        return None
    height, width = grey.shape
    across, down = energy.sum(axis=0) @ (numpy.arange(width) + 0.5), energy.sum(axis=1) @ (numpy.arange(height) + 0.5)
    return float(across / total / width), float(down / total / height)


def entropy_middle(grey: numpy.ndarray) -> Point | None:
    """Of the square window along the longer side that has the most entropy; None for a square picture."""
    import numpy

    height, width = grey.shape
    side, length = min(height, width), max(height, width)
    if length - side < 2:
        return None
    along = grey if height >= width else grey.T
    starts = numpy.unique(numpy.linspace(0, length - side, 33).astype(int))
    best = max(starts, key=lambda start: _entropy(along[start : start + side]))
    middle = float(best + side / 2) / length
    return (0.5, middle) if height >= width else (middle, 0.5)


def _entropy(window: numpy.ndarray) -> float:
    import numpy

    counts = numpy.bincount((window / 8).astype(int).ravel(), minlength=32)
    shares = counts[counts > 0] / window.size
    return float(-(shares * numpy.log2(shares)).sum())


def _grey(image: Image.Image) -> numpy.ndarray:
    import numpy

    small = image.convert("L")
    small.thumbnail((_EDGES_PX, _EDGES_PX), Image.Resampling.BOX)
    return numpy.asarray(small, numpy.float32)


def _looked_at(samples: Sequence[Sample], look: Callable[[Image.Image], Point], side_px: int, on_progress: OnProgress | None) -> list[Point]:
    """A picture that cannot be read keeps its centre; the training says what is wrong with it."""

    def point(sample: Sample) -> Point:
        try:
            image = open_image(Path(sample.path), draft_px=side_px)
        except AthanorError:
            return CENTRE
        image.thumbnail((side_px, side_px), Image.Resampling.BOX)
        return look(image)

    points: list[Point] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="athanor-focus") as pool:
        for start in range(0, len(samples), _NUM_AT_ONCE):
            if on_progress is not None:
                on_progress(start, len(samples))
            points += pool.map(point, samples[start : start + _NUM_AT_ONCE])
    return points
