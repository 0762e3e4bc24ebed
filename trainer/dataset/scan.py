"""From a folder to a Dataset: which images there are, what belongs to each, and what had to be left out."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import AthanorError
from ..types import Dataset, Sample
from .captions import DEFAULT_EXTENSIONS, caption_extension, read_caption
from .header import IMAGE_EXTENSIONS, UnusableImageError, read_header
from .split import held_out

_NUMBERED = re.compile(r"([+-]?\d+)(?:_(.*))?", re.DOTALL)
_OTHER_PICTURES = {".heic", ".heif", ".jxl", ".jp2", ".psd", ".tga", ".svg", ".raw", ".dng", ".cr2", ".nef", ".arw", ".mp4", ".webm", ".mov"}
_NUM_NOTES_OF_A_KIND = 20
_MAX_PNG_BYTES_CHECKED = 1 << 30


@dataclass(frozen=True)
class _Found:
    path: Path
    name: str
    """Relative to the dataset's folder, with /."""
    repeats: int
    concept: str
    listed: frozenset[str]
    """The names of all files in its folder."""


@dataclass
class _Walk:
    root: Path
    recursive: bool
    found: list[_Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    """What else lies there, by file ending."""
    seen: set[Path] = field(default_factory=set)


def scan_folder(
    folder: Path,
    *,
    trigger: str = "",
    caption_extensions: tuple[str, ...] = DEFAULT_EXTENSIONS,
    recursive: bool = False,
    validation_percent: float = 0.0,
) -> Dataset:
    """Reads a folder of images and their caption files, in natural order ("img2" before "img10").

    Subfolders named `6_cat` are read with repeats 6 and concept "cat", as kohya's trainers do; images directly in the
    folder have repeats 1. Other subfolders are read with `recursive` only, and inherit the number of a numbered folder
    around them. `validation_percent` (0 to 100) of the images get the role "validation", see `held_out`.
    Hidden files are ignored. What cannot be used (empty, broken, animated, too large, a link that leads out of the
    folder) is left out and named in the notes. Headers only are read wherever that is enough to find broken files.
    Raises AthanorError for a missing folder, one without any usable image, and settings out of range.
    """
    extensions = tuple(dict.fromkeys(caption_extension(extension) for extension in caption_extensions))
    held_out((), validation_percent)
    root = folder.expanduser().absolute()
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise AthanorError(f"The dataset folder {root} {what}. Give the folder that holds the images.")
    walk = _Walk(root, recursive)
    numbered = _NUMBERED.fullmatch(root.name)
    _read_folder(walk, root, 1, (numbered and numbered[2]) or root.name, inside_numbered=False)
    if numbered and numbered[2] and walk.found:
        walk.notes.append(
            f"The number of {root.name} itself does not count, only those of its subfolders; to repeat its images, choose the folder around it."
        )
    found = sorted(walk.found, key=lambda each: _natural_key(each.name))
    samples, notes = _read_images(found, extensions)
    if not samples:
        raise AthanorError(_nothing_usable(walk, found, notes))
    chosen = held_out(samples.keys(), validation_percent)
    return Dataset(
        samples=tuple(replace(sample, role="validation") if name in chosen else sample for name, sample in samples.items()),
        trigger=trigger.strip(),
        notes=(*walk.notes, *notes),
    )


def _read_folder(walk: _Walk, folder: Path, repeats: int, concept: str, inside_numbered: bool) -> None:
    real = folder.resolve()
    if real in walk.seen:
        return
    walk.seen.add(real)
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: _natural_key(entry.name))
    except OSError as error:
        walk.notes.append(f"The subfolder {_name(walk, folder)} cannot be read ({error.strerror or error}) and was left out.")
        return
    listed = frozenset(entry.name for entry in entries)
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            _read_subfolder(walk, path, repeats, concept, inside_numbered)
        elif path.suffix.lower() not in IMAGE_EXTENSIONS:
            walk.others[path.suffix.lower() or "without an ending"] += 1
        elif entry.is_symlink() and not _inside(walk, path):
            walk.notes.append(
                f"{_name(walk, path)} is a link that leads out of the folder or nowhere, and was left out; copy the file here to use it."
            )
        else:
            walk.found.append(_Found(path, _name(walk, path), repeats, concept, listed))


def _read_subfolder(walk: _Walk, path: Path, repeats: int, concept: str, inside_numbered: bool) -> None:
    name = _name(walk, path)
    if not _inside(walk, path):
        walk.notes.append(
            f"The subfolder {name} is a link that leads out of the folder and was left out; choose its target as the dataset folder instead."
        )
        return
    numbered = _NUMBERED.fullmatch(path.name)
    is_read = walk.recursive or (numbered and path.parent == walk.root)
    if not is_read:
        advice = "turn on recursive" if path.parent != walk.root else f"turn on recursive, or name it like 1_{path.name}"
        walk.notes.append(f"The subfolder {name} was not read; {advice} if its images belong to the dataset.")
    elif numbered and int(numbered[1]) < 1:
        walk.notes.append(f"The subfolder {name} asks for {int(numbered[1])} repeats and was left out; repeats are 1 or more.")
    elif numbered:
        _read_folder(walk, path, int(numbered[1]), numbered[2] or "", inside_numbered=True)
    else:
        _read_folder(walk, path, repeats, concept if inside_numbered else path.name, inside_numbered)


def _read_images(found: list[_Found], extensions: tuple[str, ...]) -> tuple[dict[str, Sample], list[str]]:
    """The usable ones by name, in order, and the notes on all."""
    png_bytes = sum(_size_bytes(each.path) for each in found if each.path.suffix.lower() == ".png")
    is_thorough = png_bytes <= _MAX_PNG_BYTES_CHECKED
    with ThreadPoolExecutor(max_workers=min(16, 4 + (os.cpu_count() or 1)), thread_name_prefix="athanor-scan") as pool:
        results = list(pool.map(lambda each: _read_image(each, extensions, is_thorough), found))
    samples: dict[str, Sample] = {}
    left_out, kinds, captions = [], [], []
    for each, (sample, kind_note, caption_notes) in zip(found, results, strict=True):
        if isinstance(sample, str):
            left_out.append(sample)
            continue
        samples[each.name] = sample
        kinds += [kind_note] if kind_note else []
        captions += caption_notes
    notes = [*_capped(left_out, "images that were left out"), *_capped(kinds, "files with a wrong ending")]
    notes += [*_capped(_same_stems(samples), "such names"), *_capped(captions, "remarks on caption files")]
    if not is_thorough:
        notes.append(
            f"The PNG files are large together ({png_bytes / 2**30:.1f} GiB), so their checksums were not read; a damaged one shows when it is used."
        )
    return samples, notes


def _read_image(found: _Found, extensions: tuple[str, ...], is_thorough: bool) -> tuple[Sample | str, str, tuple[str, ...]]:
    """The sample or why it is left out, a note on its kind, and notes on its caption."""
    try:
        stat = found.path.stat()
        header = read_header(found.path, check_png_content=is_thorough)
    except UnusableImageError as problem:
        return f"{found.name} {problem.what} and was left out; {problem.advice}", "", ()
    except OSError as error:
        return f"{found.name} cannot be opened ({error.strerror or error}) and was left out; look whether another program holds it.", "", ()
    caption, caption_notes = read_caption(found.path, extensions, listed=found.listed)
    sample = Sample(
        path=str(found.path),
        width_px=header.width_px,
        height_px=header.height_px,
        fingerprint=f"{stat.st_size}-{stat.st_mtime_ns}",
        caption=caption,
        repeats=found.repeats,
        concept=found.concept,
    )
    is_misnamed = header.kind != IMAGE_EXTENSIONS[found.path.suffix.lower()]
    return sample, f"{found.name} is in truth a {header.kind} file; it is used as such." if is_misnamed else "", caption_notes


def _same_stems(samples: dict[str, Sample]) -> list[str]:
    by_stem: defaultdict[str, list[str]] = defaultdict(list)
    for name, sample in samples.items():
        by_stem[name.removesuffix(Path(sample.path).suffix)].append(name)
    return [
        f"{' and '.join(names)} share one name, and so one caption file; rename one of them if they differ."
        for names in by_stem.values()
        if len(names) > 1
    ]


def _nothing_usable(walk: _Walk, found: list[_Found], notes: list[str]) -> str:
    if found:
        return f"The folder {walk.root} has no usable image: all {len(found)} were left out. " + " ".join([*walk.notes, *notes][:5])
    there = [f"{count} {ending} file{'s' if count > 1 else ''}" for ending, count in walk.others.most_common(5)]
    message = f"The folder {walk.root} has no images (png, jpg, webp, bmp, gif, tif, avif). "
    message += f"It holds {', '.join(there)}. " if there else "" if walk.notes else "It is empty. "
    if any(ending in _OTHER_PICTURES for ending in walk.others):
        message += "Save those pictures as PNG or JPEG to use them. "
    return (message + " ".join(walk.notes[:5])).strip()


def _capped(notes: list[str], kind: str) -> list[str]:
    more = len(notes) - _NUM_NOTES_OF_A_KIND
    return notes if more <= 0 else [*notes[:_NUM_NOTES_OF_A_KIND], f"… and {more} more {kind}."]


def _natural_key(name: str) -> tuple[tuple[tuple[str | int, ...], ...], str]:
    parts = (re.split(r"(\d+)", part.casefold()) for part in name.split("/"))
    return tuple(tuple(int(piece) if i % 2 else piece for i, piece in enumerate(pieces)) for pieces in parts), name


def _name(walk: _Walk, path: Path) -> str:
    return path.relative_to(walk.root).as_posix()


def _inside(walk: _Walk, path: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(walk.root.resolve())
    except (OSError, RuntimeError):
        return False


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
