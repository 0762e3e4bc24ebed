"""From an image file to what a tagger was trained on, step by step as its authors do it.

Reference for WD: `prepare_image` of the space SmilingWolf/wd-tagger on Hugging Face. The order and the filters are part of the
model: other ones move scores across thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from .errors import TaggerError

PREPROCESSING_VERSION = 3
"""Counts up when the pixels change that a model gets for the same file: scores that were kept are then old."""

_WHITE = (255, 255, 255)
_MAX_PADDED_PX = 8192
"""A strip of 800 x 20,000 px would become a square of more than a gigabyte; it is made smaller before."""
_DEEP_MODES = ("F", "I", "I;16", "I;16B", "I;16L", "I;16N")


Fit = Literal["pad", "resize-then-pad", "resize-then-extend", "stretch"]
Resample = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """What a model wants to be done to an upright RGB image. The defaults are those of the WD taggers."""

    side_px: int = 448
    fit: Fit = "pad"
    """How it becomes a square: padded at its own size and then resized, resized and then padded or its edges drawn out, or stretched."""
    pad_colour: tuple[int, int, int] = _WHITE
    resample: Resample = "bicubic"
    channels: Literal["BGR", "RGB"] = "BGR"
    scale: float = 1.0
    """Values from 0 to 255 are multiplied by it."""
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    """Of red, green and blue, after scaling: what a model gets is (value - mean) / std."""


class UnreadableImageError(TaggerError):
    """An image file that cannot be decoded."""


def prepare_file(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    """float32 [side_px, side_px, 3]: the image at `path` as the model wants it. Raises UnreadableImageError."""
    return prepare(open_upright(path), preprocessing)


def open_upright(path: Path) -> Image.Image:
    """The image turned by its EXIF orientation, RGB, transparent parts white. Of an animation the first frame.

    Raises UnreadableImageError for whatever keeps the file from being decoded.
    """
    try:
        # Not by its path: of an uncompressed TIFF that lies on its side, Pillow then maps the file into memory by the wrong size.
        with path.open("rb") as file, Image.open(file) as image:
            image.load()
            return _on_white(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, ValueError, struct.error and more for broken files
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        raise UnreadableImageError(f"{path} cannot be read as an image: {reason}.") from error


def prepare(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """float32 [side_px, side_px, 3] of an RGB image. Height comes first whatever the model's layout: `Tagger` turns whole batches."""
    values = np.asarray(_square(image, preprocessing), dtype=np.float32)
    if preprocessing.scale != 1:
        values = values * np.float32(preprocessing.scale)
    if preprocessing.mean != (0, 0, 0) or preprocessing.std != (1, 1, 1):
        values = (values - np.float32(preprocessing.mean)) / np.float32(preprocessing.std)
    return np.ascontiguousarray(values[:, :, ::-1] if preprocessing.channels == "BGR" else values)


def _square(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    side_px, resample = preprocessing.side_px, Image.Resampling[preprocessing.resample.upper()]
    if preprocessing.fit == "pad":
        if max(image.size) > _MAX_PADDED_PX:
            image = image.resize([max(1, round(own_px * _MAX_PADDED_PX / max(image.size))) for own_px in image.size], Image.Resampling.BICUBIC)
        image = _padded(image, max(image.size), preprocessing.pad_colour)
    elif preprocessing.fit == "resize-then-pad":
        longer_px = max(image.size)
        size = tuple(max(1, int(side_px * own_px / longer_px)) for own_px in image.size)
        image = _padded(image.resize(size, resample) if image.size != size else image, side_px, preprocessing.pad_colour)
    elif preprocessing.fit == "resize-then-extend":
        image = _extended(image, side_px, resample)
    return image if image.size == (side_px, side_px) else image.resize((side_px, side_px), resample)


def _padded(image: Image.Image, side_px: int, colour: tuple[int, int, int]) -> Image.Image:
    square = Image.new("RGB", (side_px, side_px), colour)
    square.paste(image, ((side_px - image.width) // 2, (side_px - image.height) // 2))
    return square


def _extended(image: Image.Image, side_px: int, resample: Image.Resampling) -> Image.Image:
    """As `resize_image` of A1111's webui in its mode "resize and fill": what is missing is drawn out of the two edges."""
    longer_px = max(image.size)
    width, height = (max(1, own_px * side_px // longer_px) for own_px in image.size)
    inner = image.resize((width, height), resample)
    left, top = side_px // 2 - width // 2, side_px // 2 - height // 2
    square = Image.new("RGB", (side_px, side_px))
    square.paste(inner, (left, top))
    if top > 0:
        square.paste(inner.resize((side_px, top), box=(0, 0, width, 0)), (0, 0))
        square.paste(inner.resize((side_px, top), box=(0, height, width, height)), (0, top + height))
    elif left > 0:
        square.paste(inner.resize((left, side_px), box=(0, 0, 0, height)), (0, 0))
        square.paste(inner.resize((left, side_px), box=(width, 0, width, height)), (left + width, 0))
    return square


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in _DEEP_MODES:
        return _from_deep(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    canvas = Image.new("RGBA", image.size, _WHITE)
    canvas.alpha_composite(image.convert("RGBA"))
    return canvas.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """Of 16 or 32 bits or floats. Pillow clips such images at 255 when it converts them: nearly everything would be white, or black."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    highest = float(values.max(initial=0))
    if image.mode == "F" and highest <= 1:
        values *= 255
    elif highest > 255:
        values /= max(257.0, highest / 255)
    return Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8))
