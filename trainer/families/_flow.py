"""Rectified flow (Lipman et al. 2023; Esser et al. 2024): pure functions of tensors.

Symbols: t in 0..1 (0 is clean, 1 is noise), u uniform in 0..1, m and s mean and standard deviation. The path and its velocity are in trainer/objective/noise.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from .base import Conditioning

_SMALLEST = 2.0**-24
"""`torch.rand` can give 0, whose normal quantile is infinite."""


def logit_normal(uniform: torch.Tensor, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
    """t = sigmoid(m + s Φ⁻¹(u)): times whose logit is normal (Esser et al. 2024, equation 19). With m = 0 it is the "sigmoid" of sd-scripts."""
    import torch

    inside = uniform.double().clamp(_SMALLEST, 1 - _SMALLEST)
    return torch.sigmoid(mean + std * torch.special.ndtri(inside)).to(uniform.dtype)


def mode(uniform: torch.Tensor, scale: float) -> torch.Tensor:
    """t = 1 - u - s (cos²(π u / 2) - 1 + u), denser in the middle for s > 0 (Esser et al. 2024, equation 20); s in -1..1.75."""
    import torch

    return 1 - uniform - scale * (torch.cos(math.pi / 2 * uniform) ** 2 - 1 + uniform)


def shifted(times: torch.Tensor, shift: float) -> torch.Tensor:
    """t' = s t / (1 + (s - 1) t): more noise for larger pictures (Esser et al. 2024, equation 23)."""
    return shift * times / (1 + (shift - 1) * times)


def resolution_shift(num_tokens: int) -> float:
    """FLUX's shift for a picture of that many 2 x 2 patches: exp(μ), μ on the line through 0.5 at 256 and 1.15 at 4096 (BFL's `get_schedule`)."""
    slope = (1.15 - 0.5) / (4096 - 256)
    return math.exp(0.5 + slope * (num_tokens - 256))


def schedule(steps: int, shift: float) -> list[float]:
    """The times of a picture's sampling, from 1 down to 0, `steps` + 1 of them."""
    even = [1 - i / steps for i in range(steps + 1)]
    return [shift * t / (1 + (shift - 1) * t) for t in even]


def guided(
    predict: Callable[[torch.Tensor, torch.Tensor, Conditioning], torch.Tensor], positive: Conditioning, negative: Conditioning, guidance: float
) -> Callable[[torch.Tensor, float], torch.Tensor]:
    """For `integrate`: the velocity by classifier-free guidance (Ho and Salimans 2022, equation 6) of a denoiser that `predict` asks."""
    import torch

    def velocity_at(state: torch.Tensor, time: float) -> torch.Tensor:
        times = torch.full((len(state),), time, device=state.device)
        wanted = predict(state, times, positive).float()
        if guidance == 1.0:
            return wanted
        without = predict(state, times, negative).float()
        return without + guidance * (wanted - without)

    return velocity_at


def integrate(noise: torch.Tensor, times: list[float], velocity_at: Callable[[torch.Tensor, float], torch.Tensor]) -> torch.Tensor:
    """Euler's method from noise at `times[0]` to latents at `times[-1]`; the state is kept in fp32."""
    state = noise.float()
    for now, then in itertools.pairwise(times):
        state = state + (then - now) * velocity_at(state, now).float()
    return state
