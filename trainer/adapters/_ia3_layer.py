"""The layer of ia3.py."""

from __future__ import annotations

import torch
from torch import nn

from ._own import AdaptedLayer


class Ia3Layer(AdaptedLayer):
    def __init__(self, base_layer: nn.Module, on_input: bool):
        super().__init__(base_layer)
        self.on_input = on_input
        is_conv = isinstance(base_layer, nn.Conv2d)
        size = (base_layer.in_channels, base_layer.out_channels) if is_conv else (base_layer.in_features, base_layer.out_features)
        num_channels = size[0] if on_input else size[1]
        self.ia3 = nn.Parameter(torch.zeros((1, num_channels, 1, 1) if is_conv else (num_channels,)))

    def take(self, values: torch.Tensor, on_input: bool) -> None:
        """The values of a file, whichever side they scale."""
        shape = (1, -1, 1, 1) if isinstance(self.base_layer, nn.Conv2d) else (-1,)
        wanted = values.detach().float().to(self.ia3.device).reshape(shape)
        self.on_input = on_input
        if wanted.shape == self.ia3.shape:
            self.ia3.data.copy_(wanted)
        else:
            self.ia3 = nn.Parameter(wanted.clone(), requires_grad=self.ia3.requires_grad)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = self.by_channel(self.ia3) * self.strength
        if self.on_input:
            return self.base_layer((x * (1 + change)).to(x.dtype))
        result = self.base_layer(x)
        of_weight = result if self.bias is None else result - self.by_channel(self.bias)
        return result + (of_weight * change).to(result.dtype)
