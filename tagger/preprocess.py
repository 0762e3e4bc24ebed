"""From an image file to what a WD tagger was trained on, step by step as its authors do it.

Reference: `prepare_image` of the space SmilingWolf/wd-tagger on Hugging Face. The order and the filters are part of the model:
other ones move scores across thresholds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .errors import TaggerError

PREPROCESSING_VERSION = 1
"""Counts up when the pixels change that a model gets for the same file: scores that were kept are then old."""

_WHITE = (255, 255, 255)
_16_BIT_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")


class UnreadableImageError(TaggerError):
    """An image file that cannot be decoded."""


def prepare_file(path: Path, side_px: int) -> np.ndarray:
    """float32 [side_px, side_px, 3]: the image at `path` as the model wants it. Raises UnreadableImageError."""
    return prepare(open_upright(path), side_px)


def open_upright(path: Path) -> Image.Image:
    """The image turned by its EXIF orientation, RGB, transparent parts white. Of an animation the first frame.

    Raises UnreadableImageError for whatever keeps the file from being decoded.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return _on_white(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, ValueError, struct.error and more for broken files
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        raise UnreadableImageError(f"{path} cannot be read as an image: {reason}.") from error


def prepare(image: Image.Image, side_px: int) -> np.ndarray:
    """float32 [side_px, side_px, 3] of an RGB image: centred on a white square, resized bicubically if the size differs,
    channels blue, green, red, values 0 to 255.
    """
    longer_px = max(image.size)
    square = Image.new("RGB", (longer_px, longer_px), _WHITE)
    square.paste(image, ((longer_px - image.width) // 2, (longer_px - image.height) // 2))
    if longer_px != side_px:
        square = square.resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(square, dtype=np.float32)[:, :, ::-1])


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in _16_BIT_MODES:
        return _from_16_bit(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    canvas = Image.new("RGBA", image.size, _WHITE)
    canvas.alpha_composite(image.convert("RGBA"))
    return canvas.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Pillow clips such images at 255 when it converts them: nearly everything would be white."""
    values = np.asarray(image).astype(np.float32)
    if values.max(initial=0) > 255:
        values /= 257
    return Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8))
