"""Adapters of a whole module: their parameters, their file, their strength. The same for every kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import AthanorError
from . import all_adapters
from .base import Adapter, LayerPlan, base_weight, scale_of
from .ia3 import to_stock_form

if TYPE_CHECKING:
    import torch
    from torch import nn

KeyOf = Callable[[str], str]
"""From a module's name to the name under which the adapter file keeps it."""
LayerTensors = Mapping[str, Mapping[str, "torch.Tensor"]]
"""A file's tensors by the module's name and by suffix."""


def adapted_layers(kind: Adapter, module: nn.Module) -> dict[str, nn.Module]:
    """The adapted layers by name, in the order of their names."""
    return {name: layer for name, layer in sorted(module.named_modules()) if kind.is_layer(layer)}


def trained(kind: Adapter, layers: Mapping[str, nn.Module]) -> dict[tuple[str, str], torch.Tensor]:
    """What is trained, by the layer's name and the suffix."""
    from torch import nn

    return {
        (name, suffix): tensor for name, layer in layers.items() for suffix, tensor in kind.tensors(layer).items() if isinstance(tensor, nn.Parameter)
    }


def attach(kind: Adapter, module: nn.Module, plans: Sequence[LayerPlan], settings, seed: int) -> dict[str, nn.Module]:
    """Adapts the planned layers; returns them by name. All else of `module` is frozen, and dropout rests until `set_training`."""
    kind.attach(module, plans, settings, seed)
    layers = adapted_layers(kind, module)
    module.requires_grad_(False)
    for tensor in trained(kind, layers).values():
        tensor.data = tensor.data.float()
        tensor.requires_grad_(True)
    set_training(layers, False)
    return layers


def export(kind: Adapter, layers: Mapping[str, nn.Module], key_of: KeyOf, stock_form: bool = False) -> dict[str, torch.Tensor]:
    """The adapter's tensors under the file's names, on the CPU in fp32."""
    tensors = {}
    for name, layer in layers.items():
        held = {suffix: tensor.detach() for suffix, tensor in kind.tensors(layer).items()}
        if stock_form:
            held = to_stock_form(held, base_weight(layer))
        for suffix, tensor in held.items():
            tensors[f"{key_of(name)}.{suffix}"] = tensor.float().cpu().clone().contiguous()
    return tensors


def load(kind: Adapter, layers: Mapping[str, nn.Module], given: LayerTensors) -> None:
    """The inverse of `export`. Raises AthanorError where a layer's tensors are missing or of another shape."""
    for name, layer in layers.items():
        if name not in given:
            raise AthanorError(f"The LoRA lacks the layer {name}; it was made for another base or with other settings.")
        try:
            kind.load(layer, given[name])
        except ValueError as error:
            raise AthanorError(f"The LoRA's layer {name} {error}; it was made for another base or with other settings.") from None


def set_strength(kind: Adapter, layers: Mapping[str, nn.Module], strength: float) -> None:
    for layer in layers.values():
        kind.set_strength(layer, strength)


def set_training(layers: Mapping[str, nn.Module], training: bool) -> None:
    """Whether the adapters' dropout acts."""
    for layer in layers.values():
        layer.train(training)
        getattr(layer, "base_layer", layer).eval()


def kind_of(given: LayerTensors, where: str) -> tuple[str, Adapter]:
    """The kind of which all layers of a file are. Raises AthanorError if there are several or none that can be trained on."""
    found = set()
    for tensors in given.values():
        found |= {name for name, kind in all_adapters().items() if kind.recognises(tensors)} or {""}
    # What differs between them is which layers they have.
    found -= {"locon"} if "lora" in found else set()
    if len(found) != 1 or "" in found:
        told = "no adapter" if not given else "adapters of several kinds" if "" not in found else "an adapter of a kind that is not known here"
        raise AthanorError(f"{where} holds {told}; choose a LoRA, LoCon, LoHa, LoKr, DoRA or IA³ for this base.")
    name = found.pop()
    return name, all_adapters()[name]


def plans_of(kind: Adapter, given: LayerTensors) -> tuple[LayerPlan, ...]:
    """What a file's layers are, so that adapters of the very same form can be attached."""
    plans = []
    for name, tensors in sorted(given.items()):
        rank = kind.rank_of(tensors)
        plans.append(LayerPlan(name, rank, scale_of(tensors, rank) * rank))
    return tuple(plans)


def limit_norms(kind: Adapter, layers: Mapping[str, nn.Module], max_norm: float) -> int:
    """Shrinks every layer's change that is longer than `max_norm` to it; returns how many were.

    As sd-scripts' scale_weight_norms: the factors share the shrinking evenly.
    """
    import torch

    shrunk = 0
    with torch.no_grad():
        for layer in layers.values():
            tensors = kind.tensors(layer)
            factors = [tensor for suffix, tensor in tensors.items() if suffix in kind.factors]
            norm = float(_product_norm(kind, tensors, layer))
            if norm > max_norm:
                for factor in factors:
                    factor.mul_((max_norm / norm) ** (1 / len(factors)))
                shrunk += 1
    return shrunk


def _product_norm(kind: Adapter, tensors: Mapping[str, torch.Tensor], layer: nn.Module) -> torch.Tensor:
    """Of the change that the factors make, without what stands beside them (DoRA's magnitudes)."""
    from .lora import low_rank_change

    change = low_rank_change if "dora_scale" in tensors else kind.change
    return change(tensors, _shaped(layer)).norm()


def _shaped(layer: nn.Module) -> torch.Tensor:
    """Something of the shape of the base's weight: a quantised one is stored in another."""
    import torch

    base = layer.base_layer
    if hasattr(base, "in_features"):
        return torch.empty((base.out_features, base.in_features), device=base.weight.device)
    return base.weight
