"""How large the change of each layer is, told from the file alone: no base, no picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..adapters.attached import kind_of
from ..adapters.base import scale_of
from ..errors import AthanorError
from ..formats.layers import grouped, read_tensors_of

if TYPE_CHECKING:
    import torch

_LOW_RANK = {"lora_up.weight", "lora_down.weight"}


def layer_norms(path: Path) -> dict[str, float]:
    """The Frobenius norm of each layer's change of the base's weight, by the layer's name in the file.

    Of DoRA it is that of its low-rank part, of IA³ that of its factors; of an embedding the length of each vector.
    Layers of a kind that is not known are left out. Raises AthanorError if `path` is no whole safetensors file.
    """
    import torch

    tensors = read_tensors_of(path)
    with torch.no_grad():
        if layers := grouped(tensors):
            found = {name: _norm(held, path.name) for name, held in layers.items()}
            return {name: norm for name, norm in sorted(found.items()) if norm is not None}
        vectors = {name: tensor for name, tensor in tensors.items() if tensor.dim() == 2}
        return {f"{name} {i + 1}": float(row.float().norm()) for name, tensor in vectors.items() for i, row in enumerate(tensor)}


def _norm(held: Mapping[str, torch.Tensor], where: str) -> float | None:
    import torch

    whole = [tensor.float().norm() ** 2 for suffix, tensor in held.items() if suffix in ("diff", "diff_b")]
    if whole and len(whole) == len(held):
        return float(sum(whole)) ** 0.5
    if held.keys() >= _LOW_RANK and "lora_mid.weight" not in held:
        # |up down|² is the sum over (upᵀup) * (down downᵀ): two small matrices instead of the layer's own.
        up, down = held["lora_up.weight"].float().flatten(1), held["lora_down.weight"].float().flatten(1)
        square = ((up.T @ up) * (down @ down.T)).sum().clamp(min=0)
        return float(square.sqrt()) * abs(scale_of(held, down.shape[0]))
    if "weight" in held and "on_input" in held:
        return float(held["weight"].float().norm())
    shape = _shape_of(held)
    if shape is None:
        return None
    try:
        _, kind = kind_of({"": held}, where)
        return float(kind.change(held, torch.zeros(shape)).norm())
    except (AthanorError, RuntimeError, KeyError):
        return None


def _shape_of(held: Mapping[str, torch.Tensor]) -> tuple[int, ...] | None:
    """Of the base's weight, as far as it can be told from the factors."""
    if held.keys() >= _LOW_RANK:
        up, mid, down = held["lora_up.weight"], held["lora_mid.weight"], held["lora_down.weight"]
        return (up.shape[0], down.shape[1], *mid.shape[2:])
    if held.keys() >= {"hada_w1_a", "hada_w1_b"}:
        return (held["hada_w1_a"].shape[0], held["hada_w1_b"].flatten(1).shape[1]) if "hada_t1" not in held else None
    first, second = _kron_shape(held, "lokr_w1"), _kron_shape(held, "lokr_w2")
    if first is None or second is None:
        return None
    return (first[0] * second[0], first[1] * second[1], *second[2:])


def _kron_shape(held: Mapping[str, torch.Tensor], name: str) -> tuple[int, ...] | None:
    if name in held:
        return tuple(held[name].shape)
    if held.keys() >= {f"{name}_a", f"{name}_b"} and "lokr_t2" not in held:
        return (held[f"{name}_a"].shape[0], *held[f"{name}_b"].shape[1:])
    return None
