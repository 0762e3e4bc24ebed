"""The header of a safetensors file: names, shapes and metadata, without reading a single weight.

Format: 8 bytes little-endian length, then that many bytes of JSON (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError

if TYPE_CHECKING:
    import torch

_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Header:
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    """As the format writes them: F16, BF16, F32, F8_E4M3…"""
    metadata: dict[str, str]
    path: Path | None = None
    """Where it was read."""

    def any_key(self, *prefixes: str) -> bool:
        return any(key.startswith(prefixes) for key in self.shapes)


def read_header(path: Path) -> Header:
    """Raises AthanorError if `path` is not a whole safetensors file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _MAX_HEADER_BYTES):
                raise ValueError("its header is longer than the file")
            entries = json.loads(file.read(length))
        metadata = entries.pop("__metadata__", {})
        shapes = {key: tuple(entry["shape"]) for key, entry in entries.items()}
        dtypes = {key: entry["dtype"] for key, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        if 8 + length + end != size:
            raise ValueError(f"it has {size} bytes and should have {8 + length + end}; the download is not complete")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise AthanorError(f"{path} is not a whole safetensors file: {error}.") from None
    return Header(shapes, dtypes, metadata, path)


def read_model_header(path: Path) -> Header:
    """Of a safetensors file, or names and shapes of an old `.ckpt`. Raises AthanorError if it is neither, or not whole."""
    if path.suffix.lower() == ".safetensors":
        return read_header(path)
    return Header({key: tuple(value.shape) for key, value in pickled_tensors(path).items()}, {}, {}, path)


def pickled_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of an old `.ckpt` or `.pt`, mapped, read without running any code in it."""
    import torch

    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        state = data.get("state_dict", data)
        return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    except Exception as error:
        raise AthanorError(
            f"{path} cannot be read as a checkpoint without running what is in it ({type(error).__name__}); get it as safetensors, or convert it."
        ) from None
