"""How the weights are moved: builders by name, each with explicit keyword arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .registry import Registry
from .settings import OptimizerSettings

if TYPE_CHECKING:
    import torch

ParameterGroups = Sequence[dict[str, Any]]
"""As torch takes them: {"params": […], "lr": rate}."""

OPTIMIZERS: Registry[Callable[[ParameterGroups, float, OptimizerSettings], torch.optim.Optimizer]] = Registry("optimizer")


@OPTIMIZERS.register("adamw")
def adamw(groups: ParameterGroups, weight_decay: float, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019)."""
    import torch

    return torch.optim.AdamW(groups, betas=(settings.beta1, settings.beta2), eps=settings.epsilon, weight_decay=weight_decay)
