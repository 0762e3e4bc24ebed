"""How pictures become noise, and what the denoiser is asked for: of the diffusion models and of the rectified flows.

Times are in 0..1, 0 is the picture and 1 is noise. x_t = signal(t) x_0 + share(t) ε. B images, C channels, H x W latents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ..settings import ObjectiveSettings
from ..types import BaseModel

if TYPE_CHECKING:
    import torch

Prediction = Literal["epsilon", "v", "flow"]
NUM_TRAIN_TIMES = 1000


@dataclass(frozen=True)
class Noise:
    """What a base was trained with; `noise_of` makes it from the base's own facts."""

    prediction: Prediction = "epsilon"
    zero_terminal_snr: bool = False
    """Whether the last time is noise alone (Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps Are Flawed")."""

    def shares(self, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the picture and of the noise at `times` [B]: [B] each, fp32."""
        if self.prediction == "flow":
            return 1 - times.float(), times.float()
        signal = _signal_shares(self.zero_terminal_snr).to(times.device)[discrete(times)]
        return signal.sqrt(), (1 - signal).sqrt()

    def snr(self, times: torch.Tensor) -> torch.Tensor:
        """The squared ratio of both shares, [B]; 0 at the end of a schedule with zero terminal SNR."""
        picture, noise = self.shares(times)
        return (picture / noise).square()

    def add(self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """x_t = sqrt(ᾱ_t) x_0 + sqrt(1 - ᾱ_t) ε (Ho et al. 2020, equation 4); of a flow (1 - t) x_0 + t ε (Liu et al. 2022)."""
        picture, share = (part.view(-1, 1, 1, 1) for part in self.shares(times))
        return picture * latents + share * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """What the denoiser should give, [B, C, H, W].

        ε (Ho et al. 2020, equation 14); v = sqrt(ᾱ_t) ε - sqrt(1 - ᾱ_t) x_0 (Salimans and Ho 2022, section 4); of a flow ε - x_0.
        """
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "flow":
            return noise - latents
        picture, share = (part.view(-1, 1, 1, 1) for part in self.shares(times))
        return picture * noise - share * latents


def noise_of(base: BaseModel) -> Noise:
    return Noise(base.prediction, base.zero_terminal_snr)


def trained_base(base: BaseModel, settings: ObjectiveSettings) -> BaseModel:
    """`base` with the noise schedule that the settings want it to be trained with, and its sample pictures drawn with."""
    return base if settings.zero_terminal_snr == "auto" else replace(base, zero_terminal_snr=settings.zero_terminal_snr == "on")


def discrete(times: torch.Tensor) -> torch.Tensor:
    """Times in 0..1 as the whole numbers 0..999 of a diffusion model."""
    return (times * NUM_TRAIN_TIMES).long().clamp(0, NUM_TRAIN_TIMES - 1)


def _signal_shares(zero_terminal_snr: bool) -> torch.Tensor:
    """ᾱ for each of the 1000 times: the product of 1 - β, sqrt(β) evenly spaced (Rombach et al. 2022, code).

    With zero terminal SNR sqrt(ᾱ) is shifted to end at 0 and scaled to keep its start (Lin et al. 2024, algorithm 1).
    """
    import torch

    betas = torch.linspace(0.00085**0.5, 0.012**0.5, NUM_TRAIN_TIMES, dtype=torch.float32, device="cpu") ** 2
    shares = torch.cumprod(1 - betas, dim=0)
    if not zero_terminal_snr:
        return shares
    roots = shares.sqrt()
    return ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))).square()
