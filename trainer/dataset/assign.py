"""Every sample of a dataset gets its place in a bucket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import AthanorError, raise_problems
from ..types import Dataset, Placement, Sample
from .bucket_report import placement_notes
from .buckets import MAX_SIDE_PX, make_bucket_sizes, nearest_bucket, select_bucket_without_upscale, size_problems, size_text
from .fit import MAX_PARTS, Fit, Point, around, checked_border, cropped_share, fitted, parts
from .notes import capped, listed, several

Size = tuple[int, int]
Focus = Callable[[Sequence[Sample]], Sequence[Point]]
"""Where the middle of the cut should be, for each of those images that are cut at all."""

_SUGGESTED_MERGE = 4
_MAX_SPLIT_SHARE = 0.9
"""What is cut of an image at the least if it would become `MAX_PARTS`, whatever the overlap."""
_LEFT_OR_RIGHT = ("left", "right", "text", "左", "右", "文字")


def assign_buckets(
    dataset: Dataset,
    *,
    resolution_px: int,
    min_px: int,
    max_px: int,
    step_px: int,
    upscale: bool,
    fixed_px: Size | None = None,
    fit: Fit = "cover",
    border: str = "edge",
    focus: Focus | None = None,
    split_over: float = 0.0,
    split_overlap: float = 0.2,
    mirror: bool = False,
    merge_below: int = 0,
) -> Dataset:
    """The dataset with a placement for every sample, and notes on what that costs.

    With `upscale` the buckets are those of `make_bucket_sizes`, and small images are enlarged into them. Without it they
    follow from the images, `min_px` and `max_px` do not count, and an image under one step is left out with a note.
    `fixed_px` is the one size for all instead; without `upscale` smaller images are left out then, or padded.
    `fit`: see `fitted`; `border` fills up what is padded, and `focus` chooses what stays where much is cut (the centre).
    An image of which more than `split_over` (a share, 0 never) would be cut becomes several samples side by side. `mirror`
    adds a mirrored sample for each that is trained on. Buckets that an epoch draws fewer than `merge_below` images from
    are joined with the one of the nearest shape.
    Raises InvalidJobError for sizes that allow no bucket and shares out of range, AthanorError if no image is left.
    """
    raise_problems(_problems(resolution_px, min_px, max_px, step_px, upscale, fixed_px, split_over, split_overlap, merge_below))
    border = checked_border(border) if fit == "pad" else ""
    dataset = _before_buckets(dataset)
    if not dataset.samples:
        raise AthanorError("There are no images to put into buckets: the dataset is empty.")
    sizes = (fixed_px,) if fixed_px else make_bucket_sizes(resolution_px, min_px, max_px, step_px) if upscale else ()
    known: dict[Size, Placement | None] = {}
    placed: list[Sample] = []
    too_small: list[Sample] = []
    for sample in dataset.samples:
        size = (sample.width_px, sample.height_px)
        if size not in known:
            known[size] = _placement(size, sizes, resolution_px, step_px, fit, border, upscale)
        if known[size] is None:
            too_small.append(sample)
        else:
            placed.append(replace(sample, placement=known[size]))
    if not placed:
        raise AthanorError(_nothing_left(fixed_px, step_px))
    placed, merge_notes = _merged(placed, fit, border, upscale, merge_below)
    placed, split_notes = _split(placed, split_over if fit == "cover" else 0.0, split_overlap)
    placed = _focused(placed, focus) if focus and fit == "cover" else placed
    mirrored, mirror_notes = _mirrored(placed) if mirror else ([], [])
    small_notes = capped([_left_out(sample, fixed_px, step_px) for sample in too_small], "images that are too small")
    return dataset.with_samples((*placed, *mirrored), *small_notes, *merge_notes, *split_notes, *mirror_notes, *placement_notes([*placed, *mirrored]))


def _before_buckets(dataset: Dataset) -> Dataset:
    """Without what an earlier Bucket made of it: its mirrored copies and parts would come back as the same image several times."""
    if all(sample.placement is None for sample in dataset.samples):
        return dataset
    samples = tuple(dict.fromkeys(replace(sample, placement=None) for sample in dataset.samples))
    return dataset.with_samples(samples, "The images came out of a Bucket already; its sizes, parts and mirrored copies are replaced.")


def _problems(
    resolution_px: int, min_px: int, max_px: int, step_px: int, upscale: bool, fixed_px: Size | None, split_over: float, overlap: float, merge: int
) -> list[str]:
    if fixed_px:
        problems = [] if 1 <= step_px <= 1024 else size_problems(resolution_px, min_px, max_px, step_px)
        if not problems and any(side % step_px or not step_px <= side <= MAX_SIDE_PX for side in fixed_px):
            size = size_text(fixed_px)
            problems.append(f"The fixed size is {size} px; its sides must be multiples of the step, {step_px} px, and at most {MAX_SIDE_PX} px.")
    elif upscale:
        problems = size_problems(resolution_px, min_px, max_px, step_px)
    else:
        problems = size_problems(resolution_px, step_px, MAX_SIDE_PX, step_px)
    if not 0 <= split_over < 1:
        problems.append(f"Images are split if more than {100 * split_over:g} % would be cut; it must be from 0 (never) to below 100 %.")
    if not 0 <= overlap <= 0.9:
        problems.append(f"The parts of split images overlap by {100 * overlap:g} %; it must be from 0 to 90 %.")
    if merge < 0:
        problems.append(f"Buckets with fewer than {merge} images cannot be joined; give 0 or more.")
    return problems


def _placement(size: Size, sizes: Sequence[Size], resolution_px: int, step_px: int, fit: Fit, border: str, upscale: bool) -> Placement | None:
    if not sizes:
        found = select_bucket_without_upscale(size, resolution_px, step_px)
        return found if fit == "cover" or found is None else fitted(size, found.bucket_px, fit, border=border, enlarge=False)
    bucket = nearest_bucket(size, sizes)
    if not upscale and fit != "pad" and _is_smaller(size, bucket):
        return None
    return fitted(size, bucket, fit, border=border, enlarge=upscale)


def _is_smaller(size: Size, bucket: Size) -> bool:
    return size[0] < bucket[0] or size[1] < bucket[1]


def _merged(placed: list[Sample], fit: Fit, border: str, upscale: bool, below: int) -> tuple[list[Sample], list[str]]:
    """Rare buckets joined with their neighbours, or, with `below` 0, a word on what that would cost."""
    number = below or _SUGGESTED_MERGE
    draws: Counter[Size] = Counter()
    for sample in placed:
        draws[_bucket(sample)] += 0 if sample.role == "validation" else sample.repeats
    common = [size for size, count in draws.items() if count >= number]
    rare = {size for size, count in draws.items() if 0 < count < number}
    if not rare or (not common and len(rare) < 2):
        return placed, []
    # Where all are rare the fullest one takes the others.
    common = sorted(common) or [max(rare, key=lambda size: (draws[size], size))]
    joined = [_joined(sample, common, fit, border, upscale) if _bucket(sample) in rare else sample for sample in placed]
    moved = [(old, new) for old, new in zip(placed, joined, strict=True) if old.placement != new.placement]
    num_before, num_after = len(draws), len({_bucket(sample) for sample in joined})
    if not moved or num_after == num_before:
        return placed, []
    old_loss, new_loss = (100 * sum(map(cropped_share, samples)) / len(moved) for samples in zip(*moved, strict=True))
    cost = f"what is cut of {several(len(moved), 'image')} {{}} from {old_loss:.1f} to {new_loss:.1f} %" if fit == "cover" else ""
    if not below:
        if num_before - num_after < 2:
            return placed, []
        cost = f", and {cost.format('would grow')}" if cost else ""
        return placed, [f"Joining buckets with fewer than {number} images with their neighbours would leave {num_after} of {num_before}{cost}."]
    cost = f"; {cost.format('grew')}" if cost else ""
    names = listed([f"{Path(old.path).name} ({size_text(_bucket(old))} to {size_text(_bucket(new))})" for old, new in moved])
    return joined, [f"{num_before - num_after} buckets with fewer than {number} images were joined with their neighbours{cost}: {names}."]


def _joined(sample: Sample, common: Sequence[Size], fit: Fit, border: str, upscale: bool) -> Sample:
    size = (sample.width_px, sample.height_px)
    sizes = common if upscale else [each for each in common if not _is_smaller(size, each)]
    if not sizes or _bucket(sample) in common:
        return sample
    # In the nearest shape; of several such, the one of the nearest area.
    area = _bucket(sample)[0] * _bucket(sample)[1]
    bucket = min(sizes, key=lambda each: (abs(each[0] / each[1] - size[0] / size[1]), abs(each[0] * each[1] - area)))
    return replace(sample, placement=fitted(size, bucket, fit, border=border, enlarge=upscale))


def _split(placed: list[Sample], over: float, overlap: float) -> tuple[list[Sample], list[str]]:
    if not over:
        return placed, []
    result: list[Sample] = []
    names, whole = [], []
    for sample in placed:
        assert sample.placement is not None
        cuts = parts(sample.placement, overlap) if cropped_share(sample) > over else (sample.placement,)
        result += [replace(sample, placement=cut) for cut in cuts]
        names += [f"{Path(sample.path).name} ({len(cuts)} parts)"] if len(cuts) > 1 else []
        whole += [Path(sample.path).name] if len(cuts) == 1 and cropped_share(sample) > max(over, _MAX_SPLIT_SHARE) else []
    notes = [f"{several(len(names), 'image')} split, of which more than {100 * over:.0f} % would have been cut: {listed(names)}."] if names else []
    if whole:
        notes.append(f"Too long to be split, into more than {MAX_PARTS} parts: {listed(whole)}. Take it out, or cut a part out yourself.")
    return result, notes


def _focused(placed: list[Sample], focus: Focus) -> list[Sample]:
    """Parts of a split image show all of it already."""
    times = Counter(sample.path for sample in placed)
    wanted = [i for i, sample in enumerate(placed) if times[sample.path] == 1 and sample.placement and sample.placement.resized_px != _bucket(sample)]
    points = focus([placed[i] for i in wanted])
    result = list(placed)
    for i, point in zip(wanted, points, strict=True):
        placement = placed[i].placement
        assert placement is not None
        result[i] = replace(placed[i], placement=around(point, placement.bucket_px, placement.resized_px))
    return result


def _mirrored(placed: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
    """Copies of those that are trained on; a held-out image stays one."""
    copies = [
        replace(sample, placement=replace(sample.placement, mirrored=True)) for sample in placed if sample.placement and sample.role != "validation"
    ]
    told = [Path(copy.path).name for copy in copies if any(word in (copy.caption or "").casefold() for word in _LEFT_OR_RIGHT)]
    notes = [f"{several(len(copies), 'image')} mirrored, as copies beside the others."]
    if told:
        notes.append(f"Mirrored, though the caption speaks of left, right or text: {listed(list(dict.fromkeys(told)))}. It is wrong for the copy.")
    return copies, notes


def _bucket(sample: Sample) -> Size:
    assert sample.placement is not None
    return sample.placement.bucket_px


def _nothing_left(fixed_px: Size | None, step_px: int) -> str:
    if fixed_px:
        return f"No image is as large as {size_text(fixed_px)} px. Turn upscale on, choose a smaller size, or pad."
    return f"No image fills a bucket: all are shorter than one step of {step_px} px on a side. Turn upscale on, or use larger images."


def _left_out(sample: Sample, fixed_px: Size | None, step_px: int) -> str:
    size = size_text((sample.width_px, sample.height_px))
    if fixed_px:
        return f"{Path(sample.path).name} ({size} px) is smaller than {size_text(fixed_px)} px and was left out; turn upscale on, or pad, to use it."
    return f"{Path(sample.path).name} ({size} px) is too small or too narrow for a step of {step_px} px and was left out; turn upscale on to use it."
