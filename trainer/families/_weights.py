"""The files of a diffusers folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import AthanorError


def read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AthanorError(f"{path} cannot be read: {error}.") from None
    if not isinstance(data, dict):
        raise AthanorError(f"{path} is not a JSON object.")
    return data


def folder_weights(folder: Path, stem: str) -> tuple[Path, str | None] | None:
    """The weights file of a component's folder and its variant: the plain one first, then the fp16 one."""
    for variant in (None, "fp16"):
        name = f"{stem}.safetensors" if variant is None else f"{stem}.{variant}.safetensors"
        if (folder / name).is_file() or (folder / f"{name}.index.json").is_file():
            return folder / name, variant
    return None
