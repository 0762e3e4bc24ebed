"""Images that look alike: the same picture saved anew, made smaller, or a frame later."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..errors import AthanorError
from ..types import Dataset, Sample
from .crop import open_image
from .looks import HASH_BYTES, THUMBNAIL_BYTES, LooksCache, look_key
from .notes import capped

if TYPE_CHECKING:
    import numpy

_MAX_DISTANCE = 7
"""Bits of 64. One less than the number of bytes in a hash: two that are as near share a byte."""
_MAX_DIFFERENCE = 0.03
"""Mean difference of the thumbnails, of 1."""
_MAX_RATIO = 1.1
"""Between the aspect ratios."""
_THUMBNAIL_SIDE_PX = 16
_DRAFT_PX = 64
_NUM_ROWS_AT_ONCE = 256
_NUM_DECODED_AT_ONCE = 64


def near_duplicates(
    dataset: Dataset, *, cache_folder: Path | None = None, on_progress: Callable[[int, int], None] | None = None
) -> tuple[tuple[Sample, ...], ...]:
    """Groups of two or more images that look alike, in the dataset's order; nothing is taken out.

    Compared are difference hashes of 64 bits (is a pixel brighter than its left neighbour, in 9 x 8 grey ones; at most 7 bits
    may differ), confirmed by the mean difference of 16 x 16 thumbnails in colour and by the aspect ratio, since plain
    pictures have equal hashes. Who looks like a member belongs to the group. Every image is decoded once, in threads; with
    `cache_folder` what was seen is kept there. Images that cannot be read are in no group.
    `on_progress` is called with how many of how many images were looked at; what it raises ends the work.
    """
    samples, looks = _looks(dataset.samples, cache_folder, on_progress or (lambda done, total: None))
    if len(samples) < 2:
        return ()
    import numpy

    hashes = numpy.frombuffer(b"".join(look[:HASH_BYTES] for look in looks), numpy.uint8).reshape(-1, HASH_BYTES)
    thumbnails = numpy.frombuffer(b"".join(look[HASH_BYTES:] for look in looks), numpy.uint8).reshape(-1, THUMBNAIL_BYTES)
    ratios = numpy.array([sample.width_px / sample.height_px for sample in samples], numpy.float32)
    groups = numpy.arange(len(samples))
    brightness = thumbnails.mean(axis=1, dtype=numpy.float32)
    by_brightness = numpy.argsort(brightness)
    for band in range(HASH_BYTES):
        order = by_brightness[numpy.argsort(hashes[by_brightness, band], kind="stable")]
        for members in numpy.split(order, numpy.flatnonzero(numpy.diff(hashes[order, band])) + 1):
            _join(members, band, hashes, thumbnails, brightness, ratios, groups)
    members_of: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample, group in zip(samples, groups.tolist(), strict=True):
        members_of[group].append(sample)
    return tuple(tuple(members) for members in members_of.values() if len(members) > 1)


def duplicate_notes(groups: Sequence[Sequence[Sample]]) -> list[str]:
    """A line for each group."""
    sentence = "{} look alike; keep one of them unless the differences are wanted."
    return capped([sentence.format(" and ".join(Path(sample.path).name for sample in group)) for group in groups], "groups of images that look alike")


def _join(
    members: numpy.ndarray,
    band: int,
    hashes: numpy.ndarray,
    thumbnails: numpy.ndarray,
    brightness: numpy.ndarray,
    ratios: numpy.ndarray,
    groups: numpy.ndarray,
) -> None:
    """Gives one number in `groups` to those of `members` (alike in byte `band` of the hash, from dark to bright) that look alike.

    Pairs that are alike in an earlier byte were compared there. Where many hashes are equal, as in plain pictures, the mean
    brightness and colours leave few thumbnails to compare.
    """
    import numpy

    if (hashes[members, :band] == hashes[members[0], :band]).all(axis=0).any():
        return
    limit = _MAX_DIFFERENCE * 255
    numbers = numpy.ascontiguousarray(hashes[members]).view("<u8")[:, 0]
    earlier = [numpy.uint64(0xFF << (8 * each)) for each in range(band)]
    colours = thumbnails[members].reshape(len(members), -1, 3).mean(axis=1, dtype=numpy.float32)
    lights, logs = brightness[members], numpy.log(ratios[members])
    for start in range(0, len(members), _NUM_ROWS_AT_ONCE):
        stop = min(len(members), start + _NUM_ROWS_AT_ONCE)
        low = int(numpy.searchsorted(lights, lights[start] - limit))
        different = numbers[start:stop, None] ^ numbers[None, low:stop]
        is_near = _num_bits(different) <= _MAX_DISTANCE
        for mask in earlier:
            is_near &= (different & mask) != 0
        firsts, seconds = numpy.nonzero(is_near)
        firsts, seconds = firsts + start, seconds + low
        is_pair = (seconds < firsts) & (lights[firsts] - lights[seconds] < limit)
        firsts, seconds = firsts[is_pair], seconds[is_pair]
        wanted = numpy.abs(logs[firsts] - logs[seconds]) < numpy.log(_MAX_RATIO)
        wanted &= numpy.abs(colours[firsts] - colours[seconds]).mean(axis=1) < limit
        _join_pairs(members[firsts[wanted]], members[seconds[wanted]], thumbnails, groups)


def _join_pairs(firsts: numpy.ndarray, seconds: numpy.ndarray, thumbnails: numpy.ndarray, groups: numpy.ndarray) -> None:
    """`firsts` in blocks of equal ones."""
    import numpy

    for others in numpy.split(numpy.arange(len(firsts)), numpy.flatnonzero(numpy.diff(firsts)) + 1):
        if not len(others):
            continue
        first = firsts[others[0]]
        candidates = seconds[others]
        candidates = candidates[groups[candidates] != groups[first]]
        difference = numpy.abs(thumbnails[candidates].astype(numpy.int16) - thumbnails[first]).mean(axis=1)
        for group in numpy.unique(groups[candidates[difference < _MAX_DIFFERENCE * 255]]):
            groups[groups == group] = groups[first]


def _num_bits(numbers: numpy.ndarray) -> numpy.ndarray:
    """How many bits of each number of 64 bits are set."""
    import numpy

    if hasattr(numpy, "bitwise_count"):
        return numpy.bitwise_count(numbers)
    pairs = numbers - ((numbers >> 1) & 0x5555555555555555)
    fours = (pairs & 0x3333333333333333) + ((pairs >> 2) & 0x3333333333333333)
    return (((fours + (fours >> 4)) & 0x0F0F0F0F0F0F0F0F) * 0x0101010101010101) >> 56


def _looks(samples: Sequence[Sample], cache_folder: Path | None, on_progress: Callable[[int, int], None]) -> tuple[list[Sample], list[bytes]]:
    """Those that can be read, and for each its hash and its thumbnail behind it."""
    keys = [look_key(sample) for sample in samples]
    with LooksCache(cache_folder) as cache, ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="athanor-look") as pool:
        known = cache.get(keys)
        missing = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in known}
        waiting = list(missing)
        for start in range(0, len(waiting), _NUM_DECODED_AT_ONCE):
            on_progress(len(samples) - len(waiting) + start, len(samples))
            some = waiting[start : start + _NUM_DECODED_AT_ONCE]
            looks = pool.map(_look, [missing[key] for key in some])
            new = {key: look for key, look in zip(some, looks, strict=True) if look is not None}
            cache.put(new)
            known |= new
    on_progress(len(samples), len(samples))
    seen = [(sample, known[key]) for key, sample in zip(keys, samples, strict=True) if key in known]
    return [sample for sample, _ in seen], [look for _, look in seen]


def _look(sample: Sample) -> bytes | None:
    try:
        image = open_image(Path(sample.path), draft_px=_DRAFT_PX)
    except AthanorError:
        return None
    grey = image.convert("L").resize((9, 8), Image.Resampling.BOX).tobytes()
    bits = [grey[9 * row + column + 1] > grey[9 * row + column] for row in range(8) for column in range(8)]
    number = sum(1 << i for i, bit in enumerate(bits) if bit)
    thumbnail = image.resize((_THUMBNAIL_SIDE_PX, _THUMBNAIL_SIDE_PX), Image.Resampling.BOX)
    return number.to_bytes(HASH_BYTES, "little") + thumbnail.tobytes()
