"""Where the middle of a cut should be: what a picture is about.

Where faces are looked for, faces, corners and entropy have the weights that they have in the focal crop of A1111's training preprocess,
and corners are found as there. A face counts at the height of its eyes; nothing does that is in the lowest tenth of a picture, since
watermarks stand there. Not taken over: its entropy of black and white dots only, and the grey box over watermarks, which has corners itself.
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
from .corners import corners
from .crop import open_image
from .fit import CENTRE, Point

if TYPE_CHECKING:
    import numpy

Box = tuple[float, float, float, float]
"""Left, top, right and bottom as shares of a picture."""
FindFaces = Callable[[Image.Image], Sequence[Box]]
OnProgress = Callable[[int, int], None]

_FACES, _ENTROPY, _CORNERS = 0.9, 0.15, 0.5
_EYES = 0.33
_WATERMARKS = 0.9
_EDGES_PX, _CORNERS_PX, _FACES_PX = 192, 512, 640
_NUM_AT_ONCE = 32


def upper_third(samples: Sequence[Sample]) -> Sequence[Point]:
    """Of portraits mostly the feet are cut off then."""
    return [(0.5, 1 / 3)] * len(samples)


def by_edges(samples: Sequence[Sample], on_progress: OnProgress | None = None) -> Sequence[Point]:
    """Where the most edges are."""
    return _looked_at(samples, lambda image, _: edges_middle(_grey(image, _EDGES_PX)) or CENTRE, _EDGES_PX, on_progress)


def by_faces(samples: Sequence[Sample], find_faces: FindFaces, on_progress: OnProgress | None = None) -> Sequence[Point]:
    """Faces first, then corners and what is full of detail; without a face only those two."""
    return _looked_at(samples, partial(focal_point, find_faces=find_faces), _FACES_PX, on_progress)


def focal_point(image: Image.Image, window: Point, find_faces: FindFaces) -> Point:
    """The weighted mean of the middle of all faces, of the corners and of the window with the most entropy.

    `window`: the shares of width and height that stay.
    """
    faces = find_faces(image)
    grey = _grey(image, _CORNERS_PX)
    found: list[tuple[float, Point | None]] = [(_CORNERS, corners_middle(grey)), (_ENTROPY, entropy_middle(grey, window))]
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


def corners_middle(grey: numpy.ndarray) -> Point | None:
    """Mean of the corners; None where there are none. `grey` is float [height, width]."""
    found = corners(grey, watched=_WATERMARKS)
    if not len(found):
        return None
    across, down = (found.mean(axis=0) + 0.5) / grey.shape[::-1]
    return float(across), float(down)


def entropy_middle(grey: numpy.ndarray, window: Point) -> Point | None:
    """Of the part with the most entropy, of those that have the shares `window` of width and height; None where nothing is cut."""
    import numpy

    axis = 0 if window[0] <= window[1] else 1
    along = grey.T if axis == 0 else grey
    length = len(along)
    side = max(1, round(length * window[axis]))
    if length - side < 2:
        return None
    starts = numpy.unique(numpy.linspace(0, length - side, 33).astype(int))
    best = max(starts, key=lambda start: _entropy(along[start : start + side]))
    middle = float(best + side / 2) / length
    return (middle, 0.5) if axis == 0 else (0.5, middle)


def _entropy(window: numpy.ndarray) -> float:
    import numpy

    counts = numpy.bincount((window / 8).astype(int).ravel(), minlength=32)
    shares = counts[counts > 0] / window.size
    return float(-(shares * numpy.log2(shares)).sum())


def _grey(image: Image.Image, side_px: int) -> numpy.ndarray:
    import numpy

    small = image.convert("L")
    small.thumbnail((side_px, side_px), Image.Resampling.BOX)
    return numpy.asarray(small, numpy.float32)


def _window(sample: Sample) -> Point:
    """The shares of its width and height that stay when it is cut; without a bucket those of a square."""
    bucket, size = (
        ((1, 1), (sample.width_px, sample.height_px)) if sample.placement is None else (sample.placement.bucket_px, sample.placement.resized_px)
    )
    scale = min(size[0] / bucket[0], size[1] / bucket[1])
    return scale * bucket[0] / size[0], scale * bucket[1] / size[1]


def _looked_at(samples: Sequence[Sample], look: Callable[[Image.Image, Point], Point], side_px: int, on_progress: OnProgress | None) -> list[Point]:
    """A picture that cannot be read keeps its centre; the training says what is wrong with it."""

    def point(sample: Sample) -> Point:
        try:
            image = open_image(Path(sample.path), draft_px=side_px)
        except AthanorError:
            return CENTRE
        image.thumbnail((side_px, side_px), Image.Resampling.BOX)
        return look(image, _window(sample))

    points: list[Point] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="athanor-focus") as pool:
        for start in range(0, len(samples), _NUM_AT_ONCE):
            if on_progress is not None:
                on_progress(start, len(samples))
            points += pool.map(point, samples[start : start + _NUM_AT_ONCE])
    return points
