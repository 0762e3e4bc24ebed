"""From a batch to its loss. Pure: everything random comes in as `Draws`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from .families.base import Conditioning, Family
from .objective.draws import Draws, shaped_noise
from .objective.noise import Noise
from .objective.objectives import image_losses
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
    times = times.to(mean.device)
    noisy, target = noised(process, mean, std, draws, times, settings)
    predicted = family.predict(denoiser, noisy, times, conditioning)
    return image_losses(predicted, target, times, None if mask is None else mask.to(mean.device), process, settings)


def noised(
    process: Noise, mean: torch.Tensor, std: torch.Tensor, draws: Draws, times: torch.Tensor, settings: ObjectiveSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the denoiser sees at `times` [B], and what it should answer, [B, C, H, W] each."""
    latents = mean + std * draws.posterior.to(mean.device)
    noise = shaped_noise(draws, latents, settings.adaptive_noise_scale)
    seen = noise if draws.perturbation is None else noise + draws.perturbation.to(mean.device)
    return process.add(latents, seen, times), process.target(latents, noise, times)


def backward_together(
    batches: Mapping[int, Batch],
    num_images: int,
    losses_of: Callable[[int, Batch], torch.Tensor | None],
    backward: Callable[[torch.Tensor], None],
    further: Sequence[Callable[[int, Batch], torch.Tensor | None]] = (),
) -> float:
    """Adds up the gradients of several numbered batches as if they were one, and returns their part of its mean loss.

    Every image counts the same however the batches are cut and whichever process has them: the sum of all losses over
    `num_images`, the number of the step's images. `further` losses of the same batches are added; each goes backward by itself, so
    that one graph at a time is in memory. None stands for no loss at all. Stops at the first loss that is no finite number.
    """
    total = 0.0
    for number, batch in batches.items():
        for each in (losses_of, *further):
            losses = each(number, batch)
            if losses is None:
                continue
            loss = losses.sum() / num_images
            total += loss.item()
            if not math.isfinite(total):
                return total
            backward(loss)
    return total
