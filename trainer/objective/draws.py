"""The random numbers of a step and the noise that is made of them. Drawn on the CPU in fp32, by counter.

Each purpose has a generator of its own, so that switching one on changes none of the others' numbers.
B images, C channels, H x W latents.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..seeds import generator, stable_seed
from ..settings import ObjectiveSettings

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Draws:
    posterior: torch.Tensor
    """[B, C, H, W]: which latents of the autoencoder's posterior."""
    noise: torch.Tensor
    """[B, C, H, W]"""
    uniform: torch.Tensor
    """[B] in 0..1, of which the times are made."""
    offset: torch.Tensor | None = None
    """[B, C, 1, 1]: one number for a whole channel."""
    offset_strength: float = 0.0
    coarse: torch.Tensor | None = None
    """[B, C, H, W]: the sum of the coarser layers of multiresolution noise."""
    perturbation: torch.Tensor | None = None
    """[B, C, H, W]: what the denoiser sees beside the noise."""

    def rows(self, numbers: list[int]) -> Draws:
        """Of those images alone."""

        def some(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor[numbers]

        return replace(
            self,
            posterior=self.posterior[numbers],
            noise=self.noise[numbers],
            uniform=self.uniform[numbers],
            offset=some(self.offset),
            coarse=some(self.coarse),
            perturbation=some(self.perturbation),
        )

    def pieces(self, size: int) -> Iterator[Draws]:
        """The same draws in batches of at most `size`."""
        numbers = list(range(len(self.uniform)))
        for start in range(0, len(numbers), size):
            yield self.rows(numbers[start : start + size])


def draws_of(seed: int, step: int, shape: tuple[int, ...], settings: ObjectiveSettings) -> Draws:
    import torch

    draw = generator(seed, "step", step)
    posterior, noise, uniform = torch.randn(shape, generator=draw), torch.randn(shape, generator=draw), torch.rand(shape[:1], generator=draw)
    offset, strength = None, settings.noise_offset
    if settings.noise_offset or settings.adaptive_noise_scale:
        draw = generator(seed, "noise offset", step)
        offset = torch.randn((*shape[:2], 1, 1), generator=draw)
        strength *= float(torch.rand(1, generator=draw)) if settings.noise_offset_random else 1.0
    coarse = None
    if settings.multires_iterations:
        coarse = coarse_layers(shape, settings.multires_iterations, settings.multires_discount, stable_seed(seed, "multires noise", step))
    perturbation = None
    if settings.input_perturbation:
        draw = generator(seed, "input perturbation", step)
        perturbation = torch.randn(shape, generator=draw) * settings.input_perturbation
        perturbation = perturbation * float(torch.rand(1, generator=draw)) if settings.input_perturbation_random else perturbation
    return Draws(posterior, noise, uniform, offset, strength, coarse, perturbation)


def encoder_drops(seed: int, batch: int, num_rows: int, rates: Mapping[str, float]) -> dict[str, tuple[bool, ...]]:
    """For each encoder in which images of that batch it is dropped, each encoder drawn apart from the others."""
    return {
        encoder: tuple(random.Random(stable_seed(seed, f"{encoder} dropout", batch, row)).random() < rate for row in range(num_rows))
        for encoder, rate in rates.items()
    }


def validation_draws(name: str, times: list[float], shape: tuple[int, ...]) -> Draws:
    """The same noise for an image at every epoch and in every run; the posterior's mean instead of a draw from it."""
    import torch

    batch = (len(times), *shape)
    noise = torch.randn(batch, generator=torch.Generator("cpu").manual_seed(stable_seed("validation", name)))
    return Draws(torch.zeros(batch), noise, torch.tensor(times))


def coarse_layers(shape: tuple[int, ...], iterations: int, discount: float, seed: int) -> torch.Tensor:
    """Pyramid noise (Whitaker 2023, "Multi-Resolution Noise for Diffusion Model Training"), as sd-scripts draws it.

    Layer i is noise of H / r^i by W / r^i, r drawn from 2..4 anew for each, enlarged to H x W and weakened to discount^i;
    the last one is the first with a side of 1. The same sizes for all images of the batch.
    """
    import torch

    sizes = random.Random(seed)
    draw = torch.Generator("cpu").manual_seed(seed)
    total = torch.zeros(shape)
    height, width = shape[2:]
    for i in range(iterations):
        factor = (sizes.random() * 2 + 2) ** i
        small = max(1, int(height / factor)), max(1, int(width / factor))
        layer = torch.randn((*shape[:2], *small), generator=draw)
        total += torch.nn.functional.interpolate(layer, size=(height, width), mode="bilinear") * discount**i
        if 1 in small:
            break
    return total


def shaped_noise(draws: Draws, latents: torch.Tensor, adaptive_scale: float) -> torch.Tensor:
    """The noise of a step, [B, C, H, W] on the device of `latents`: with its offset, then with its coarser layers.

    Offset (Guttenberg 2023, "Diffusion with Offset Noise"): noise + (o + a |mean of the channel|) z, the bracket not under 0.
    With coarser layers each image's noise is brought back to a standard deviation of 1.
    """
    noise = draws.noise.to(latents.device)
    if draws.offset is not None:
        means = latents.mean(dim=(2, 3), keepdim=True).abs()
        noise = noise + (draws.offset_strength + adaptive_scale * means).clamp(min=0) * draws.offset.to(latents.device)
    if draws.coarse is not None:
        noise = noise + draws.coarse.to(latents.device)
        noise = noise / noise.flatten(1).std(dim=1).view(-1, 1, 1, 1)
    return noise
