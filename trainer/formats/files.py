"""Writes adapter and embedding files with the hashes that other programs look for."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..files import file_sha256, replace_atomically

if TYPE_CHECKING:
    import numpy
    import torch

_KINDS = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}
"""By safetensors' names: torch's, and bytes a number."""
_NAMES = {name: key for key, (name, _) in _KINDS.items()}
_COPIED_BYTES = 1 << 24
_LEGACY_OFFSET, _LEGACY_BYTES, _LEGACY_KEY = 0x100000, 0x10000, "sshs_legacy_hash"


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], precision: str) -> str:
    """Saves `tensors` in `precision` (fp16, bf16 or fp32) and returns the file's sha256; equal input, equal file.

    `sshs_model_hash` is the sha256 of the tensor data and `sshs_legacy_hash` eight digits over 64 KiB of the file as
    it is with `ss_*` metadata only, as sd-scripts writes and A1111's Additional Networks reads them; the model spec's
    `hash_sha256` is that of the tensor data too.
    """
    import torch

    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    cast = {name: tensors[name].to(dtype).contiguous() for name in sorted(tensors)}
    plain = _serialise(cast, _of_training(metadata))
    digest = hashlib.sha256(plain[_header_bytes(plain) :]).hexdigest()
    hashes = {"sshs_model_hash": digest, _LEGACY_KEY: hashlib.sha256(plain[_LEGACY_OFFSET : _LEGACY_OFFSET + _LEGACY_BYTES]).hexdigest()[:8]}
    if any(key.startswith("modelspec.") for key in metadata):
        hashes["modelspec.hash_sha256"] = f"0x{digest}"
    replace_atomically(path, lambda temporary: temporary.write_bytes(_serialise(cast, {**metadata, **hashes})))
    return file_sha256(path)


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, copied out of it.

    What safetensors reads stays mapped to the file as long as a tensor of it lives, and Windows then refuses to replace or delete the file.
    """
    from safetensors.torch import load_file

    return {name: tensor.clone() for name, tensor in load_file(path).items()}


@dataclass(frozen=True)
class Planned:
    """A tensor of a file before it is there."""

    dtype: str
    """As safetensors writes it: F32, F16, BF16, I64…"""
    shape: tuple[int, ...]

    @classmethod
    def like(cls, tensor: torch.Tensor) -> Planned:
        """As `tensor` is. Raises KeyError for a dtype that safetensors does not know."""
        return cls(_NAMES[str(tensor.dtype).removeprefix("torch.")], tuple(tensor.shape))

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * _KINDS[self.dtype][1]


@dataclass(frozen=True)
class Streamed:
    """A tensor of a file to come, read when it is its turn."""

    planned: Planned
    read: Callable[[], torch.Tensor]
    """In the planned shape; it is cast to the planned dtype."""

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Streamed:
        """One that is there."""
        return cls(Planned.like(tensor), lambda: tensor)


def save_streamed(path: Path, tensors: Mapping[str, Streamed], metadata: Mapping[str, str]) -> str:
    """Writes a safetensors file one tensor after the other, so that never more than one of them is in memory; returns its sha256."""
    import torch

    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name, tensor in tensors.items():
        planned = tensor.planned
        header[name] = {"dtype": planned.dtype, "shape": list(planned.shape), "data_offsets": [end, end + planned.num_bytes]}
        end += planned.num_bytes
    digest = hashlib.sha256()

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:

            def put(data: bytes | numpy.ndarray) -> None:
                file.write(data)
                digest.update(data)

            put(_header_of(header))
            for name, tensor in tensors.items():
                planned = tensor.planned
                made = tensor.read().detach().to("cpu", getattr(torch, _KINDS[planned.dtype][0])).contiguous()
                if tuple(made.shape) != planned.shape:
                    raise AthanorError(f"{name} has the shape {tuple(made.shape)} instead of {planned.shape}.")
                if made.numel():
                    put(made.reshape(-1).view(torch.uint8).numpy())

    replace_atomically(path, write)
    return digest.hexdigest()


def with_metadata(source: Path, target: Path, metadata: Mapping[str, str]) -> None:
    """Copies a safetensors file with further metadata, piece by piece; its tensors stay bit for bit the same.

    A hash that goes by the `ss_*` metadata is made anew.
    """
    with source.open("rb") as file:
        end = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(end - 8))
        told = {**header.get("__metadata__", {}), **metadata}
        if _LEGACY_KEY in told:
            head = _header_of({**header, "__metadata__": _of_training(told)})
            file.seek(end + max(0, _LEGACY_OFFSET - len(head)))
            hashed = head[_LEGACY_OFFSET:] + file.read(_LEGACY_BYTES)
            told[_LEGACY_KEY] = hashlib.sha256(hashed[:_LEGACY_BYTES]).hexdigest()[:8]
    header["__metadata__"] = dict(sorted(told.items()))

    def write(temporary: Path) -> None:
        with source.open("rb") as file, temporary.open("wb") as copy:
            copy.write(_header_of(header))
            file.seek(end)
            shutil.copyfileobj(file, copy, _COPIED_BYTES)

    replace_atomically(target, write)


def _of_training(metadata: Mapping[str, str]) -> dict[str, str]:
    """What stays when a file is given another title: sd-scripts hashes a file with no more than this."""
    return {key: value for key, value in metadata.items() if key.startswith("ss_")}


def _header_of(header: Mapping[str, object]) -> bytes:
    """With its length before it, and blanks behind it up to the next multiple of eight."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _serialise(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """As safetensors does, with the metadata in order: the library writes it in a new random order each time."""
    from safetensors.torch import save

    data = save(dict(tensors), {"": ""})
    end = _header_bytes(data)
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(metadata.items()))
    return _header_of(header) + data[end:]


def _header_bytes(serialised: bytes) -> int:
    return 8 + int.from_bytes(serialised[:8], "little")
