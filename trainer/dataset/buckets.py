"""Aspect-ratio buckets by kohya's algorithm (sd-scripts: make_bucket_resolutions, BucketManager)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import raise_problems
from ..types import Placement
from .fit import centred, covering

MAX_SIDE_PX = 16_384


def make_bucket_sizes(resolution_px: int, min_px: int, max_px: int, step_px: int) -> tuple[tuple[int, int], ...]:
    """All (width, height) in multiples of `step_px`, sides from `min_px` to `max_px`, area at most `resolution_px` squared.

    As kohya does, `min_px` is rounded down to the step and `max_px` up.
    Raises InvalidJobError for sizes that allow no bucket.
    """
    raise_problems(size_problems(resolution_px, min_px, max_px, step_px))
    area = resolution_px * resolution_px
    low, high = min_px // step_px * step_px, -(-max_px // step_px) * step_px
    square = resolution_px // step_px * step_px
    sizes = {(square, square)}
    for width in range(low, high + 1, step_px):
        height = min(high, area // width // step_px * step_px)
        if height >= low:
            sizes |= {(width, height), (height, width)}
    return tuple(sorted(sizes))


def nearest_bucket(size_px: tuple[int, int], bucket_sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The bucket of exactly the image's size, or that of the nearest aspect ratio; among equals the first."""
    ratio = size_px[0] / size_px[1]
    return size_px if size_px in bucket_sizes else min(bucket_sizes, key=lambda each: abs(each[0] / each[1] - ratio))


def select_bucket(size_px: tuple[int, int], bucket_sizes: Sequence[tuple[int, int]]) -> Placement:
    """Into the bucket of the nearest aspect ratio (or exactly the image's size), covered whole, cut at the centre.

    `bucket_sizes` in rising order: among equals the first is taken.
    """
    bucket = nearest_bucket(size_px, bucket_sizes)
    return centred(bucket, covering(size_px, bucket))


def select_bucket_without_upscale(size_px: tuple[int, int], resolution_px: int, step_px: int) -> Placement | None:
    """Never enlarged: an image over the area is shrunk to it, then each side is cut down to a multiple of the step.

    None for an image with a side that is, or would be after shrinking, shorter than one step.
    """
    width, height = resized = size_px
    area = resolution_px * resolution_px
    if width * height > area:
        ratio = width / height
        ideal_width = math.sqrt(area * ratio)
        by_width = _rounded(ideal_width, step_px)
        height_by_width = _rounded(by_width / ratio, step_px)
        by_height = _rounded(area / ideal_width, step_px)
        width_by_height = _rounded(by_height * ratio, step_px)
        if not (by_width and height_by_width and by_height):
            return None
        if abs(by_width / height_by_width - ratio) < abs(width_by_height / by_height - ratio):
            resized = (by_width, int(by_width / ratio + 0.5))
        else:
            resized = (int(by_height * ratio + 0.5), by_height)
    bucket = (resized[0] // step_px * step_px, resized[1] // step_px * step_px)
    return centred(bucket, resized) if all(bucket) else None


def size_text(size_px: tuple[int, int]) -> str:
    return f"{size_px[0]} x {size_px[1]}"


def size_problems(resolution_px: int, min_px: int, max_px: int, step_px: int) -> list[str]:
    if not 1 <= step_px <= 1024:
        return [f"The bucket step is {step_px} px; it must be from 1 to 1024 px, and a multiple of what the model family asks for."]
    problems = []
    if not step_px <= resolution_px <= MAX_SIDE_PX:
        problems.append(f"The resolution is {resolution_px} px; it must be from one step ({step_px} px) to {MAX_SIDE_PX} px.")
    if min_px < step_px:
        problems.append(f"The shortest side is {min_px} px, less than one step of {step_px} px; raise it to {step_px} px or more.")
    if min_px > resolution_px:
        problems.append(f"The shortest side is {min_px} px, more than the resolution of {resolution_px} px; lower it or raise the resolution.")
    if not resolution_px <= max_px <= MAX_SIDE_PX:
        problems.append(f"The longest side is {max_px} px; it must be from the resolution ({resolution_px} px) to {MAX_SIDE_PX} px.")
    return problems


def _rounded(value_px: float, step_px: int) -> int:
    return int(value_px + 0.5) // step_px * step_px
