"""Latents of autoencoders that shift and scale: (z - shift) · scale (Esser et al. 2024, code)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..types import BaseModel
from ._parts import PartKind, open_part, vae_paths
from ._pipeline import component
from ._vae import decode_within_memory, load_sd_vae
from .base import Prompted

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn


def load_vae(base: BaseModel, kind: PartKind, scaling_factor: float, shift_factor: float) -> nn.Module:
    """In fp32; of a diffusers folder, or the part of one of the files."""
    import torch
    from diffusers import AutoencoderKL

    if Path(base.path).is_dir() and not base.vae_path:
        return component(AutoencoderKL, Path(base.path) / "vae", torch.float32)
    return load_sd_vae(open_part(kind, vae_paths(base)), scaling_factor, torch.float32, shift_factor)


def encoded(vae: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the latents, [B, C, H, W] each, of pixels [B, 3, 8H, 8W] in -1..1."""
    posterior = vae.encode(pixels).latent_dist
    return (posterior.mean - vae.config.shift_factor) * vae.config.scaling_factor, posterior.std * vae.config.scaling_factor


def decoded(vae: nn.Module, latents: torch.Tensor) -> list[Image.Image]:
    from PIL import Image

    pixels = decode_within_memory(vae, latents.float() / vae.config.scaling_factor + vae.config.shift_factor)
    arrays = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in arrays]


def conditioning_of(prompts: Sequence[Prompted], negative: bool, device: torch.device) -> dict[str, torch.Tensor]:
    """The conditionings of a batch of prompts, or their negative ones, row by row."""
    import torch

    sides = [prompt.negative if negative else prompt.positive for prompt in prompts]
    return {name: torch.cat([side[name] for side in sides]).to(device) for name in sides[0]}


def start_noise(prompts: Sequence[Prompted], shape: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    """[B, C, H, W], each from its own seed, the same on every device."""
    import torch

    return torch.stack([torch.randn(shape, generator=torch.Generator("cpu").manual_seed(prompt.seed)) for prompt in prompts]).to(device)
