"""Where captions are kept: one folder for each model and its settings, one text for each picture, by the content of the picture.

The folder is a run directory of the worker, too: it holds job.json, events.jsonl and worker.log beside the texts.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..config import to_json
from ..files import content_fingerprint, replace_atomically
from ..settings import CaptioningSettings

FORMAT_VERSION = 2
"""Counts up when a model would write something else for the same picture and settings."""

_TOLD_BY = (".safetensors", ".bin", ".json", ".txt")


def store_folder(root: Path, captioner: str, model: Path, settings: CaptioningSettings) -> Path:
    """Below `root`: the same for the same files and settings, wherever the model lies."""
    files = sorted(file for file in model.iterdir() if file.suffix.lower() in _TOLD_BY and file.is_file())
    told = [FORMAT_VERSION, captioner, to_json(settings), [(file.name, content_fingerprint(file)) for file in files]]
    return root / hashlib.sha256(json.dumps(told).encode("utf-8")).hexdigest()[:16]


def read_text(folder: Path, name: str) -> str | None:
    """What a model wrote; None if it has not yet."""
    try:
        return _file(folder, name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def write_text(folder: Path, name: str, text: str) -> None:
    """Raises AthanorError if the folder cannot be written."""
    replace_atomically(_file(folder, name), lambda temporary: _write(temporary, text))


def _file(folder: Path, name: str) -> Path:
    return folder / "texts" / f"{name}.txt"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
