"""The loss of a batch: pure functions of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def squared_error(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each image, [B], of tensors [B, C, H, W]; computed in fp32."""
    return (predicted.float() - target.float()).pow(2).flatten(1).mean(dim=1)


def validation_times(num_times: int) -> list[float]:
    """The middles of `num_times` equal shares of the times 0..1: the same ones for every image and every epoch."""
    return [(i + 0.5) / num_times for i in range(num_times)]
