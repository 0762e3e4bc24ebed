"""Files that belong to an epoch's: the text encoders that were trained with a denoiser which has a file of its own. No torch."""

from __future__ import annotations

from pathlib import Path

TEXT_FOLDER = "text_encoders"
"""Beside the denoiser's file."""


def files_beside(path: Path) -> tuple[Path, ...]:
    """The text encoders that were saved with the denoiser in `path`: its name with -clip_l, -clip_g or -t5xxl behind it."""
    folder = path.parent / TEXT_FOLDER
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple(file for file in found if file.suffix == ".safetensors" and file.stem.rpartition("-")[0] == path.stem)
