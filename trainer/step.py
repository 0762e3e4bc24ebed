"""From a batch to its loss. Pure: everything random comes in as `Draws`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from .draws import Draws, shaped_noise
from .families.base import Conditioning, Family
from .noise import Noise
from .objectives import image_losses
from .settings import ObjectiveSettings

if TYPE_CHECKING:
    import torch
    from torch import nn


Batch = TypeVar("Batch")


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


def backward_together(
    batches: Mapping[int, Batch],
    num_images: int,
    losses_of: Callable[[int, Batch], torch.Tensor],
    backward: Callable[[torch.Tensor], None],
) -> float:
    """Adds up the gradients of several numbered batches as if they were one, and returns their part of its mean loss.

    Every image counts the same however the batches are cut and whichever process has them: the sum of all losses over
    `num_images`, the number of the step's images. Stops at the first loss that is no finite number.
    """
    total = 0.0
    for number, batch in batches.items():
        loss = losses_of(number, batch).sum() / num_images
        total += loss.item()
        if not math.isfinite(total):
            break
        backward(loss)
    return total
