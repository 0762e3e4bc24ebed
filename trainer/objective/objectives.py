"""The loss of a batch: pure functions of tensors. B images, C channels, H x W latents; everything in fp32."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..settings import ObjectiveSettings
from .noise import NUM_TRAIN_TIMES, Noise

if TYPE_CHECKING:
    import torch

_LARGEST_SNR = 1000.0
"""At the first times the ratio is so large that its reciprocal would hide them."""


def image_losses(
    predicted: torch.Tensor, target: torch.Tensor, times: torch.Tensor, mask: torch.Tensor | None, noise: Noise, settings: ObjectiveSettings
) -> torch.Tensor:
    """The weighted loss of each image, [B]: `predicted` and `target` are [B, C, H, W], `times` [B], `mask` [B, 1, H, W] in 0..1."""
    losses = element_losses(predicted, target, settings.loss, huber_thresholds(times, noise, settings))
    return masked_means(losses, mask, settings.masked_loss == "normalized") * time_weights(times, noise, settings)


def element_losses(predicted: torch.Tensor, target: torch.Tensor, loss: str, thresholds: torch.Tensor) -> torch.Tensor:
    """The loss of each number, [B, C, H, W], as sd-scripts writes them.

    With error d and threshold c of an image: d², |d|, 2 c (sqrt(d² + c²) - c) for "huber", 2 (sqrt(d² + c²) - c) for "smooth_l1".
    """
    error = predicted.float() - target.float()
    if loss == "mse":
        return error.pow(2)
    if loss == "l1":
        return error.abs()
    c = thresholds.view(-1, 1, 1, 1)
    bent = (error.pow(2) + c.pow(2)).sqrt() - c
    return 2 * c * bent if loss == "huber" else 2 * bent


def huber_thresholds(times: torch.Tensor, noise: Noise, settings: ObjectiveSettings) -> torch.Tensor:
    """c for each image, [B] (Khrapov et al. 2024, "Improving Diffusion Models's Data-Corruption Resistance using Scheduled Pseudo-Huber Loss").

    constant: c_0 s; exponential: s c_0^(t), from s at the clean end to c_0 s at the noisy one; snr: (1 - c_0) / (1 + σ)² + c_0.
    """
    import torch

    c_0, schedule = settings.huber_c, resolved_huber_schedule(noise, settings)
    if schedule == "constant":
        return torch.full_like(times, c_0 * settings.huber_scale, dtype=torch.float32)
    if schedule == "exponential":
        # sd-scripts counts whole times of 1000.
        steps = times.float() if noise.prediction == "flow" else (times * NUM_TRAIN_TIMES).floor() / NUM_TRAIN_TIMES
        return torch.exp(math.log(c_0) * steps) * settings.huber_scale
    picture, share = noise.shares(times)
    sigma = share / picture
    return (1 - c_0) / (1 + sigma).pow(2) + c_0


def resolved_huber_schedule(noise: Noise, settings: ObjectiveSettings) -> str:
    if settings.huber_schedule != "auto":
        return settings.huber_schedule
    return "exponential" if noise.prediction == "flow" else "snr"


def time_weights(times: torch.Tensor, noise: Noise, settings: ObjectiveSettings) -> torch.Tensor:
    """How much each time counts, [B].

    "min_snr" (Hang et al. 2023, section 3.4): min(snr, γ) / snr where ε is predicted, min(snr, γ) / (snr + 1) where v is.
    "debiased" (Yu et al. 2023, "Debias the Training of Diffusion Models"): 1 / sqrt(snr), 1 / (snr + 1) where v is predicted,
    with the ratio held under 1000.
    """
    import torch

    if settings.weighting == "none":
        return torch.ones_like(times, dtype=torch.float32)
    snr = noise.snr(times)
    if settings.weighting == "min_snr":
        return snr.clamp(max=settings.min_snr_gamma) / (snr + 1 if noise.prediction == "v" else snr)
    held = snr.clamp(max=_LARGEST_SNR)
    return 1 / (held + 1) if noise.prediction == "v" else held.rsqrt()


def masked_means(losses: torch.Tensor, mask: torch.Tensor | None, normalized: bool) -> torch.Tensor:
    """The mean of each image, [B], of `losses` [B, C, H, W] times `mask` [B, 1, H, W]; divided by the mask's mean where `normalized`.

    An image whose mask is empty has the loss 0 either way.
    """
    if mask is None:
        return losses.flatten(1).mean(dim=1)
    means = (losses * mask).flatten(1).mean(dim=1)
    return means / mask.flatten(1).mean(dim=1).clamp(min=1e-6) if normalized else means


def validation_times(num_times: int) -> list[float]:
    """The middles of `num_times` equal shares of the times 0..1: the same ones for every image and every epoch."""
    return [(i + 0.5) / num_times for i in range(num_times)]
