"""Written files that ComfyUI may hold as a node's result, though they can be cleaned away."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_given: set[Path] = set()


def give(files: Iterable[Path]) -> None:
    _given.update(files)


def gone() -> str:
    """Those that are not there any more: part of a node's fingerprint, so that it writes them anew."""
    return " ".join(sorted(path.name for path in _given if not path.is_file()))
