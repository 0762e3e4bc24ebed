"""peft's layers under our names: put in place rank by rank, and their parameters found again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from .base import LayerPlan

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from torch import nn

NAME = "default"
"""peft's name of the one adapter that a model has here."""


def inject(module: nn.Module, plans: Sequence[LayerPlan], config_of: Callable[[int, float, str], PeftConfig], seed: int) -> None:
    """Adapts the planned layers. `config_of` makes peft's configuration of a rank, an alpha and a regular expression of names."""
    import torch
    from peft import inject_adapter_in_model

    def kind(plan: LayerPlan) -> tuple[int, float]:
        return plan.rank, plan.alpha

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for (rank, alpha), group in groupby(sorted(plans, key=lambda plan: (*kind(plan), plan.name)), key=kind):
            if hasattr(module, "peft_config"):
                # Left by the adapters of another rank; peft would warn of several adapters.
                del module.peft_config
            names = "|".join(re.escape(plan.name) for plan in group)
            inject_adapter_in_model(config_of(rank, alpha, f"(?:{names})"), module, adapter_name=NAME)


def entries(layer: nn.Module, suffixes: Sequence[str]) -> dict[str, torch.Tensor]:
    """The parameters of one of peft's LyCORIS layers, which keeps each in a dictionary of that name."""
    return {suffix: getattr(layer, suffix)[NAME] for suffix in suffixes if NAME in getattr(layer, suffix)}


def replace_entries(layer: nn.Module, suffixes: Sequence[str], tensors: Mapping[str, torch.Tensor]) -> None:
    """Gives a LyCORIS layer the tensors of a file, whichever of the forms of its kind they have."""
    from torch import nn

    device = layer.get_base_layer().weight.device
    for suffix in suffixes:
        held = getattr(layer, suffix)
        if suffix not in tensors:
            if NAME in held:
                del held[NAME]
        elif NAME in held and held[NAME].shape == tensors[suffix].shape:
            held[NAME].data.copy_(tensors[suffix])
        else:
            held[NAME] = nn.Parameter(tensors[suffix].detach().float().to(device).clone())


def drop_ranks(layer: nn.Module, down: nn.Module, probability: float) -> None:
    """Rank dropout as sd-scripts does it: whole ranks of an image, the others scaled up."""
    from torch import nn

    channels_first = isinstance(down, nn.Conv2d)

    def hook(_: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor | None:
        import torch

        if not layer.training:
            return None
        batch, rank = output.shape[0], output.shape[1 if channels_first else -1]
        kept = (torch.rand((batch, rank)) >= probability).to(output.device, output.dtype) / (1 - probability)
        shape = (batch, rank, 1, 1) if channels_first else (batch, *[1] * (output.dim() - 2), rank)
        return output * kept.reshape(shape)

    down.register_forward_hook(hook)


def drop_module(layer: nn.Module, up: nn.Module, probability: float) -> None:
    """Module dropout: now and then the layer's whole change is left out."""

    def hook(_: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor | None:
        import torch

        # Multiplied instead of replaced, so that the loss depends on the parameters even if every layer is left out.
        return output * 0 if layer.training and torch.rand(1) < probability else None

    up.register_forward_hook(hook)
