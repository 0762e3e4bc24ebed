"""LoRA on linear and convolution layers: W + alpha / rank * up @ down (Hu et al. 2021, equation 3), by peft.

LoCon is the same with the 3 x 3 convolutions of the ResNet blocks, which have a rank of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..settings import AdapterSettings
from . import ADAPTERS
from ._peft import NAME, drop_module, drop_ranks, inject
from .base import LayerPlan, scale_of, scaled

if TYPE_CHECKING:
    import torch
    from torch import nn

OPTIONS = frozenset({"rank", "alpha", "rank_stabilised", "dropout", "rank_dropout", "module_dropout", "lora_plus_ratio", "max_norm"})


class Lora:
    options = OPTIONS
    fast = frozenset({"lora_up.weight"})
    factors = frozenset({"lora_up.weight", "lora_down.weight"})
    network_module = "networks.lora"
    algo = None

    def __init__(self, title: str, options: frozenset[str]):
        self.title = title
        self.options = options

    def attach(self, module: nn.Module, plans: Sequence[LayerPlan], settings: AdapterSettings, seed: int) -> None:
        from peft import LoraConfig

        def config(rank: int, alpha: float, names: str) -> LoraConfig:
            return LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, lora_dropout=settings.dropout, bias="none")  # type: ignore[arg-type]

        inject(module, plans, config, seed)
        for plan in plans:
            layer = module.get_submodule(plan.name)
            down, up = layer.lora_A[NAME], layer.lora_B[NAME]
            if settings.rank_dropout > 0:
                drop_ranks(layer, down, settings.rank_dropout)
            if settings.module_dropout > 0:
                drop_module(layer, up, settings.module_dropout)

    def is_layer(self, module: nn.Module) -> bool:
        from peft.tuners.lora import LoraLayer

        return isinstance(module, LoraLayer)

    def tensors(self, layer: nn.Module) -> dict[str, torch.Tensor]:
        import torch

        return {
            "lora_down.weight": layer.lora_A[NAME].weight,
            "lora_up.weight": layer.lora_B[NAME].weight,
            # Loaders take a missing alpha for a scale of 1, whatever the rank.
            "alpha": torch.tensor(float(layer.lora_alpha[NAME])),
        }

    def load(self, layer: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
        for suffix, current in self.tensors(layer).items():
            if suffix == "alpha":
                continue
            wanted = fitted(tensors, suffix, current)
            current.data.copy_(wanted)
        layer.lora_alpha[NAME] = scale_of(tensors, layer.r[NAME]) * layer.r[NAME]
        layer.set_scale(NAME, 1.0)

    def set_strength(self, layer: nn.Module, strength: float) -> None:
        layer.set_scale(NAME, strength)

    def recognises(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        return {"lora_up.weight", "lora_down.weight"} <= tensors.keys() and not {"dora_scale", "lora_magnitude_vector"} & tensors.keys()

    def rank_of(self, tensors: Mapping[str, torch.Tensor]) -> int:
        return tensors["lora_down.weight"].shape[0]

    def change(self, tensors: Mapping[str, torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
        return low_rank_change(tensors, weight)


def low_rank_change(tensors: Mapping[str, torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
    """alpha / rank * up @ down, of the shape of `weight`; with LyCORIS's third factor where a file has one (Tucker)."""
    import torch

    up, down = (tensors[suffix].float().to(weight.device) for suffix in ("lora_up.weight", "lora_down.weight"))
    scale = scale_of(tensors, down.shape[0])
    if "lora_mid.weight" in tensors:
        mid = tensors["lora_mid.weight"].float().to(weight.device)
        return scaled(torch.einsum("ij...,oi,jn->on...", mid, up.flatten(1), down.flatten(1)), scale)
    return scaled((up.flatten(1) @ down.flatten(1)).reshape(weight.shape), scale)


def fitted(tensors: Mapping[str, torch.Tensor], suffix: str, current: torch.Tensor) -> torch.Tensor:
    """The tensor of that suffix in the shape of `current`: some programs write a 1 x 1 convolution flat, or a linear layer as one.

    Raises ValueError where it is missing or of another size.
    """
    if suffix not in tensors:
        raise ValueError(f"lacks the tensor {suffix}")
    wanted = tensors[suffix]
    if wanted.shape != current.shape:
        if wanted.numel() != current.numel() or wanted.shape[0] != current.shape[0]:
            raise ValueError(f"has {suffix} of the shape {tuple(wanted.shape)} where {tuple(current.shape)} is wanted")
        wanted = wanted.reshape(current.shape)
    return wanted


ADAPTERS.register("lora")(Lora("LoRA", OPTIONS))
ADAPTERS.register("locon")(Lora("LoCon", OPTIONS | {"conv_rank", "conv_alpha"}))
