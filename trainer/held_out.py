"""The loss on images that are not trained on: each at the same times with the same noise, whenever and by whatever epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .data.cache import TensorCache
from .data.latents import load_latents, load_masks
from .data.views import View
from .families.base import Conditioning, Family, Framing
from .objective.draws import validation_draws
from .objective.noise import noise_of
from .objective.objectives import validation_times
from .settings import ObjectiveSettings
from .step import batch_losses
from .types import BaseModel

if TYPE_CHECKING:
    import torch
    from torch import nn

_NUM_TIMES = 8
_PLAIN = ObjectiveSettings(masked_loss="normalized")
"""Held-out images are measured alike whatever the training minimises, so that runs can be compared."""


@dataclass(frozen=True)
class HeldOut:
    """How held-out images are measured in one process; their latents are in the cache."""

    family: Family
    base: BaseModel
    vae_id: str
    """What the latents were made with."""
    cache: TensorCache
    device: torch.device
    autocast: torch.autocast
    batch_size: int
    is_masked: bool
    """Whether the loss counts where their masks are."""

    def losses(self, denoiser: nn.Module, view: View, conditioning: Callable[[int, Framing], Conditioning]) -> list[float]:
        """Of one image at each of the times. `conditioning` gives what is told of it, for so many rows."""
        import torch

        process = noise_of(self.base)
        mean, std = load_latents(self.vae_id, [view], self.cache, self.device)
        masks = load_masks([view], self.family.vae_stride_px, 0.0, self.cache) if self.is_masked else None
        draws = validation_draws(Path(view.sample.path).name, validation_times(_NUM_TIMES), tuple(mean.shape[1:]))
        losses: list[float] = []
        for piece in draws.pieces(self.batch_size):
            rows = len(piece.uniform)
            means, stds = mean.expand(rows, -1, -1, -1), std.expand(rows, -1, -1, -1)
            with torch.no_grad(), self.autocast:
                told = conditioning(rows, view.framing)
                losses += batch_losses(self.family, process, denoiser, means, stds, masks, piece, piece.uniform, told, _PLAIN).tolist()
        return losses
