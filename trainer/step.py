"""From a batch to its loss. Pure: everything random comes in as `Draws`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .draws import Draws, shaped_noise
from .families.base import Conditioning, Family
from .noise import Noise
from .objectives import image_losses
from .settings import ObjectiveSettings

if TYPE_CHECKING:
    import torch
    from torch import nn


def batch_losses(
    family: Family,
    process: Noise,
    denoiser: nn.Module,
    mean: torch.Tensor,
    std: torch.Tensor,
    mask: torch.Tensor | None,
    draws: Draws,
    times: torch.Tensor,
    conditioning: Conditioning,
    settings: ObjectiveSettings,
) -> torch.Tensor:
    """The loss of each image, [B], of latents with the given posterior `mean` and `std`, [B, C, H, W], at `times` [B].

    `mask` is [B, 1, H, W] in 0..1 or None.
    """
    device = mean.device
    latents, times = mean + std * draws.posterior.to(device), times.to(device)
    noise = shaped_noise(draws, latents, settings.adaptive_noise_scale)
    seen = noise if draws.perturbation is None else noise + draws.perturbation.to(device)
    predicted = family.predict(denoiser, process.add(latents, seen, times), times, conditioning)
    target = process.target(latents, noise, times)
    return image_losses(predicted, target, times, None if mask is None else mask.to(device), process, settings)
