"""The header of a safetensors file: names, shapes and metadata, without reading a single weight.

Format: 8 bytes little-endian length, then that many bytes of JSON (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AthanorError

if TYPE_CHECKING:
    import torch

SAFE_ENDINGS = (".safetensors", ".sft")
"""Of safetensors files."""
MODEL_ENDINGS = (*SAFE_ENDINGS, ".ckpt", ".pt", ".pth", ".bin")
"""Of files with weights: the others are pickles, of which only tensors are read."""
_MAX_HEADER_BYTES = 100_000_000
_OTHERS = (
    (b"version ", "a Git LFS pointer, which only tells where the file is; download the file itself"),
    (b"<", "a web page, such as one that asks to sign in; download the file itself"),
    (b'{"error', "an answer of a web page; download the file itself"),
    (b"PK\x03\x04", "an archive or an old pickle; get it as safetensors, or call it .ckpt if it is an old checkpoint"),
    (b"GGUF", "a GGUF file, whose weights cannot be trained upon; choose the bf16, fp16 or fp8 file of this model"),
)
"""What is found under the name of a safetensors file, by its first bytes."""
_TABLES = ("state_dict", "params_ema", "params", "string_to_param")
"""Under which pickles keep their weights: checkpoints, upscalers and A1111's embeddings."""


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
        if size < 8:
            raise ValueError("it is empty")
        with path.open("rb") as file:
            start = file.read(8)
            (length,) = struct.unpack("<Q", start)
            if other := next((what for head, what in _OTHERS if start.startswith(head)), ""):
                raise ValueError(f"it is {other}")
            if length > min(size - 8, _MAX_HEADER_BYTES):
                raise ValueError("its header is longer than the file")
            entries = json.loads(file.read(length))
        if not isinstance(entries, dict):
            raise ValueError("its header is no table of weights")
        metadata = entries.pop("__metadata__", {})
        shapes = {key: tuple(entry["shape"]) for key, entry in entries.items()}
        dtypes = {key: entry["dtype"] for key, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        if 8 + length + end != size:
            raise ValueError(f"it has {size} bytes and should have {8 + length + end}; the download is not complete")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise AthanorError(f"{path} is not a whole safetensors file: {error}.") from None
    return Header(shapes, dtypes, metadata, path)


def is_safe(path: Path) -> bool:
    """Whether the name is that of a safetensors file."""
    return path.suffix.lower() in SAFE_ENDINGS


def read_model_header(path: Path) -> Header:
    """Of a safetensors file, or names and shapes of an old `.ckpt`. Raises AthanorError if it is neither, or not whole."""
    if is_safe(path):
        return read_header(path)
    return Header({key: tuple(value.shape) for key, value in pickled_tensors(path).items()}, {}, {}, path)


def pickled_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of an old `.ckpt` or `.pt`, mapped where its format allows it, read without running any code in it."""
    import torch

    data = pickled(path, "checkpoint")
    if not isinstance(data, dict):
        raise AthanorError(f"{path} holds no table of weights but a {type(data).__name__}; choose the checkpoint itself.")
    state = next((data[key] for key in _TABLES if isinstance(data.get(key), dict)), data)
    return {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}


def pickled(path: Path, noun: str, further: Sequence[Any] = ()) -> Any:
    """What an old file holds, read without running any code in it: tensors, plain values, and stand-ins for the kinds in `further`.

    Raises AthanorError if it holds anything else, or is not whole.
    """
    import pickle

    import torch

    try:
        with torch.serialization.safe_globals([*_stand_ins(), *further]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it holds {named[1]}" if named else f"it is damaged or no {noun}"
        raise AthanorError(
            f"{path} cannot be read as {'an' if noun[0] in 'aeiou' else 'a'} {noun} without running what is in it: {what}. Get it as safetensors, or convert it."
        ) from None
    except Exception as error:
        raise AthanorError(
            f"{path} is not a whole {noun} ({type(error).__name__}); the download is not complete, or it is another kind of file."
        ) from None


def _stand_ins() -> list[Any]:
    """What checkpoints of the first years keep beside their weights, as ComfyUI lets it pass: the callback and its numbers become nothing here."""
    import numpy

    def nothing(*_: object) -> None:
        return None

    callback = type("ModelCheckpoint", (), {})
    kinds = [type(numpy.dtype(name)) for name in ("float64", "float32", "int64")]
    scalars = [(nothing, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [(callback, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"), (numpy.dtype, "numpy.dtype"), *kinds, *scalars]
