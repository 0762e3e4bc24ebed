"""From image files to samples: their headers and captions read, and what cannot be used left out with a word why."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..files import told_bytes
from ..types import Sample
from .captions import DEFAULT_EXTENSIONS, read_caption
from .found import Found
from .header import IMAGE_EXTENSIONS, Header, UnusableImageError, read_header
from .masks import Masks, MaskSource
from .name_pattern import NamePattern
from .notes import capped, ending, listed, several

_MAX_PNG_BYTES_CHECKED = 1 << 30
_NUM_A_TASK = 32
_NUM_TRIED, _SLOW_SEC = 64, 0.001
"""Images that tell how long one takes, and what is long."""
_NUM_CONVERTED_NAMED = 50


@dataclass(frozen=True)
class CaptionSource:
    """Where captions come from, and what is put around them."""

    extensions: tuple[str, ...] = DEFAULT_EXTENSIONS
    """Of the files beside the images; none where the captions come from one file for all."""
    pattern: NamePattern | None = None
    """For images without caption: what their names say."""
    prefix: str = ""
    suffix: str = ""
    otherwise: str = ""
    """What stands between those where there is neither a caption nor class tokens."""
    keep_lines: bool = False
    """Whether lines of a caption file stay apart, for wildcards."""

    def completed(self, caption: str) -> str:
        """With prefix and suffix, a blank between."""
        return " ".join(part for part in (self.prefix, caption, self.suffix) if part)


@dataclass(frozen=True)
class _Read:
    """A sample, or why there is none, and notes on it."""

    sample: Sample | None
    problem: str
    on_kind: str = ""
    on_caption: tuple[str, ...] = ()
    on_mask: str = ""
    header: Header | None = None


@dataclass(frozen=True)
class _Told:
    """Sentences of one kind, and the image that each is about."""

    sentences: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def tell(self, name: str, *sentences: str) -> None:
        self.sentences.extend(sentences)
        self.names.extend([name] * len(sentences))

    def capped(self, kind: str) -> list[str]:
        return capped(self.sentences, kind, self.names)


def read_samples(found: Sequence[Found], captions: CaptionSource, mask_source: MaskSource = None) -> tuple[dict[str, Sample], list[str]]:
    """The usable ones by name, in order, and the notes on all.

    Headers only are read wherever that is enough to find broken files.
    """
    png_bytes = sum(_size_bytes(each.path) for each in found if ending(each.name) == ".png")
    is_thorough = png_bytes <= _MAX_PNG_BYTES_CHECKED
    masks = Masks(mask_source)
    results = _read_all(found, lambda each: _read_image(each, captions, masks, is_thorough))
    samples: dict[str, Sample] = {}
    left_out, kinds, on_captions, without_mask = _Told(), _Told(), _Told(), _Told()
    unnamed: list[str] = []
    for each, read in zip(found, results, strict=True):
        if read.sample is None:
            left_out.tell(each.name, read.problem)
            continue
        samples[each.name] = read.sample
        kinds.tell(each.name, *([read.on_kind] if read.on_kind else []))
        on_captions.tell(each.name, *read.on_caption)
        without_mask.tell(each.name, *([f"{each.name} {read.on_mask}; the loss counts everywhere in it."] if read.on_mask else []))
        unnamed += [each.name] if captions.pattern and read.sample.caption is None else []
    notes = [*left_out.capped("images that were left out"), *kinds.capped("files with a wrong ending")]
    headers = {each.name: read.header for each, read in zip(found, results, strict=True) if read.header is not None}
    notes += _conversions(headers, is_alpha_wanted=mask_source == "alpha")
    shared = _same_stems(samples) if captions.extensions else []
    if behind := [name for each in found if (name := _behind_ending(each, captions.extensions))]:
        notes.append(f"{several(len(behind), 'caption file')} not read, for captions are named like a.txt and not like a.png.txt: {listed(behind)}.")
    notes += [*capped(shared, "such names"), *on_captions.capped("remarks on caption files"), *without_mask.capped("images without mask")]
    if captions.pattern and unnamed:
        notes.append(f"The pattern {captions.pattern.text} does not fit the name of {listed(unnamed)}; no caption was taken from it.")
    if not is_thorough:
        notes.append(
            f"The PNG files are large together ({told_bytes(png_bytes)}), so their checksums were not read; a damaged one shows when it is used."
        )
    return samples, notes


def _read_all(found: Sequence[Found], read: Callable[[Found], _Read]) -> list[_Read]:
    """In order; by threads where a file takes long: on a slow disk, or where much of it must be read.

    Elsewhere threads are slower, since they wait more for each other's turn in Python than for the disk.
    """
    started_sec = time.perf_counter()
    results = [read(each) for each in found[:_NUM_TRIED]]
    rest = found[len(results) :]
    if not rest or time.perf_counter() - started_sec < _SLOW_SEC * len(results):
        return [*results, *map(read, rest)]
    with ThreadPoolExecutor(max_workers=min(16, 4 + (os.cpu_count() or 1)), thread_name_prefix="athanor-scan") as pool:
        blocks = [rest[start : start + _NUM_A_TASK] for start in range(0, len(rest), _NUM_A_TASK)]
        done = pool.map(lambda block: [read(each) for each in block], blocks)
        return [*results, *(result for block in done for result in block)]


def _read_image(found: Found, captions: CaptionSource, masks: Masks, is_thorough: bool) -> _Read:
    try:
        header = read_header(found.path, check_png_content=is_thorough)
    except UnusableImageError as problem:
        return _Read(None, f"{found.name} {problem.what} and was left out; {problem.advice}")
    except OSError as error:
        return _Read(None, f"{found.name} cannot be opened ({error.strerror or error}) and was left out; look whether another program holds it.")
    caption, on_caption = found.caption, ()
    if caption is None and captions.extensions:
        caption, on_caption = read_caption(found.path, captions.extensions, listed=found.listed, keep_lines=captions.keep_lines)
    if caption is None and captions.pattern:
        caption = captions.pattern.caption(found.name)
    mask, mask_fingerprint, on_mask = masks.find(found, header)
    sample = Sample(
        path=str(found.path),
        width_px=header.width_px,
        height_px=header.height_px,
        fingerprint="+".join(filter(None, (header.state, mask_fingerprint))),
        caption=caption,
        repeats=found.repeats,
        concept=found.concept,
        class_tokens=found.class_tokens,
        mask=mask,
    )
    is_misnamed = header.kind != IMAGE_EXTENSIONS.get(ending(found.name))
    on_kind = f"{found.name} is in truth a {header.kind} file; it is used as such." if is_misnamed else ""
    return _Read(_completed(sample, captions), "", on_kind, on_caption, on_mask, header)


def _completed(sample: Sample, captions: CaptionSource) -> Sample:
    if not captions.prefix and not captions.suffix:
        return sample
    caption = None if sample.caption is None else captions.completed(sample.caption)
    return replace(sample, caption=caption, class_tokens=captions.completed(sample.class_tokens or captions.otherwise))


def _conversions(headers: Mapping[str, Header], is_alpha_wanted: bool) -> list[str]:
    """What is done to the pixels of images that are not plain RGB, and upright, already."""
    kinds = {
        "{} turned as the camera noted: {}.": lambda header: header.is_turned,
        "{} in CMYK, converted to RGB: {}.": lambda header: header.is_cmyk,
        "{} with 16 bits a channel or more, reduced to 8: {}.": lambda header: header.is_deep,
        "{} with a colour profile, converted to sRGB: {}.": lambda header: header.has_profile,
        "{} with transparent parts, put on white: {}.": lambda header: header.has_alpha and not is_alpha_wanted,
    }
    notes = []
    for sentence, is_one in kinds.items():
        if names := [name for name, header in headers.items() if is_one(header)]:
            notes.append(sentence.format(several(len(names), "image"), listed(names, _NUM_CONVERTED_NAMED)))
    return notes


def _same_stems(samples: dict[str, Sample]) -> list[str]:
    by_stem: defaultdict[str, list[str]] = defaultdict(list)
    for name in samples:
        by_stem[name[: len(name) - len(ending(name))]].append(name)
    return [
        f"{' and '.join(names)} share one name, and so one caption file; rename one of them if they differ."
        for names in by_stem.values()
        if len(names) > 1
    ]


def _behind_ending(found: Found, extensions: Sequence[str]) -> str | None:
    """The file `a.png.txt`, which other programs write, beside `a.png`."""
    names = (f"{found.path.name}{extension}" for extension in extensions)
    return next((name for name in names if found.listed and name in found.listed), None)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
