"""Aspect-ratio buckets by kohya's algorithm (sd-scripts: make_bucket_resolutions, BucketManager)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import AthanorError, raise_problems
from ..types import Dataset, Placement, Sample

_CROPPED_MUCH = 0.2
_NUM_NAMES = 5
_MAX_SIDE_PX = 16_384


@dataclass(frozen=True)
class BucketCount:
    """What lies in one bucket."""

    bucket_px: tuple[int, int]
    num_images: int
    """Images to train on: role "train" or "regularization"."""
    num_draws: int
    """The same with their repeats: how often an epoch draws from this bucket."""
    num_held_out: int
    cropped_share: float
    """Mean share of the area that the cut takes from the images, 0 to 1."""
    upscaled: tuple[str, ...]
    """File names of the images that are enlarged."""


def make_bucket_sizes(resolution_px: int, min_px: int, max_px: int, step_px: int) -> tuple[tuple[int, int], ...]:
    """All (width, height) in multiples of `step_px`, sides from `min_px` to `max_px`, area at most `resolution_px` squared.

    As kohya does, `min_px` is rounded down to the step and `max_px` up.
    Raises InvalidJobError for sizes that allow no bucket.
    """
    raise_problems(_size_problems(resolution_px, min_px, max_px, step_px))
    area = resolution_px * resolution_px
    low, high = min_px // step_px * step_px, -(-max_px // step_px) * step_px
    square = resolution_px // step_px * step_px
    sizes = {(square, square)}
    for width in range(low, high + 1, step_px):
        height = min(high, area // width // step_px * step_px)
        if height >= low:
            sizes |= {(width, height), (height, width)}
    return tuple(sorted(sizes))


def select_bucket(size_px: tuple[int, int], bucket_sizes: Sequence[tuple[int, int]]) -> Placement:
    """Into the bucket of the nearest aspect ratio (or exactly the image's size), covered whole, cut at the centre.

    `bucket_sizes` in rising order: among equals the first is taken.
    """
    width, height = size_px
    ratio = width / height
    bucket = size_px if size_px in bucket_sizes else min(bucket_sizes, key=lambda each: abs(each[0] / each[1] - ratio))
    scale = bucket[1] / height if ratio > bucket[0] / bucket[1] else bucket[0] / width
    return _centred(bucket, (int(width * scale + 0.5), int(height * scale + 0.5)))


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
        if not (by_width and height_by_width and by_height and width_by_height):
            return None
        if abs(by_width / height_by_width - ratio) < abs(width_by_height / by_height - ratio):
            resized = (by_width, int(by_width / ratio + 0.5))
        else:
            resized = (int(by_height * ratio + 0.5), by_height)
    bucket = (resized[0] // step_px * step_px, resized[1] // step_px * step_px)
    return _centred(bucket, resized) if all(bucket) else None


def assign_buckets(dataset: Dataset, *, resolution_px: int, min_px: int, max_px: int, step_px: int, upscale: bool) -> Dataset:
    """The dataset with a placement for every sample, and notes on what that costs.

    With `upscale` the buckets are those of `make_bucket_sizes`, and small images are enlarged into them. Without it they
    follow from the images, `min_px` and `max_px` do not count, and an image under one step is left out with a note.
    Raises InvalidJobError for sizes that allow no bucket, AthanorError if no image is left.
    """
    problems = _size_problems(resolution_px, min_px, max_px, step_px) if upscale else _size_problems(resolution_px, step_px, _MAX_SIDE_PX, step_px)
    raise_problems(problems)
    if not dataset.samples:
        raise AthanorError("There are no images to put into buckets: the dataset is empty.")
    sizes = make_bucket_sizes(resolution_px, min_px, max_px, step_px) if upscale else ()
    placed, too_small = [], []
    for sample in dataset.samples:
        size_px = (sample.width_px, sample.height_px)
        placement = select_bucket(size_px, sizes) if upscale else select_bucket_without_upscale(size_px, resolution_px, step_px)
        if placement is None:
            too_small.append(sample)
        else:
            placed.append(replace(sample, placement=placement))
    if not placed:
        raise AthanorError(
            f"No image fills a bucket: all are shorter than one step of {step_px} px on a side. Turn upscale on, or use larger images."
        )
    notes = [*_left_out(too_small, step_px), *_enlarged(placed), *_cut(placed), *_lonely(placed)]
    return dataset.with_samples(tuple(placed), *notes)


def scale_of(sample: Sample) -> float:
    """By how much the placement enlarges (over 1) or shrinks (under 1) the image."""
    if sample.placement is None:
        return 1.0
    return max(sample.placement.resized_px[0] / sample.width_px, sample.placement.resized_px[1] / sample.height_px)


def cropped_share(sample: Sample) -> float:
    """Which share of the image's area the placement cuts off, 0 to 1."""
    if sample.placement is None:
        return 0.0
    return 1.0 - math.prod(sample.placement.bucket_px) / math.prod(sample.placement.resized_px)


def is_upscaled(sample: Sample) -> bool:
    # Rounding to whole pixels may add half of one.
    placement = sample.placement
    return placement is not None and (placement.resized_px[0] > sample.width_px or placement.resized_px[1] > sample.height_px)


def bucket_counts(dataset: Dataset) -> tuple[BucketCount, ...]:
    """The buckets that hold something, from tall to wide. Samples without a placement do not count."""
    by_size: defaultdict[tuple[int, int], list[Sample]] = defaultdict(list)
    for sample in dataset.samples:
        if sample.placement is not None:
            by_size[sample.placement.bucket_px].append(sample)
    return tuple(_count(size, by_size[size]) for size in sorted(by_size, key=lambda size: (size[0] / size[1], size)))


def bucket_report(dataset: Dataset) -> str:
    """A plain table for people: each bucket with its counts, ratio, cropped share and enlarged images, then the notes."""
    counts = bucket_counts(dataset)
    if not counts:
        return "No image has a bucket yet."
    rows = [("bucket", "ratio", "images", "an epoch", "held out", "cropped", "enlarged")]
    for count in counts:
        ratio = f"{count.bucket_px[0] / count.bucket_px[1]:.2f}"
        numbers = (str(count.num_images), str(count.num_draws), str(count.num_held_out), f"{100 * count.cropped_share:.1f} %")
        rows.append((size_text(count.bucket_px), ratio, *numbers, _listed(count.upscaled) or "-"))
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    table = ["  ".join([*(cell.rjust(width) for cell, width in zip(row[:6], widths, strict=True)), row[6]]).rstrip() for row in rows]
    num_images, num_draws, num_held_out = (sum(getattr(count, name) for count in counts) for name in ("num_images", "num_draws", "num_held_out"))
    summary = f"{num_images} images, {num_draws} an epoch with repeats, {num_held_out} held out, in {len(counts)} bucket{_s(counts)}."
    return "\n".join([summary, "", *table, *([""] if dataset.notes else []), *dataset.notes])


def size_text(size_px: tuple[int, int]) -> str:
    return f"{size_px[0]} x {size_px[1]}"


def _size_problems(resolution_px: int, min_px: int, max_px: int, step_px: int) -> list[str]:
    if not 1 <= step_px <= 1024:
        return [f"The bucket step is {step_px} px; it must be from 1 to 1024 px, and a multiple of what the model family asks for."]
    problems = []
    if not step_px <= resolution_px <= _MAX_SIDE_PX:
        problems.append(f"The resolution is {resolution_px} px; it must be from one step ({step_px} px) to {_MAX_SIDE_PX} px.")
    if min_px < step_px:
        problems.append(f"The shortest side is {min_px} px, less than one step of {step_px} px; raise it to {step_px} px or more.")
    if min_px > resolution_px:
        problems.append(f"The shortest side is {min_px} px, more than the resolution of {resolution_px} px; lower it or raise the resolution.")
    if not resolution_px <= max_px <= _MAX_SIDE_PX:
        problems.append(f"The longest side is {max_px} px; it must be from the resolution ({resolution_px} px) to {_MAX_SIDE_PX} px.")
    return problems


def _centred(bucket_px: tuple[int, int], resized_px: tuple[int, int]) -> Placement:
    return Placement(bucket_px, resized_px, ((resized_px[0] - bucket_px[0]) // 2, (resized_px[1] - bucket_px[1]) // 2))


def _rounded(value_px: float, step_px: int) -> int:
    return int(value_px + 0.5) // step_px * step_px


def _count(bucket_px: tuple[int, int], samples: list[Sample]) -> BucketCount:
    trained = [sample for sample in samples if sample.role != "validation"]
    return BucketCount(
        bucket_px,
        num_images=len(trained),
        num_draws=sum(sample.repeats for sample in trained),
        num_held_out=len(samples) - len(trained),
        cropped_share=sum(map(cropped_share, samples)) / len(samples),
        upscaled=tuple(Path(sample.path).name for sample in samples if is_upscaled(sample)),
    )


def _left_out(samples: list[Sample], step_px: int) -> list[str]:
    sentence = "{} ({} px) is too small or too narrow for a step of {} px and was left out; turn upscale on to use it."
    return [sentence.format(Path(sample.path).name, size_text((sample.width_px, sample.height_px)), step_px) for sample in samples]


def _enlarged(samples: list[Sample]) -> list[str]:
    found = sorted((sample for sample in samples if is_upscaled(sample)), key=lambda sample: -scale_of(sample))
    if not found:
        return []
    names = _listed([f"{Path(sample.path).name} ({scale_of(sample):.2f} times)" for sample in found])
    return [f"{_images(found)} enlarged to fill the bucket, which blurs: {names}. Larger originals, a lower resolution or upscale off avoid it."]


def _cut(samples: list[Sample]) -> list[str]:
    found = sorted((sample for sample in samples if cropped_share(sample) > _CROPPED_MUCH), key=lambda sample: -cropped_share(sample))
    if not found:
        return []
    names = _listed([f"{Path(sample.path).name} ({100 * cropped_share(sample):.0f} %)" for sample in found])
    return [f"{_images(found)} cut by more than {100 * _CROPPED_MUCH:.0f} % of the area: {names}. Look whether what matters is still in the picture."]


def _lonely(samples: list[Sample]) -> list[str]:
    by_size: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for sample in samples:
        if sample.role != "validation" and sample.placement is not None:
            by_size[sample.placement.bucket_px].append(Path(sample.path).name)
    found = [f"{size_text(size)} ({names[0]})" for size, names in sorted(by_size.items()) if len(names) == 1]
    if not found or len(by_size) == 1:
        return []
    subject = "1 bucket holds" if len(found) == 1 else f"{len(found)} buckets hold"
    return [f"{subject} a single image: {_listed(found)}. A batch there has no other picture in it."]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NUM_NAMES
    return ", ".join(names[:_NUM_NAMES]) + (f" and {more} more" if more > 0 else "")


def _images(samples: list[Sample]) -> str:
    return "1 image is" if len(samples) == 1 else f"{len(samples)} images are"


def _s(things: Sequence[object]) -> str:
    return "" if len(things) == 1 else "s"
