"""The weighted sum of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import AthanorError
from .layers import Part

if TYPE_CHECKING:
    import torch


def merge_vectors(parts: Sequence[Part]) -> dict[str, torch.Tensor]:
    """Each encoder's vectors (number, width), in fp32. Raises AthanorError where the files have others."""
    first = parts[0]
    for part in parts[1:]:
        for key in first.tensors.keys() | part.tensors.keys():
            shapes = [tuple(each.tensors[key].shape) if key in each.tensors else None for each in (first, part)]
            if shapes[0] != shapes[1]:
                raise AthanorError(
                    f"The vectors {key} are {shapes[0]} in {first.name} and {shapes[1]} in {part.name}; merge epochs of one embedding."
                )
    return {key: sum(part.weight * part.tensors[key].float() for part in parts) for key in first.tensors}  # type: ignore[misc]
