"""Which image files a folder has, and what their place in it says of them; no file is opened here."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .header import IMAGE_EXTENSIONS

Subfolders = Literal["none", "numbered", "all"]

_NUMBERED = re.compile(r"([+-]?\d+)(?:_(.*))?", re.DOTALL)
_OTHER_PICTURES = {".heic", ".heif", ".jxl", ".jp2", ".psd", ".tga", ".svg", ".raw", ".dng", ".cr2", ".nef", ".arw", ".mp4", ".webm", ".mov"}


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
    others: Counter[str] = field(default_factory=Counter)
    """What else lies there, by file ending."""
    seen: set[Path] = field(default_factory=set)


def walk_folder(root: Path, subfolders: Subfolders, without: Collection[Path] = ()) -> Walk:
    """All image files of `root` in natural order ("img2" before "img10").

    `subfolders`: none; those named `6_cat`, which give repeats 6, concept and class tokens "cat"; or all of them, which
    inherit the number of a numbered folder around them. Hidden files, folders of `without` and links that lead out of
    `root` are left out.
    """
    walk = Walk(root, subfolders)
    walk.seen |= {folder.resolve() for folder in without}
    numbered = _NUMBERED.fullmatch(root.name)
    _read_folder(walk, root, 1, (numbered and numbered[2]) or root.name, inside_numbered=False)
    walk.found.sort(key=lambda each: natural_key(each.name))
    if numbered and numbered[2] and walk.found and subfolders != "none":
        walk.notes.append(
            f"The number of {root.name} itself does not count, only those of its subfolders; to repeat its images, choose the folder around it."
        )
    return walk


def nothing_found(walk: Walk) -> str:
    """Why there is no image, and what there is instead."""
    there = [f"{count} {ending} file{'s' if count > 1 else ''}" for ending, count in walk.others.most_common(5)]
    message = f"The folder {walk.root} has no images (png, jpg, webp, bmp, gif, tif, avif). "
    message += f"It holds {', '.join(there)}. " if there else "" if walk.notes else "It is empty. "
    if any(ending in _OTHER_PICTURES for ending in walk.others):
        message += "Save those pictures as PNG or JPEG to use them. "
    return (message + " ".join(walk.notes[:5])).strip()


def natural_key(name: str) -> tuple[tuple[tuple[str | int, ...], ...], str]:
    parts = (re.split(r"(\d+)", part.casefold()) for part in name.split("/"))
    return tuple(tuple(int(piece) if i % 2 else piece for i, piece in enumerate(pieces)) for pieces in parts), name


def class_tokens_of(folder: Path) -> str:
    """What the name of a `6_cat` folder says of its images: "cat"."""
    named = re.fullmatch(r"\d+_(.+)", folder.name, re.DOTALL)
    return named[1] if named else ""


def _read_folder(walk: Walk, folder: Path, repeats: int, concept: str, inside_numbered: bool) -> None:
    real = folder.resolve()
    if real in walk.seen:
        return
    walk.seen.add(real)
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: natural_key(entry.name))
    except OSError as error:
        walk.notes.append(f"The subfolder {_name(walk, folder)} cannot be read ({error.strerror or error}) and was left out.")
        return
    strange = {entry.name for entry in entries if entry.is_symlink() and not _inside(walk, folder / entry.name)}
    listed = frozenset(entry.name for entry in entries if entry.name not in strange)
    class_tokens = class_tokens_of(folder)
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            _read_subfolder(walk, path, repeats, concept, inside_numbered)
        elif path.suffix.lower() not in IMAGE_EXTENSIONS and entry.name not in strange:
            walk.others[path.suffix.lower() or "without an ending"] += 1
        elif entry.name in strange:
            walk.notes.append(
                f"{_name(walk, path)} is a link that leads out of the folder or nowhere, and was left out; copy the file here to use it."
            )
        else:
            walk.found.append(Found(path, _name(walk, path), repeats, concept, class_tokens, listed))


def _read_subfolder(walk: Walk, path: Path, repeats: int, concept: str, inside_numbered: bool) -> None:
    name = _name(walk, path)
    if path.resolve() in walk.seen:
        return
    if not _inside(walk, path):
        walk.notes.append(
            f"The subfolder {name} is a link that leads out of the folder and was left out; choose its target as the dataset folder instead."
        )
        return
    numbered = _NUMBERED.fullmatch(path.name)
    is_read = walk.subfolders == "all" or (walk.subfolders == "numbered" and numbered and path.parent == walk.root)
    if walk.subfolders == "none":
        walk.notes.append(f"The subfolder {name} was not read; give it a subset of its own if its images belong to the dataset.")
    elif not is_read:
        advice = "turn on recursive" if path.parent != walk.root else f"turn on recursive, or name it like 1_{path.name}"
        walk.notes.append(f"The subfolder {name} was not read; {advice} if its images belong to the dataset.")
    elif numbered and int(numbered[1]) < 1:
        walk.notes.append(f"The subfolder {name} asks for {int(numbered[1])} repeats and was left out; repeats are 1 or more.")
    elif numbered:
        _read_folder(walk, path, int(numbered[1]), numbered[2] or "", inside_numbered=True)
    else:
        _read_folder(walk, path, repeats, concept if inside_numbered else path.name, inside_numbered)


def _name(walk: Walk, path: Path) -> str:
    return path.relative_to(walk.root).as_posix()


def _inside(walk: Walk, path: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(walk.root.resolve())
    except (OSError, RuntimeError):
        return False
