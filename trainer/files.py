"""Files that a crash cannot halve, names that a file system accepts, and content told by a fingerprint."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from .errors import AthanorError

_MAX_NAME_BYTES = 180
_WINDOWS_RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))}
_FINGERPRINT_BLOCK_BYTES = 1 << 16
_NUM_FINGERPRINT_BLOCKS = 64
_SPARE_BYTES = 64 << 20
"""A disk that is filled to its last byte stops everything else."""


def replace_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a temporary file beside `path` and renames it: `path` is the old content or the new, never half.

    Raises AthanorError when the disk is full or the folder cannot be written; nothing is left behind then.
    """
    mark = hashlib.sha256(path.name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    temporary = path.with_name(f".{path.name[:40]}.{mark}.{os.getpid()}.tmp")  # no longer than the longest name that a file may have
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, Exception) or isinstance(error, AthanorError):
            raise  # stopped by a person, or told already
        is_too_long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
        advice = "Give it a shorter name" if is_too_long else "Free some space or choose a folder that can be written"
        raise AthanorError(f"Cannot write {path}: {_reason(error)}. {advice}, then queue again.") from error


def require_space(folder: Path, num_bytes: int) -> None:
    """Raises AthanorError where the disk of `folder`, which need not be there yet, has no room for so many bytes more."""
    there = next(each for each in (folder, *folder.resolve().parents) if each.is_dir())
    free = shutil.disk_usage(there).free
    if num_bytes + _SPARE_BYTES > free:
        raise AthanorError(
            f"{folder} has {told_bytes(free)} free, and {told_bytes(num_bytes + _SPARE_BYTES)} are needed; free some space, or choose another folder."
        )


def told_bytes(num_bytes: float) -> str:
    """For people: "7.5 GiB", and below a tenth of one "64.0 MiB"."""
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 // 10 else f"{num_bytes / 2**20:.1f} MiB"


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def safe_name(text: str) -> str:
    """A file name of `text` that every system takes; letters of all languages stay.

    Raises AthanorError if nothing usable is left.
    """
    plain = re.sub(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff<>:"/\\|?*]+', "_", text.strip()).lstrip(". ")
    # Names may have 255 bytes, and numbers and endings come behind: an epoch's, and what it is called while it is written.
    name = plain[:120].encode("utf-8")[:_MAX_NAME_BYTES].decode("utf-8", errors="ignore").rstrip(". ")
    if not name.strip("._ ") or name.split(".")[0].strip().lower() in _WINDOWS_RESERVED:
        raise AthanorError(f"{text!r} cannot be used as a file name; give it a name of letters and digits.")
    return name


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content_fingerprint(path: Path) -> str:
    """Tells model files apart in milliseconds: sha256 over the size and 64 blocks of 64 KiB spread over the file.

    For a folder: over all the fingerprints of the files in it, and their names.
    """
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}:{content_fingerprint(file)}\n".encode())
        return digest.hexdigest()
    size = path.stat().st_size
    digest.update(str(size).encode())
    with path.open("rb") as file:
        for i in range(_NUM_FINGERPRINT_BLOCKS):
            file.seek(i * max(0, size - _FINGERPRINT_BLOCK_BYTES) // (_NUM_FINGERPRINT_BLOCKS - 1))
            digest.update(file.read(_FINGERPRINT_BLOCK_BYTES))
    return digest.hexdigest()
