"""The weighted sum of several files' changes, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..adapters.attached import kind_of
from ..adapters.base import scale_of
from ..errors import AthanorError
from ..formats.fused import cut
from ..formats.layers import grouped
from .blocks import BlockWeights
from .names import LayerName, layer_name, num_joint_blocks, transformer_module
from .resize import Factors, Limit, factors_of, resized

if TYPE_CHECKING:
    import torch

Held = Mapping[str, "torch.Tensor"]
"""A layer's tensors by suffix."""
_LORA = frozenset({"lora_up.weight", "lora_down.weight", "alpha"})
_WHOLE = frozenset({"diff", "diff_b"})
_DEPENDS_ON_BASE = frozenset({"dora_scale", "lora_magnitude_vector"})


@dataclass(frozen=True)
class Part:
    """One file of the sum."""

    name: str
    """For messages."""
    tensors: Mapping[str, torch.Tensor]
    weight: float


@dataclass(frozen=True)
class Merged:
    tensors: dict[str, torch.Tensor]
    """In fp32, under the names of the first file that has the layer."""
    ranks: tuple[int, ...]
    """Of the layers that are products."""
    kept: float
    """The least share of the squared singular values that a layer kept; 1 is an exact sum."""


@dataclass(frozen=True)
class _Entry:
    part: Part
    base: str
    held: Held
    weight: float


def merge_layers(parts: Sequence[Part], blocks: BlockWeights, limit: Limit) -> Merged:
    """The file whose change of each weight is the weighted sum of the parts'.

    LoRA and LoCon are summed exactly, also in Tucker's form; LoHa and LoKr are brought into LoRA's form by a singular value
    decomposition; IA³ stays IA³. Raises AthanorError where they cannot be summed, naming the file and the layer.
    """
    layers = _layers(parts, blocks)
    tensors: dict[str, torch.Tensor] = {}
    ranks, kept = [], 1.0
    for plain, entries in layers.items():
        counted = [entry for entry in entries if entry.weight != 0]
        if not counted:
            continue
        layer, share = _merge_layer(plain, counted, limit)
        ranks += [layer["lora_down.weight"].shape[0]] if "lora_down.weight" in layer else []
        kept = min(kept, share)
        tensors |= {f"{entries[0].base}.{suffix}": tensor for suffix, tensor in layer.items()}
    if not tensors:
        raise AthanorError("Nothing is left to merge: every layer has the weight 0.")
    return Merged(tensors, tuple(ranks), kept)


def _layers(parts: Sequence[Part], blocks: BlockWeights) -> dict[str, list[_Entry]]:
    """What the files have of each layer, under one name whichever way they spell it.

    Where some have query, key and value in one matrix and others in three, all have them in three, by diffusers' names.
    """
    found: list[tuple[Part, str, LayerName, Held]] = []
    for part in parts:
        layers = grouped(part.tensors)
        if not layers:
            raise AthanorError(f"{part.name} holds no layer of an adapter that is known here; merge files of LoRAs.")
        num_joint = num_joint_blocks(layers)
        found += [(part, base, layer_name(base, num_joint), held) for base, held in layers.items()]
    names = [name for _, _, name, _ in found]
    called = dict.fromkeys(word for name in names for word in name.called)
    if unused := blocks.unused(frozenset(called)):
        raise AthanorError(f"Block weights: {unused[0].strip('*')!r} is part of no layer's name; the names are like {next(iter(called))}.")
    single = {name.key for name in names if not name.pieces}
    is_cut = any(key in single for name in names for key, _ in name.pieces)
    merged: dict[str, list[_Entry]] = {}
    for part, base, name, held in found:
        weight = part.weight * blocks.factor(*name.called)
        for key, piece in [(key, cut(held, place)) for key, place in name.pieces] if is_cut and name.pieces else [(name.key, held)]:
            module = transformer_module(key) if is_cut else ""
            merged.setdefault(key, []).append(_Entry(part, f"transformer.{module}" if module else base, _unfolded(piece), weight))
    return merged


def _merge_layer(name: str, entries: Sequence[_Entry], limit: Limit) -> tuple[dict[str, torch.Tensor], float]:
    """The layer's tensors by suffix, and the share of the squared singular values that is in them."""
    _refuse_what_has_no_sum(name, entries)
    if "on_input" in entries[0].held:
        return _merge_scales(name, entries), 1.0
    if _WHOLE & entries[0].held.keys():
        suffixes = dict.fromkeys(suffix for entry in entries for suffix in entry.held if suffix in _WHOLE)
        return {suffix: _sum(name, [(entry, entry.held[suffix].float()) for entry in entries if suffix in entry.held]) for suffix in suffixes}, 1.0
    kernel = _kernel(entries)
    if all(entry.held.keys() <= _LORA for entry in entries):
        factors = resized(_side_by_side(name, entries), limit)
    else:
        changes = [(entry, _change(entry)) for entry in entries]
        kernel = kernel or next((tuple(change.shape[1:]) for _, change in changes if change.dim() == 4), None)
        factors = factors_of(_sum(name, [(entry, change.flatten(1)) for entry, change in changes]), limit)
    return _as_lora(factors, kernel), factors.kept


def _unfolded(held: Held) -> Held:
    """Tucker's form of a convolution, up · mid · down, as up and (mid · down): the same change, of the same rank."""
    import torch

    if "lora_mid.weight" not in held:
        return held
    down = torch.einsum("ij...,jn->in...", held["lora_mid.weight"].float(), held["lora_down.weight"].float().flatten(1))
    rest = {suffix: tensor for suffix, tensor in held.items() if suffix != "lora_mid.weight"}
    # alpha is told over the rank of Tucker's outer factor.
    scale = scale_of(held, held["lora_down.weight"].shape[0])
    return {**rest, "lora_down.weight": down, "alpha": torch.tensor(scale * len(down))}


def _refuse_what_has_no_sum(name: str, entries: Sequence[_Entry]) -> None:
    for entry in entries:
        if _DEPENDS_ON_BASE & entry.held.keys():
            raise AthanorError(
                f"{entry.part.name} is a DoRA or an IA³ in the stock loader's form, whose change depends on the base's weights, so that there is no sum; put each into the model with Apply Epoch, or all into a model's file with Merge Into Checkpoint."
            )
    for mark, told in (
        ("on_input", "an IA³, which scales what the base does"),
        ("diff", "a whole change of the weight"),
        ("diff_b", "a change of the bias alone"),
    ):
        having = [entry for entry in entries if mark in entry.held]
        if having and len(having) < len(entries) and not all(_WHOLE & entry.held.keys() for entry in entries):
            other = next(entry for entry in entries if mark not in entry.held)
            raise AthanorError(
                f"The layer {name} is {told} in {having[0].part.name} and something else in {other.part.name}; merge files of one kind."
            )


def _merge_scales(name: str, entries: Sequence[_Entry]) -> dict[str, torch.Tensor]:
    """IA³: W (1 + Σ wᵢ lᵢ) is the sum of the changes W lᵢ."""
    sides = {bool(entry.held["on_input"].item()) for entry in entries}
    if len(sides) > 1:
        raise AthanorError(f"The layer {name} is scaled at its input in one file and at its output in another; they cannot be merged.")
    return {"weight": _sum(name, [(entry, entry.held["weight"].float()) for entry in entries]), "on_input": entries[0].held["on_input"].float()}


def _side_by_side(name: str, entries: Sequence[_Entry]) -> Factors:
    """Σ wᵢ upᵢ downᵢ = [w₁up₁ w₂up₂ …] [down₁; down₂; …], exact; the rank is the sum of the ranks."""
    import torch

    downs = [entry.held["lora_down.weight"].float().flatten(1) for entry in entries]
    ups = [
        entry.weight * scale_of(entry.held, len(down)) * entry.held["lora_up.weight"].float().flatten(1)
        for entry, down in zip(entries, downs, strict=True)
    ]
    _same_sizes(name, entries, [(up.shape[0], down.shape[1]) for up, down in zip(ups, downs, strict=True)])
    return Factors(torch.cat(ups, dim=1), torch.cat(downs, dim=0))


def _change(entry: _Entry) -> torch.Tensor:
    """Of a layer's weight, at strength 1: (out, in), or (out, in, height, width) where the file tells that it is a convolution's."""
    import torch

    _, kind = kind_of({"": entry.held}, entry.part.name)
    return kind.change(entry.held, torch.zeros(_shape(entry.held)))


def _shape(held: Held) -> tuple[int, ...]:
    """Without a core, a convolution's window is in the columns."""
    if "lora_up.weight" in held:
        return held["lora_up.weight"].shape[0], held["lora_down.weight"].flatten(1).shape[1]
    if "hada_w1_a" in held:
        return _product_shape(held, "hada_w1", "hada_t1")
    first, second = _product_shape(held, "lokr_w1", ""), _product_shape(held, "lokr_w2", "lokr_t2")
    return (first[0] * second[0], first[1] * second[1], *second[2:])


def _product_shape(held: Held, name: str, core: str) -> tuple[int, ...]:
    if name in held:
        return tuple(held[name].shape)
    rows, columns = held[f"{name}_a"], held[f"{name}_b"]
    if core in held:
        return (rows.shape[1], columns.shape[1], *held[core].shape[2:])
    return rows.shape[0], columns.shape[1]


def _sum(name: str, changes: Sequence[tuple[_Entry, torch.Tensor]]) -> torch.Tensor:
    import torch

    _same_sizes(name, [entry for entry, _ in changes], [tuple(change.shape) for _, change in changes])
    return torch.stack([entry.weight * change for entry, change in changes]).sum(0)


def _same_sizes(name: str, entries: Sequence[_Entry], shapes: Sequence[tuple[int, ...]]) -> None:
    for entry, shape in zip(entries, shapes, strict=True):
        if shape != shapes[0]:
            first = entries[0].part.name
            raise AthanorError(
                f"The layer {name} is {shapes[0]} in {first} and {shape} in {entry.part.name}; merge files that were trained on one family of models."
            )


def _kernel(entries: Sequence[_Entry]) -> tuple[int, ...] | None:
    """Channels, height and width of the convolution that the factors belong to; None of a linear layer."""
    downs = [entry.held["lora_down.weight"] for entry in entries if "lora_down.weight" in entry.held]
    return tuple(downs[0].shape[1:]) if downs and downs[0].dim() == 4 else None


def _as_lora(factors: Factors, kernel: tuple[int, ...] | None) -> dict[str, torch.Tensor]:
    import torch

    up, down = factors.up, factors.down
    if kernel is not None:
        up, down = up[:, :, None, None], down.reshape(factors.rank, *kernel)
    return {"lora_up.weight": up.contiguous(), "lora_down.weight": down.contiguous(), "alpha": torch.tensor(float(factors.rank))}
