"""(IA)³: the weight's output or input channels are scaled, W * (1 + w) (Liu et al. 2022), as LyCORIS has it.

peft scales the bias as well, which no loader of weights does. Files hold w, which starts from zero, and on_input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..settings import AdapterSettings
from . import ADAPTERS
from .base import LayerPlan, base_weight
from .dora import channel_norms, is_stock_form

if TYPE_CHECKING:
    import torch
    from torch import nn

_ON_INPUT = re.compile(r"(?:.*\.)?(?:ff(?:_context)?\.net\.2|mlp\.fc2|DenseReluDense\.wo|proj_out)")


class Ia3:
    title = "IA³"
    options = frozenset({"stock_form"})
    fast: frozenset[str] = frozenset()
    factors: frozenset[str] = frozenset()
    network_module = "lycoris.kohya"
    algo = "ia3"

    def attach(self, module: nn.Module, plans: Sequence[LayerPlan], settings: AdapterSettings, seed: int) -> None:
        from ._ia3_layer import Ia3Layer
        from ._own import replace_layers

        def wrap(layer: nn.Module, plan: LayerPlan) -> Ia3Layer:
            return Ia3Layer(layer, _ON_INPUT.fullmatch(plan.name) is not None)

        replace_layers(module, plans, wrap, seed)

    def is_layer(self, module: nn.Module) -> bool:
        from ._ia3_layer import Ia3Layer

        return isinstance(module, Ia3Layer)

    def tensors(self, layer: nn.Module) -> dict[str, torch.Tensor]:
        import torch

        # Of the weights' own type, so that a file holds one type: LyCORIS reads it as a truth value.
        return {"weight": layer.ia3, "on_input": torch.tensor(float(layer.on_input))}

    def load(self, layer: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
        weight = base_weight(layer)
        if "dora_scale" in tensors:
            tensors = from_stock_form(tensors, weight)
        if "weight" not in tensors:
            raise ValueError("lacks the tensor weight")
        on_input = bool(tensors["on_input"].item())
        wanted = tensors["weight"]
        if wanted.numel() != weight.shape[1 if on_input else 0]:
            raise ValueError(f"scales {wanted.numel()} channels of a layer of {tuple(weight.shape)}")
        layer.take(wanted, on_input)

    def set_strength(self, layer: nn.Module, strength: float) -> None:
        layer.strength = strength

    def recognises(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        return "on_input" in tensors or is_stock_form(tensors)

    def rank_of(self, tensors: Mapping[str, torch.Tensor]) -> int:
        return 1

    def change(self, tensors: Mapping[str, torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
        if "dora_scale" in tensors:
            tensors = from_stock_form(tensors, weight)
        axis = 1 if bool(tensors["on_input"].item()) else 0
        shape = [-1 if i == axis else 1 for i in range(weight.dim())]
        return weight.float() * tensors["weight"].float().to(weight.device).reshape(shape)


def to_stock_form(tensors: Mapping[str, torch.Tensor], weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """A change of rank 1 that is zero and the norms that the scaled weight has: ComfyUI computes W * (1 + w) from it, on this very base."""
    import torch

    axis = 1 if bool(tensors["on_input"].item()) else 0
    norms = channel_norms(weight.float(), axis)
    scaled = norms * (1 + tensors["weight"].float().to(weight.device)).reshape(norms.shape)
    return {
        "lora_up.weight": torch.zeros((weight.shape[0], 1, *[1] * (weight.dim() - 2))),
        "lora_down.weight": torch.zeros((1, *weight.shape[1:])),
        "alpha": torch.tensor(1.0),
        "dora_scale": scaled,
    }


def from_stock_form(tensors: Mapping[str, torch.Tensor], weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """The inverse of `to_stock_form`."""
    import torch

    axis = 0 if tensors["dora_scale"].shape[0] == weight.shape[0] else 1
    ratio = tensors["dora_scale"].float().to(weight.device) / channel_norms(weight.float(), axis) - 1
    return {"weight": ratio.flatten(), "on_input": torch.tensor(float(axis))}


ADAPTERS.register("ia3")(Ia3())
