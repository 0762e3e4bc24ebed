"""What a picture looks like as numbers, without any model: where its edges run and where its colours are.

Shapes: histograms of oriented gradients (Dalal and Triggs 2005: 9 directions, cells of 16 px in a picture of 128 px, blocks of 2 x 2 cells
of unit length), the channel with the strongest gradient counting. Colours: the mean of each of 8 x 8 fields in Y'CbCr, around grey, as
MPEG-7's colour layout has it (Manjunath et al. 2001). Both have unit length and count half, so that the product of two pictures is the mean
of two cosines: 1 is the same picture. It sees where things are; it knows nothing of what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import numpy

_SIDE_PX, _CELL_PX, _DIRECTIONS, _FIELDS = 128, 16, 9, 8


def look_of(picture: Image.Image) -> numpy.ndarray:
    """float32 [1956] of unit length."""
    import numpy

    rgb = picture.convert("RGB").resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return numpy.concatenate([_unit(_shapes(rgb)), _unit(_colours(rgb))]) * numpy.float32(0.5**0.5)


def looks_of(pictures: Sequence[Image.Image]) -> numpy.ndarray:
    """float32 [N, 1956]."""
    import numpy

    return numpy.stack([look_of(picture) for picture in pictures])


def _shapes(rgb: Image.Image) -> numpy.ndarray:
    import numpy

    pixels = numpy.asarray(rgb, dtype=numpy.float32)
    down, across = numpy.gradient(pixels, axis=(0, 1))
    strengths = numpy.hypot(down, across)
    strongest = strengths.argmax(axis=2)[..., None]
    down, across, strength = (numpy.take_along_axis(each, strongest, axis=2)[..., 0] for each in (down, across, strengths))
    # Directions without sign: an edge from dark to bright is as one from bright to dark. Each counts for its two nearest bins.
    turn = numpy.mod(numpy.arctan2(down, across), numpy.pi) / numpy.pi * _DIRECTIONS
    lower = numpy.floor(turn)
    share = turn - lower
    bins = numpy.zeros((_SIDE_PX, _SIDE_PX, _DIRECTIONS), dtype=numpy.float32)
    for number, weight in ((lower, 1 - share), (lower + 1, share)):
        index = numpy.mod(number, _DIRECTIONS).astype(int)[..., None]
        numpy.put_along_axis(bins, index, numpy.take_along_axis(bins, index, axis=2) + (strength * weight)[..., None], axis=2)
    num_cells = _SIDE_PX // _CELL_PX
    cells = bins.reshape(num_cells, _CELL_PX, num_cells, _CELL_PX, _DIRECTIONS).sum(axis=(1, 3))
    blocks = [cells[i : num_cells - 1 + i, j : num_cells - 1 + j] for i in (0, 1) for j in (0, 1)]
    stacked = numpy.concatenate(blocks, axis=2)
    # A block with next to no edges must not be blown up to a full one.
    return (stacked / numpy.sqrt((stacked**2).sum(axis=2, keepdims=True) + _CELL_PX**4)).ravel()


def _colours(rgb: Image.Image) -> numpy.ndarray:
    import numpy

    return (numpy.asarray(rgb.convert("YCbCr").resize((_FIELDS, _FIELDS), Image.Resampling.BOX), dtype=numpy.float32) - 127.5).ravel()


def _unit(values: numpy.ndarray) -> numpy.ndarray:
    import numpy

    length = float(numpy.linalg.norm(values))
    return (values / length if length > 1e-6 else numpy.zeros_like(values)).astype(numpy.float32)
