"""How the weights are moved: builders by name, each with explicit keyword arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .registry import Registry

if TYPE_CHECKING:
    import torch

ParameterGroups = Sequence[dict[str, Any]]
"""As torch takes them: {"params": […], "lr": rate}."""

OPTIMIZERS: Registry[Callable[[ParameterGroups, float], torch.optim.Optimizer]] = Registry("optimizer")


@OPTIMIZERS.register("adamw")
def adamw(groups: ParameterGroups, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019), betas 0.9 and 0.999."""
    import torch

    return torch.optim.AdamW(groups, betas=(0.9, 0.999), weight_decay=weight_decay)
