"""At which times a step is trained: from uniform draws to times, most of them where the settings want them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..families._flow import logit_normal, mode, resolution_shift, shifted
from ..families.base import Family
from ..settings import ObjectiveSettings
from ..types import BaseModel
from .noise import NUM_TRAIN_TIMES

if TYPE_CHECKING:
    import torch

_MARGIN = 1e-6
"""Keeps times of single precision inside their range, whose ends are whole timesteps."""
_PATCH = 2
"""Flow models read their latents in patches of 2 x 2."""


def training_times(uniform: torch.Tensor, latent_size: tuple[int, int], family: Family, base: BaseModel, settings: ObjectiveSettings) -> torch.Tensor:
    """[B] times from `min_timestep` on, under `max_timestep`, as the settings want them; `uniform` is [B] in 0..1.

    Named as in sd-scripts and SD3's paper: sigmoid(s z) with z normal is "sigmoid", sigmoid(m + s z) "logit_normal"
    (Esser et al. 2024, equation 19), "mode" its equation 20; "shifted" and "resolution_shifted" are "sigmoid" moved towards
    noise by the shift given (equation 23), or by the one that FLUX takes for a picture of that size.
    """
    low, high = settings.min_timestep / NUM_TRAIN_TIMES, settings.max_timestep / NUM_TRAIN_TIMES
    wanted = _sampled(uniform, latent_size, family, base, settings).double()
    return (low + wanted * (high - low)).clamp(low + _MARGIN, high - _MARGIN).to(uniform.dtype)


def _sampled(uniform: torch.Tensor, latent_size: tuple[int, int], family: Family, base: BaseModel, settings: ObjectiveSettings) -> torch.Tensor:
    kind = settings.timestep_sampling
    if kind == "auto":
        return family.training_times(base, uniform, latent_size)
    if kind == "uniform":
        return uniform
    if kind == "mode":
        return mode(uniform, settings.mode_scale)
    if kind == "logit_normal":
        return logit_normal(uniform, settings.logit_mean, settings.logit_std)
    times = logit_normal(uniform, 0.0, settings.logit_std)
    if kind == "sigmoid":
        return times
    shift = settings.shift if kind == "shifted" else resolution_shift((latent_size[0] // _PATCH) * (latent_size[1] // _PATCH))
    return shifted(times, shift)
