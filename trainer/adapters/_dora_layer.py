"""The layer of dora.py."""

from __future__ import annotations

import torch
from torch import nn

from ._own import AdaptedLayer
from .base import base_weight
from .dora import channel_norms


class DoraLayer(AdaptedLayer):
    def __init__(self, base_layer: nn.Module, rank: int, alpha: float, dropout: float):
        super().__init__(base_layer)
        self.rank, self.alpha = rank, float(alpha)
        if isinstance(base_layer, nn.Conv2d):
            window = {"kernel_size": base_layer.kernel_size, "stride": base_layer.stride, "padding": base_layer.padding}
            self.lora_down: nn.Module = nn.Conv2d(base_layer.in_channels, rank, bias=False, dilation=base_layer.dilation, **window)
            self.lora_up: nn.Module = nn.Conv2d(rank, base_layer.out_channels, 1, bias=False)
        else:
            self.lora_down = nn.Linear(base_layer.in_features, rank, bias=False)
            self.lora_up = nn.Linear(rank, base_layer.out_features, bias=False)
        nn.init.zeros_(self.lora_up.weight)
        self.dora_scale = nn.Parameter(channel_norms(base_weight(base_layer), 1))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale, dtype = self.alpha / self.rank, x.dtype
        scaled = x * self.by_channel(self.dora_scale / self._norms(scale))
        mixed = scaled if self.strength == 1.0 else torch.lerp(x.to(scaled.dtype), scaled, self.strength)
        result = self.base_layer(mixed.to(dtype))
        return (result + self.lora_up(self.lora_down(self.dropout(scaled))) * (scale * self.strength)).to(result.dtype)

    @torch.no_grad()
    def _norms(self, scale: float) -> torch.Tensor:
        """Of the columns of W + ΔW, as a constant for the gradient (section 4.3 of the paper)."""
        with torch.autocast(self.dora_scale.device.type, enabled=False):
            up, down = self.lora_up.weight.flatten(1), self.lora_down.weight.flatten(1)
            weight = base_weight(self)
            return channel_norms(weight + (up @ down).reshape(weight.shape) * scale, 1)
