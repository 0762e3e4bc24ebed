"""The files of a diffusers folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import AthanorError

_VARIANTS = (None, "bf16", "fp16")


def read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AthanorError(f"{path} cannot be read: {error}.") from None
    if not isinstance(data, dict):
        raise AthanorError(f"{path} is not a JSON object.")
    return data


@dataclass(frozen=True)
class FolderWeights:
    """The weights of one component: in one file, or in the shards that an index names."""

    variant: str | None
    """As diffusers and transformers are told of it: files with fp16 in their name are the variant "fp16"."""
    files: tuple[Path, ...]


def folder_weights(folder: Path, stem: str) -> FolderWeights | None:
    """Of a component's folder: the plain ones first, then a smaller variant. None where there are none.

    Raises AthanorError for an index that cannot be read.
    """
    for variant in _VARIANTS:
        file = folder / (f"{stem}.safetensors" if variant is None else f"{stem}.{variant}.safetensors")
        if file.is_file():
            return FolderWeights(variant, (file,))
        index = folder / f"{stem}.safetensors.index.{'json' if variant is None else f'{variant}.json'}"
        if index.is_file():
            shards = read_json(index).get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise AthanorError(f"{index} names no files; get it again.")
            return FolderWeights(variant, tuple(folder / Path(str(name)).name for name in sorted(set(shards.values()))))
    return None
