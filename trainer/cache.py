"""Latents and text encodings on disk, under names that change when anything changes that they were made of."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .config import to_json
from .errors import AthanorError
from .files import replace_atomically

if TYPE_CHECKING:
    import torch

_MEMORY_BYTES = 512 << 20


def cache_key(*parts: object) -> str:
    """A name for what is made of `parts` (values that `to_json` takes)."""
    return hashlib.sha256(json.dumps([to_json(part) for part in parts], sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()[:40]


class TensorCache:
    """Small named dictionaries of tensors, each in a safetensors file; the last used ones stay in memory."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._memory: OrderedDict[str, dict[str, torch.Tensor]] = OrderedDict()
        self._memory_bytes = 0

    def __contains__(self, key: str) -> bool:
        return key in self._memory or self._path(key).is_file()

    def __getitem__(self, key: str) -> dict[str, torch.Tensor]:
        if key not in self._memory:
            from safetensors.torch import load_file

            try:
                self._remember(key, load_file(self._path(key)))
            except Exception as error:
                self._path(key).unlink(missing_ok=True)
                raise AthanorError(f"The cached file {self._path(key)} is damaged ({error}) and was deleted; queue again.") from None
        self._memory.move_to_end(key)
        return self._memory[key]

    def put(self, key: str, tensors: Mapping[str, torch.Tensor], meaning: str) -> None:
        """Keeps `tensors`. Raises AthanorError, naming `meaning`, if a number in them is not finite."""
        from safetensors.torch import save_file

        for tensor in tensors.values():
            if not bool(tensor.isfinite().all()):
                raise AthanorError(f"{meaning} came out as not-a-number. Choose precision fp32, or a base model whose files are whole.")
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        replace_atomically(self._path(key), lambda temporary: save_file(kept, temporary))
        self._remember(key, kept)

    def _remember(self, key: str, tensors: dict[str, torch.Tensor]) -> None:
        self._memory[key] = tensors
        self._memory_bytes += _num_bytes(tensors)
        while self._memory_bytes > _MEMORY_BYTES and len(self._memory) > 1:
            self._memory_bytes -= _num_bytes(self._memory.popitem(last=False)[1])

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"


def _num_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
