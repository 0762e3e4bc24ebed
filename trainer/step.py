"""From a batch to its loss. Pure: everything random comes in as `Draws`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .families.base import Conditioning, Family
from .noise import Noise
from .objectives import squared_error
from .seeds import generator, stable_seed

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step, on the CPU in fp32. B images, C channels, H x W latents."""

    posterior: torch.Tensor
    """[B, C, H, W]: which latents of the autoencoder's posterior."""
    noise: torch.Tensor
    """[B, C, H, W]"""
    times: torch.Tensor
    """[B] in 0..1, uniform."""

    def pieces(self, size: int) -> Iterator[Draws]:
        """The same draws in batches of at most `size`."""
        for start in range(0, len(self.times), size):
            part = slice(start, start + size)
            yield Draws(self.posterior[part], self.noise[part], self.times[part])


def draws_of(seed: int, step: int, shape: tuple[int, ...]) -> Draws:
    import torch

    draw = generator(seed, "step", step)
    return Draws(torch.randn(shape, generator=draw), torch.randn(shape, generator=draw), torch.rand(shape[:1], generator=draw))


def validation_draws(name: str, times: list[float], shape: tuple[int, ...]) -> Draws:
    """The same noise for an image at every epoch and in every run; the posterior's mean instead of a draw from it."""
    import torch

    batch = (len(times), *shape)
    noise = torch.randn(batch, generator=torch.Generator("cpu").manual_seed(stable_seed("validation", name)))
    return Draws(torch.zeros(batch), noise, torch.tensor(times))


def batch_losses(
    family: Family, process: Noise, denoiser: nn.Module, mean: torch.Tensor, std: torch.Tensor, draws: Draws, conditioning: Conditioning
) -> torch.Tensor:
    """The loss of each image, [B], of latents with the given posterior `mean` and `std`, [B, C, H, W]."""
    device = mean.device
    latents = mean + std * draws.posterior.to(device)
    noise, times = draws.noise.to(device), draws.times.to(device)
    noisy = process.add(latents, noise, times)
    predicted = family.predict(denoiser, noisy, times, conditioning)
    return squared_error(predicted, process.target(latents, noise, times))
