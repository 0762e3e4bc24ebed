"""Layers of our own, for the kinds of which peft's differ from what stock loaders compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from .base import LayerPlan


class AdaptedLayer(nn.Module):
    """A frozen linear or convolution layer and something beside it."""

    def __init__(self, base_layer: nn.Module):
        super().__init__()
        self.base_layer = base_layer.requires_grad_(False)
        self.strength = 1.0

    @property
    def weight(self) -> torch.Tensor:
        """The base's: some models look at its type."""
        return self.base_layer.weight

    @property
    def bias(self) -> torch.Tensor | None:
        return self.base_layer.bias

    def by_channel(self, vector: torch.Tensor) -> torch.Tensor:
        """`vector` [C] so that it multiplies the channels of the layer's input or output."""
        return vector.reshape(1, -1, 1, 1) if isinstance(self.base_layer, nn.Conv2d) else vector.reshape(-1)


def replace_layers(module: nn.Module, plans: Sequence[LayerPlan], wrap: Callable[[nn.Module, LayerPlan], AdaptedLayer], seed: int) -> None:
    """Puts `wrap`'s layers in the place of the planned ones and freezes all else."""
    module.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for plan in sorted(plans, key=lambda plan: plan.name):
            layer = module.get_submodule(plan.name)
            parent, _, child = plan.name.rpartition(".")
            setattr(module.get_submodule(parent), child, wrap(layer, plan).to(layer.weight.device))
