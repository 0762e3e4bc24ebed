"""DoRA: a magnitude for each column of W + alpha / rank * up @ down (Liu et al. 2024, equation 5).

The magnitude is that of the paper, one for each input channel. peft has one for each output channel, which ComfyUI
divides by the norm of the bare weight; for input channels both agree. A column's scale is a scale of the input:
m / ||V|| * V x = V (m / ||V|| * x), so that the base's layer is used as it is, quantised or not. Files of peft are read
as peft computes them, and worn or merged, but not gone on with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..settings import AdapterSettings
from . import ADAPTERS
from ._peft import drop_module, drop_ranks
from .base import LayerPlan, base_weight, scale_of
from .lora import OPTIONS, fitted, low_rank_change

if TYPE_CHECKING:
    import torch
    from torch import nn

_SUFFIXES = ("lora_down.weight", "lora_up.weight", "dora_scale")
PEFT_MAGNITUDE = "lora_magnitude_vector"
"""Under which peft keeps one number for each output channel, [out] or [1, out, 1, 1]."""


class Dora:
    title = "DoRA"
    options = OPTIONS | {"conv_rank", "conv_alpha"}
    fast = frozenset({"lora_up.weight"})
    factors = frozenset({"lora_up.weight", "lora_down.weight"})
    network_module = "lycoris.kohya"
    algo = "locon"

    def attach(self, module: nn.Module, plans: Sequence[LayerPlan], settings: AdapterSettings, seed: int) -> None:
        from ._dora_layer import DoraLayer
        from ._own import replace_layers

        def wrap(layer: nn.Module, plan: LayerPlan) -> DoraLayer:
            adapted = DoraLayer(layer, plan.rank, plan.alpha, settings.dropout)
            if settings.rank_dropout > 0:
                drop_ranks(adapted, adapted.lora_down, settings.rank_dropout)
            if settings.module_dropout > 0:
                drop_module(adapted, adapted.lora_up, settings.module_dropout)
            return adapted

        replace_layers(module, plans, wrap, seed)

    def is_layer(self, module: nn.Module) -> bool:
        from ._dora_layer import DoraLayer

        return isinstance(module, DoraLayer)

    def tensors(self, layer: nn.Module) -> dict[str, torch.Tensor]:
        import torch

        return {
            "lora_down.weight": layer.lora_down.weight,
            "lora_up.weight": layer.lora_up.weight,
            "dora_scale": layer.dora_scale,
            "alpha": torch.tensor(layer.alpha),
        }

    def load(self, layer: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
        held = self.tensors(layer)
        if PEFT_MAGNITUDE in tensors or ("dora_scale" in tensors and tensors["dora_scale"].shape[0] == base_weight(layer).shape[0] != 1):
            raise ValueError("has a magnitude for each output channel, which programs compute in different ways; only those for input channels go on")
        for suffix in _SUFFIXES:
            held[suffix].data.copy_(fitted(tensors, suffix, held[suffix]))
        layer.alpha = scale_of(tensors, layer.rank) * layer.rank

    def set_strength(self, layer: nn.Module, strength: float) -> None:
        layer.strength = strength

    def recognises(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        if PEFT_MAGNITUDE in tensors:
            return set(_SUFFIXES[:2]) <= tensors.keys()
        return set(_SUFFIXES) <= tensors.keys() and not is_stock_form(tensors)

    def rank_of(self, tensors: Mapping[str, torch.Tensor]) -> int:
        return tensors["lora_down.weight"].shape[0]

    def change(self, tensors: Mapping[str, torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
        """As ComfyUI's comfy/weight_adapter/base.py weight_decompose: on the output axis it divides by the norm of the bare weight.

        With peft's magnitudes as peft's tuners/lora/dora.py: by the norm of the whole.
        """
        weight = weight.float()
        whole = weight + low_rank_change(tensors, weight)
        if PEFT_MAGNITUDE in tensors:
            norm = channel_norms(whole, 0)
            return whole * (tensors[PEFT_MAGNITUDE].float().to(weight.device).reshape(norm.shape) / norm) - weight
        magnitude = tensors["dora_scale"].float().to(weight.device)
        on_output = magnitude.shape[0] == weight.shape[0]
        norm = channel_norms(weight, 0) if on_output else channel_norms(whole, 1)
        return whole * (magnitude.reshape(norm.shape) / norm) - weight


def channel_norms(weight: torch.Tensor, axis: int) -> torch.Tensor:
    """The norm of each slice along `axis`, with ones for the other axes: [1, in] or [1, in, 1, 1] for axis 1."""
    import torch

    others = [i for i in range(weight.dim()) if i != axis]
    return torch.linalg.vector_norm(weight, dim=others, keepdim=True) + torch.finfo(torch.float32).eps


def is_stock_form(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether a file's layer is an IA³ in the form that stock loaders take: a change that is zero, with norms beside it."""
    return "dora_scale" in tensors and "lora_down.weight" in tensors and not tensors["lora_down.weight"].count_nonzero()


ADAPTERS.register("dora")(Dora())
