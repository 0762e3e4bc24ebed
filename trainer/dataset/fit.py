"""How one image is fitted into one bucket, and what that costs."""

from __future__ import annotations

import math
import re
from typing import Literal

from ..errors import AthanorError
from ..types import Placement, Sample

Fit = Literal["cover", "pad", "stretch"]
Point = tuple[float, float]
"""Horizontal and vertical share of an image, 0 to 1."""

CENTRE: Point = (0.5, 0.5)
MAX_PARTS = 100


def fitted(
    size_px: tuple[int, int], bucket_px: tuple[int, int], fit: Fit, *, focus: Point = CENTRE, border: str = "", enlarge: bool = True
) -> Placement:
    """Into the bucket: `cover` it and cut around `focus`, `pad` what is left with `border`, or `stretch` to its shape.

    With `enlarge` off a smaller image keeps its size; then it must not be smaller than the bucket, unless it is padded.
    """
    if fit == "stretch":
        return Placement(bucket_px, bucket_px, (0, 0))
    if fit == "pad":
        scale = min(bucket_px[0] / size_px[0], bucket_px[1] / size_px[1])
        scale = scale if enlarge else min(1.0, scale)
        resized = (max(1, min(bucket_px[0], int(size_px[0] * scale + 0.5))), max(1, min(bucket_px[1], int(size_px[1] * scale + 0.5))))
        placement = centred(bucket_px, resized)
        return Placement(bucket_px, resized, placement.crop_px, border if resized != bucket_px else "")
    return around(focus, bucket_px, covering(size_px, bucket_px))


def covering(size_px: tuple[int, int], bucket_px: tuple[int, int]) -> tuple[int, int]:
    """The size in which the image just covers the bucket."""
    (width, height), ratio = size_px, size_px[0] / size_px[1]
    scale = bucket_px[1] / height if ratio > bucket_px[0] / bucket_px[1] else bucket_px[0] / width
    return int(width * scale + 0.5), int(height * scale + 0.5)


def centred(bucket_px: tuple[int, int], resized_px: tuple[int, int]) -> Placement:
    return Placement(bucket_px, resized_px, ((resized_px[0] - bucket_px[0]) // 2, (resized_px[1] - bucket_px[1]) // 2))


def around(focus: Point, bucket_px: tuple[int, int], resized_px: tuple[int, int]) -> Placement:
    """Cut so that `focus` is as near to the middle of the bucket as the image allows."""
    if focus == CENTRE:
        return centred(bucket_px, resized_px)
    sides = zip(focus, bucket_px, resized_px, strict=True)
    left, top = (min(max(0, round(share * resized - bucket / 2)), resized - bucket) for share, bucket, resized in sides)
    return Placement(bucket_px, resized_px, (left, top))


def parts(placement: Placement, overlap: float) -> tuple[Placement, ...]:
    """As many evenly spaced cuts side by side as show all of the image, each overlapping the next by at least that share.

    As A1111's "split oversized images": ceil((length - side * overlap) / (side * (1 - overlap))). One alone for an image of
    which hundreds would be made.
    """
    axis = 0 if placement.resized_px[0] > placement.bucket_px[0] else 1
    length, side = placement.resized_px[axis], placement.bucket_px[axis]
    number = math.ceil((length - side * overlap) / (side * (1 - overlap))) if length > side else 1
    if not 2 <= number <= MAX_PARTS:
        return (placement,)
    starts = [round(i * (length - side) / (number - 1)) for i in range(number)]
    crops = [(start, placement.crop_px[1]) if axis == 0 else (placement.crop_px[0], start) for start in starts]
    return tuple(Placement(placement.bucket_px, placement.resized_px, crop, placement.border) for crop in crops)


def checked_border(text: str) -> str:
    """ "edge", or a colour as #rrggbb. Raises AthanorError for anything else."""
    text = text.strip().lower()
    if text == "edge" or re.fullmatch(r"#[0-9a-f]{6}", text):
        return text
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise AthanorError(f"The border {text!r} is no colour; write edge, a name such as white or grey, or #rrggbb.") from None
    return f"#{red:02x}{green:02x}{blue:02x}"


def scale_of(sample: Sample) -> float:
    """By how much the placement enlarges (over 1) or shrinks (under 1) the image."""
    if sample.placement is None:
        return 1.0
    return max(sample.placement.resized_px[0] / sample.width_px, sample.placement.resized_px[1] / sample.height_px)


def cropped_share(sample: Sample) -> float:
    """Which share of the image's area the placement cuts off, 0 to 1."""
    return 0.0 if sample.placement is None else 1.0 - _shown(sample.placement) / math.prod(sample.placement.resized_px)


def padded_share(sample: Sample) -> float:
    """Which share of the bucket is not the image, 0 to 1."""
    return 0.0 if sample.placement is None else 1.0 - _shown(sample.placement) / math.prod(sample.placement.bucket_px)


def is_upscaled(sample: Sample) -> bool:
    # Rounding to whole pixels may add half of one.
    placement = sample.placement
    return placement is not None and (placement.resized_px[0] > sample.width_px or placement.resized_px[1] > sample.height_px)


def _shown(placement: Placement) -> int:
    """Pixels of the resized image that lie in the bucket."""
    return math.prod(min(side, bucket) for side, bucket in zip(placement.resized_px, placement.bucket_px, strict=True))
