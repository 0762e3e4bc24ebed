"""Which image files a folder has, and what their place in it says of them; no file is opened here."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .header import IMAGE_EXTENSIONS
from .notes import capped, ending, listed, several

Subfolders = Literal["none", "numbered", "all"]

Key = tuple[tuple[str | int, ...], ...]

_DIGITS = re.compile(r"(\d+)")
_NUMBERED = re.compile(r"\s*([+-]?\d+)\s*(?:_(.*))?", re.DOTALL)
"""What sd-scripts takes for a number is what int() does."""
MAX_REPEATS = 10_000
"""A larger number is the date of `20240101_trip`."""
_OF_SYSTEMS = {"@eadir", "__macosx", "$recycle.bin", "system volume information"}
"""Folders that network drives and archives make, with small copies of pictures in them."""
_OTHER_PICTURES = {
    ".heic",
    ".heif",
    ".jxl",
    ".jp2",
    ".psd",
    ".tga",
    ".svg",
    ".raw",
    ".dng",
    ".cr2",
    ".nef",
    ".arw",
    ".exr",
    ".ico",
    ".mp4",
    ".webm",
    ".mov",
}


@dataclass(frozen=True)
class Found:
    """An image file that lies in a dataset, not opened yet."""

    path: Path
    name: str
    """Relative to the dataset's folder, with /."""
    repeats: int = 1
    concept: str = ""
    class_tokens: str = ""
    listed: frozenset[str] | None = None
    """The names of all files in its folder, where they are known."""
    caption: str | None = None
    """Where the caption is known from elsewhere than a file beside the image."""


@dataclass
class Walk:
    """What a walk through a folder finds."""

    root: Path
    subfolders: Subfolders
    found: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    """Names of those that lead out of the folder or nowhere."""
    unread: dict[str, str] = field(default_factory=dict)
    """Why subfolders were not read, by name."""
    others: Counter[str] = field(default_factory=Counter)
    """What else lies there, by file ending."""
    other_pictures: list[str] = field(default_factory=list)
    """Names of pictures in formats that are not read."""
    seen: set[Path] = field(default_factory=set)
    keys: list[tuple[Key, str]] = field(default_factory=list)
    """`natural_key` of each of `found`."""


def walk_folder(root: Path, subfolders: Subfolders, without: Collection[Path] = ()) -> Walk:
    """All image files of `root` in natural order ("img2" before "img10").

    `subfolders`: none; those named `6_cat`, which give repeats 6, concept and class tokens "cat"; or all of them, which
    inherit the number of a numbered folder around them. Hidden files, folders of `without` and links that lead out of
    `root` are left out.
    """
    walk = Walk(root, subfolders)
    walk.seen |= {folder.resolve() for folder in without}
    numbered = _repeated(root.name)
    _read_folder(walk, root, 1, (numbered and numbered[2]) or root.name, inside_numbered=False)
    sentence = "{} is a link that leads out of the folder or nowhere, and was left out; copy the file here to use it."
    walk.notes += capped([sentence.format(name) for name in walk.links], "such links", walk.links)
    walk.notes += capped([*walk.unread.values()], "subfolders that were not read", [*walk.unread])
    order = sorted(range(len(walk.found)), key=walk.keys.__getitem__)
    walk.found = [walk.found[i] for i in order]
    if walk.found and walk.other_pictures:
        kinds = ", ".join(dict.fromkeys(ending(name) for name in walk.other_pictures))
        walk.notes.append(
            f"{several(len(walk.other_pictures), 'picture')} of a kind that is not read ({kinds}) left out; save as PNG or JPEG: {listed(walk.other_pictures)}."
        )
    if numbered and numbered[2] and walk.found and subfolders != "none":
        walk.notes.append(
            f"The number of {root.name} itself does not count, only those of its subfolders; to repeat its images, choose the folder around it."
        )
    return walk


def nothing_found(walk: Walk) -> str:
    """Why there is no image, and what there is instead."""
    there = [f"{count} {kind} file{'s' if count > 1 else ''}" for kind, count in walk.others.most_common(5)]
    message = f"The folder {walk.root} has no images (png, jpg, webp, bmp, gif, tif, avif). "
    message += f"It holds {', '.join(there)}. " if there else "" if walk.notes else "It is empty. "
    if walk.other_pictures:
        message += "Save those pictures as PNG or JPEG to use them. "
    return (message + " ".join(walk.notes[:5])).strip()


def natural_key(name: str) -> tuple[Key, str]:
    return tuple(map(_part_key, name.split("/"))), name


def _part_key(part: str) -> tuple[str | int, ...]:
    pieces: list[str | int] = [*_DIGITS.split(part.casefold())]
    pieces[1::2] = map(int, pieces[1::2])
    return tuple(pieces)


def class_tokens_of(folder: Path) -> str:
    """What the name of a `6_cat` folder says of its images: "cat"."""
    named = _repeated(folder.name)
    return (named and named[2]) or ""


def _repeated(name: str) -> re.Match[str] | None:
    """The number and the name of a `6_cat` folder."""
    numbered = _NUMBERED.fullmatch(name)
    return numbered if numbered and int(numbered[1]) <= MAX_REPEATS else None


def _read_folder(walk: Walk, folder: Path, repeats: int, concept: str, inside_numbered: bool) -> None:
    real = folder.resolve()
    if real in walk.seen:
        return
    walk.seen.add(real)
    try:
        with os.scandir(folder) as listing:
            entries = sorted((_part_key(entry.name), entry.name, entry.is_symlink(), entry) for entry in listing)
    except OSError as error:
        walk.notes.append(f"The subfolder {_name(walk, folder)} cannot be read ({error.strerror or error}) and was left out.")
        return
    strange = {name for _, name, is_link, _ in entries if is_link and not _inside(walk, folder / name)}
    special = {name for _, name, _, entry in entries if name not in strange and not _is(entry.is_dir) and not _is(entry.is_file)}
    names = frozenset(name for _, name, _, _ in entries if name not in strange and name not in special)
    class_tokens = class_tokens_of(folder)
    prefix = "" if folder == walk.root else _name(walk, folder) + "/"
    prefix_key = natural_key(prefix[:-1])[0] if prefix else ()
    for key, name, _, entry in entries:
        if name.startswith(".") or name.casefold() in _OF_SYSTEMS:
            continue
        kind = ending(name)
        if _is(entry.is_dir):
            _read_subfolder(walk, folder / name, repeats, concept, inside_numbered)
        elif kind not in IMAGE_EXTENSIONS and name not in strange:
            walk.others[kind or "without an ending"] += 1
            if kind in _OTHER_PICTURES:
                walk.other_pictures.append(prefix + name)
        elif name in strange:
            walk.links.append(prefix + name)
        elif name in special:
            walk.notes.append(f"{prefix}{name} is no file but a pipe or a device, and was left out.")
        else:
            walk.found.append(Found(folder / name, prefix + name, repeats, concept, class_tokens, names))
            walk.keys.append(((*prefix_key, key), prefix + name))


def _read_subfolder(walk: Walk, path: Path, repeats: int, concept: str, inside_numbered: bool) -> None:
    name = _name(walk, path)
    if path.resolve() in walk.seen:
        return
    if not _inside(walk, path):
        walk.notes.append(
            f"The subfolder {name} is a link that leads out of the folder and was left out; choose its target as the dataset folder instead."
        )
        return
    numbered = _repeated(path.name)
    is_read = walk.subfolders == "all" or (walk.subfolders == "numbered" and numbered and path.parent == walk.root)
    if walk.subfolders == "none":
        walk.unread[name] = f"The subfolder {name} was not read; give it a subset of its own if its images belong to the dataset."
    elif not is_read:
        advice = "turn on recursive" if path.parent != walk.root else f"turn on recursive, or name it like 1_{path.name}"
        why = (
            f" (its number is more than {MAX_REPEATS:,}, so it is a name and not repeats)" if not numbered and _NUMBERED.fullmatch(path.name) else ""
        )
        walk.unread[name] = f"The subfolder {name} was not read{why}; {advice} if its images belong to the dataset."
    elif numbered and int(numbered[1]) < 1:
        walk.notes.append(f"The subfolder {name} asks for {int(numbered[1])} repeats and was left out; repeats are 1 or more.")
    elif numbered:
        _read_folder(walk, path, int(numbered[1]), numbered[2] or "", inside_numbered=True)
    else:
        _read_folder(walk, path, repeats, concept if inside_numbered else path.name, inside_numbered)


def _is(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except OSError:  # a link that leads to itself
        return False


def _name(walk: Walk, path: Path) -> str:
    return path.relative_to(walk.root).as_posix()


def _inside(walk: Walk, path: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(walk.root.resolve())
    except (OSError, RuntimeError):
        return False
