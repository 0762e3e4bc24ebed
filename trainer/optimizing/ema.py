"""A running mean of what is trained (Polyak and Juditsky 1992), saved and drawn instead of the raw weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def warmed_decay(decay: float, num_updates: int) -> float:
    """The decay after `num_updates`: it rises with the steps, so that the mean soon forgets the untrained start."""
    return min(decay, (1 + num_updates) / (10 + num_updates))


class RunningMean:
    """mean = decay * mean + (1 - decay) * weights after each step, in fp32 on `device`."""

    def __init__(self, trained: Mapping[str, torch.Tensor], decay: float, device: torch.device):
        self._decay, self._device, self.num_updates = decay, device, 0
        self.mean = {name: tensor.detach().to(device, copy=True).float() for name, tensor in trained.items()}

    def update(self, trained: Mapping[str, torch.Tensor]) -> None:
        import torch

        share = 1 - warmed_decay(self._decay, self.num_updates)
        self.num_updates += 1
        with torch.no_grad():
            torch._foreach_lerp_(list(self.mean.values()), [trained[name].detach().to(self._device).float() for name in self.mean], share)

    def copy_to(self, trained: Mapping[str, torch.Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, tensor in self.mean.items():
                trained[name].copy_(tensor)

    def state_dict(self) -> dict[str, object]:
        return {"mean": self.mean, "num_updates": self.num_updates}

    def load_state_dict(self, state: dict) -> None:
        import torch

        self.num_updates = state["num_updates"]
        with torch.no_grad():
            for name, tensor in self.mean.items():
                tensor.copy_(state["mean"][name])
