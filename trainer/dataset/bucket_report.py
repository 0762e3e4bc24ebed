"""What the buckets of a dataset hold and cost, counted and told to people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..types import Dataset, Sample
from .buckets import size_text
from .fit import cropped_share, is_upscaled, padded_share, scale_of
from .notes import listed

_CROPPED_MUCH = 0.2
_PADDED_MUCH = 0.1
_BATCH_SIZES = (1, 2, 4, 8)


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
    padded_share: float
    """Mean share of the bucket that is filled up, 0 to 1."""
    upscaled: tuple[str, ...]
    """File names of the images that are enlarged."""


def bucket_counts(dataset: Dataset) -> tuple[BucketCount, ...]:
    """The buckets that hold something, from tall to wide. Samples without a placement do not count."""
    by_size: defaultdict[tuple[int, int], list[Sample]] = defaultdict(list)
    for sample in dataset.samples:
        if sample.placement is not None:
            by_size[sample.placement.bucket_px].append(sample)
    return tuple(_count(size, by_size[size]) for size in sorted(by_size, key=lambda size: (size[0] / size[1], size)))


def steps_per_epoch(counts: Sequence[BucketCount], batch_size: int) -> int:
    """As the training draws them: every bucket is cut into batches, its last one may be short."""
    return sum(-(-count.num_draws // batch_size) for count in counts)


def bucket_report(dataset: Dataset) -> str:
    """A plain table for people: each bucket with its counts, ratio, cropped share and enlarged images, then the notes."""
    counts = bucket_counts(dataset)
    if not counts:
        return "No image has a bucket yet."
    is_padded = any(count.padded_share for count in counts)
    rows = [("bucket", "ratio", "images", "an epoch", "held out", "cropped", *(("padded",) if is_padded else ()), "enlarged")]
    for count in counts:
        ratio = f"{count.bucket_px[0] / count.bucket_px[1]:.2f}"
        numbers = [str(count.num_images), str(count.num_draws), str(count.num_held_out), f"{100 * count.cropped_share:.1f} %"]
        numbers += [f"{100 * count.padded_share:.1f} %"] if is_padded else []
        rows.append((size_text(count.bucket_px), ratio, *numbers, listed(count.upscaled) or "-"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    table = ["  ".join([*(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip() for row in rows]
    num_images, num_draws, num_held_out = (sum(getattr(count, name) for count in counts) for name in ("num_images", "num_draws", "num_held_out"))
    summary = f"{num_images} images, {num_draws} an epoch with repeats, {num_held_out} held out, in {len(counts)} bucket{_s(counts)}."
    steps = ", ".join(f"{steps_per_epoch(counts, size)} with batch size {size}" for size in _BATCH_SIZES)
    return "\n".join([summary, f"Steps an epoch: {steps}.", "", *table, *([""] if dataset.notes else []), *dataset.notes])


def _count(bucket_px: tuple[int, int], samples: list[Sample]) -> BucketCount:
    trained = [sample for sample in samples if sample.role != "validation"]
    return BucketCount(
        bucket_px,
        num_images=len(trained),
        num_draws=sum(sample.repeats for sample in trained),
        num_held_out=len(samples) - len(trained),
        cropped_share=sum(map(cropped_share, samples)) / len(samples),
        padded_share=sum(map(padded_share, samples)) / len(samples),
        upscaled=tuple(Path(sample.path).name for sample in samples if is_upscaled(sample)),
    )


def placement_notes(samples: Sequence[Sample]) -> list[str]:
    """On what the placements cost."""
    return [*_enlarged(samples), *_cut(samples), *_padded(samples), *_distorted(samples), *_lonely(samples)]


def _enlarged(samples: Sequence[Sample]) -> list[str]:
    found = sorted((sample for sample in samples if is_upscaled(sample)), key=lambda sample: -scale_of(sample))
    if not found:
        return []
    names = listed([f"{Path(sample.path).name} ({scale_of(sample):.2f} times)" for sample in found])
    return [f"{_images(found)} enlarged to fill the bucket, which blurs: {names}. Larger originals, a lower resolution or upscale off avoid it."]


def _cut(samples: Sequence[Sample]) -> list[str]:
    found = sorted((sample for sample in samples if cropped_share(sample) > _CROPPED_MUCH), key=lambda sample: -cropped_share(sample))
    if not found:
        return []
    names = listed([f"{Path(sample.path).name} ({100 * cropped_share(sample):.0f} %)" for sample in found])
    return [f"{_images(found)} cut by more than {100 * _CROPPED_MUCH:.0f} % of the area: {names}. Look whether what matters is still in the picture."]


def _padded(samples: Sequence[Sample]) -> list[str]:
    found = sorted((sample for sample in samples if padded_share(sample) > _PADDED_MUCH), key=lambda sample: -padded_share(sample))
    if not found:
        return []
    names = listed([f"{Path(sample.path).name} ({100 * padded_share(sample):.0f} %)" for sample in found])
    return [f"{_images(found)} padded by more than {100 * _PADDED_MUCH:.0f} % of the bucket: {names}. Such borders are learned as well."]


def _distorted(samples: Sequence[Sample]) -> list[str]:
    found = sorted((sample for sample in samples if _distortion(sample) > 1.05), key=lambda sample: -_distortion(sample))
    if not found:
        return []
    names = listed([f"{Path(sample.path).name} ({100 * (_distortion(sample) - 1):.0f} %)" for sample in found])
    return [f"{_images(found)} stretched by more than 5 %: {names}. Buckets that fit better, or cover, avoid it."]


def _distortion(sample: Sample) -> float:
    if sample.placement is None:
        return 1.0
    across, down = sample.placement.resized_px[0] / sample.width_px, sample.placement.resized_px[1] / sample.height_px
    # Half a pixel of rounding is no distortion.
    return max(across / down, down / across) if min(abs(across / down - 1) * side for side in sample.placement.resized_px) > 1 else 1.0


def _lonely(samples: Sequence[Sample]) -> list[str]:
    by_size: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for sample in samples:
        if sample.role != "validation" and sample.placement is not None:
            by_size[sample.placement.bucket_px].append(Path(sample.path).name)
    found = [f"{size_text(size)} ({names[0]})" for size, names in sorted(by_size.items()) if len(names) == 1]
    if not found or len(by_size) == 1:
        return []
    subject = "1 bucket holds" if len(found) == 1 else f"{len(found)} buckets hold"
    return [f"{subject} a single image: {listed(found)}. A batch there has no other picture in it."]


def _images(samples: list[Sample]) -> str:
    return "1 image is" if len(samples) == 1 else f"{len(samples)} images are"


def _s(things: Sequence[object]) -> str:
    return "" if len(things) == 1 else "s"
