"""Folders of files that can be made again, the cache, merges, class images and the models that a graph's wires were written into: how large
each is, how large it may be, and what goes first. No torch."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import AthanorError
from ..files import replace_atomically

SHARD_ENDING = ".safetensors"
CACHE, BASES, MERGED, CLASS_IMAGES = ".cache", ".bases", ".merged", "class-images"
"""Beside the run directories."""
_DEFAULT_GIB = {CACHE: 32.0, BASES: 96.0, MERGED: 16.0}
_LIMIT_FILE = "limit.json"
_IN_USE_SEC = 1800.0
_ABANDONED_SEC = 3600.0
_MAX_HEADER_BYTES = 100 << 20


@dataclass(frozen=True)
class FolderReport:
    num_bytes: int
    num_files: int
    by_group: dict[str, int]
    """Bytes of "text", "mask" and of each bucket's "latents-512x768"; of whole "models"; of each prompt's class images."""
    limit_bytes: int


def shards_of(folder: Path) -> list[Path]:
    """The files that count: class images lie in a folder for each prompt."""
    wanted = "*/*.png" if folder.name == CLASS_IMAGES else "*" + SHARD_ENDING
    return sorted(folder.glob(wanted)) if folder.is_dir() else []


def is_whole(shard: Path) -> bool:
    """Whether the file is as long as its header says: no byte of the tensors themselves is read."""
    try:
        size = shard.stat().st_size
        with shard.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if not 0 < length <= min(size, _MAX_HEADER_BYTES):
                return False
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return size == 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return False


def folder_report(folder: Path) -> FolderReport:
    by_group: defaultdict[str, int] = defaultdict(int)
    shards = shards_of(folder)
    for shard in shards:
        group = shard.parent.name if folder.name == CLASS_IMAGES else shard.name.rpartition("-")[0] or "models"
        by_group[group] += _size_bytes(shard)
    return FolderReport(sum(by_group.values()), len(shards), dict(sorted(by_group.items())), size_limit_bytes(folder))


def clean_folder(folder: Path, limit_bytes: int) -> int:
    """Deletes the shards that were used longest ago until all together fit into `limit_bytes`; returns how many bytes went.

    What was used in the last half hour stays, for a run may be reading it. Files that a killed process left half-written go too.
    """
    now = time.time()
    for left in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if now - left.stat().st_mtime > _ABANDONED_SEC:
                left.unlink()
    used = sorted((_used_sec(shard), _size_bytes(shard), shard) for shard in shards_of(folder))
    total, freed = sum(size for _, size, _ in used), 0
    for used_sec, size, shard in used:
        if total - freed <= limit_bytes:
            break
        if now - used_sec < _IN_USE_SEC:
            continue
        with contextlib.suppress(OSError):
            shard.unlink()
            freed += size
            if folder.name == CLASS_IMAGES:
                _unlink_caption(shard)
    return freed


def _unlink_caption(picture: Path) -> None:
    """And the prompt's folder with the last of its pictures."""
    picture.with_suffix(".txt").unlink(missing_ok=True)
    if not any(picture.parent.iterdir()):
        picture.parent.rmdir()


def size_limit_bytes(folder: Path) -> int:
    """What `set_size_limit` wrote, or the default."""
    try:
        gib = float(json.loads((folder / _LIMIT_FILE).read_text(encoding="utf-8"))["gib"])
    except (OSError, ValueError, KeyError, TypeError):
        gib = _DEFAULT_GIB.get(folder.name, _DEFAULT_GIB[CACHE])
    return int(gib * 2**30)


def set_size_limit(folder: Path, gib: float) -> None:
    """Raises AthanorError for a limit that is not a size, or a folder that cannot be written."""
    if not 0 <= gib < 1e6:
        raise AthanorError(f"{folder} cannot be limited to {gib} GiB; give a number from 0 on, for example 20.")
    replace_atomically(folder / _LIMIT_FILE, lambda temporary: temporary.write_text(json.dumps({"gib": gib}), encoding="utf-8"))


def mark_used(files: Iterable[str | Path]) -> None:
    """Keeps those of `files` that lie in a folder of written models, merges or class images from being cleaned away for the next half hour."""
    for file in map(Path, files):
        if file.parent.name in (BASES, MERGED) or file.parent.parent.name == CLASS_IMAGES:
            with contextlib.suppress(OSError):
                os.utime(_marked(file))


def _marked(file: Path) -> Path:
    """Whose time tells of the last use: of a class image its caption's, so that the picture's tells when it was drawn."""
    return file.with_suffix(".txt") if file.parent.parent.name == CLASS_IMAGES else file


def _used_sec(shard: Path) -> float:
    try:
        return _marked(shard).stat().st_mtime
    except OSError:
        return 0.0


def _size_bytes(shard: Path) -> int:
    try:
        return shard.stat().st_size
    except OSError:
        return 0
