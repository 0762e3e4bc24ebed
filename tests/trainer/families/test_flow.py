"""Rectified flow against numbers worked out from the papers."""

from __future__ import annotations

import math

import pytest
import torch

from athanor.trainer.families import _flow
from athanor.trainer.objective.noise import Noise


def test_path_and_velocity():
    """t = 1/4: x_t = 3/4 · 2 + 1/4 · 6 = 3 and v = 6 - 2 = 4 (Lipman et al. 2023, equation 23 with σ_min = 0); t = 1 is noise alone."""
    flow, latents, noise = Noise("flow"), torch.full((2, 1, 1, 1), 2.0), torch.full((2, 1, 1, 1), 6.0)
    times = torch.tensor([0.25, 1.0])
    assert flow.add(latents, noise, times).flatten().tolist() == [3.0, 6.0]
    assert flow.target(latents, noise, times).flatten().tolist() == [4.0, 4.0]


def test_logit_normal_times():
    """Quantiles of the normal distribution: Φ⁻¹(0.5) = 0, Φ⁻¹(0.975) = 1.9599640, Φ⁻¹(0.8413447) = 1.

    sigmoid(0) = 1/2; sigmoid(1.9599640) = 1 / (1 + e^-1.9599640) = 1 / (1 + 0.1408635) = 0.8765291;
    m = -0.5, s = 2, Φ⁻¹ = 1: sigmoid(1.5) = 1 / (1 + 0.2231302) = 0.8175745.
    """
    u = torch.tensor([0.5, 0.975, 0.025])
    assert _flow.logit_normal(u).tolist() == pytest.approx([0.5, 0.8765291, 1 - 0.8765291], abs=1e-6)
    assert _flow.logit_normal(torch.tensor([0.8413447]), -0.5, 2.0).tolist() == pytest.approx([0.8175745], abs=1e-6)
    ends = _flow.logit_normal(torch.tensor([0.0, 1.0]))
    assert 0 < ends[0] < 0.01 and 0.99 < ends[1] < 1


def test_the_density_of_logit_normal_times_is_the_papers():
    """Equation 19: π(t) = 1 / (s √(2π)) · 1 / (t (1 - t)) · exp(-(logit t - m)² / (2 s²)); shares of [0.4, 0.6] by the midpoint rule."""
    t = torch.linspace(0.4, 0.6, 10_001, dtype=torch.float64)
    t = (t[1:] + t[:-1]) / 2
    for m, s in ((0.0, 1.0), (-0.5, 0.6)):
        density = torch.exp(-((torch.logit(t) - m) ** 2) / (2 * s**2)) / (s * math.sqrt(2 * math.pi) * t * (1 - t))
        expected = float(density.mean() * 0.2)
        even = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
        drawn = _flow.logit_normal(even, m, s)
        assert float(((drawn > 0.4) & (drawn < 0.6)).double().mean()) == pytest.approx(expected, abs=2e-4)


def test_mode_times():
    """s = 1.29, u = 1/4: cos²(π/8) = (1 + cos(π/4)) / 2 = 0.8535534; t = 0.75 - 1.29 (0.8535534 - 0.75) = 0.6164161. s = 0 is 1 - u."""
    assert _flow.mode(torch.tensor([0.25, 0.5, 0.0]), 1.29).tolist() == pytest.approx([0.6164161, 0.5, 1.0], abs=1e-6)
    assert _flow.mode(torch.tensor([0.3]), 0.0).tolist() == pytest.approx([0.7])


def test_shifted_times():
    """s = 3: 3 · 0.5 / (1 + 2 · 0.5) = 0.75; 3 · 0.1 / 1.2 = 0.25. The logit moves by ln s, so that shifts multiply."""
    assert _flow.shifted(torch.tensor([0.0, 0.1, 0.5, 1.0]), 3.0).tolist() == pytest.approx([0.0, 0.25, 0.75, 1.0])
    t = torch.tensor([0.2, 0.7])
    assert torch.allclose(torch.logit(_flow.shifted(t, 3.0)), torch.logit(t) + math.log(3.0), atol=1e-6)
    assert torch.allclose(_flow.shifted(_flow.shifted(t, 3.0), 2.0), _flow.shifted(t, 6.0), atol=1e-6)


@pytest.mark.parametrize(("side_px", "mu"), [(256, 0.5), (512, 0.63), (1024, 1.15)])
def test_the_shift_of_flux_grows_with_the_picture(side_px: int, mu: float):
    """(side / 16)² tokens: 256, 1024, 4096; μ = 0.5 + 0.65 (n - 256) / 3840, for 1024 tokens 0.5 + 0.65 · 0.2 = 0.63."""
    assert math.log(_flow.resolution_shift((side_px // 16) ** 2)) == pytest.approx(mu)


def test_the_schedule_is_that_of_diffusers():
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
    scheduler.set_timesteps(sigmas=[1 - i / 4 for i in range(4)], mu=0.63)
    assert _flow.schedule(4, math.exp(0.63)) == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)
    # Steps of 1/4 with shift 3: 1, 9/10, 3/4, 1/2, 0.
    assert _flow.schedule(4, 3.0) == pytest.approx([1.0, 0.9, 0.75, 0.5, 0.0])


def test_straight_paths_end_at_the_latents():
    """The exact velocity of one picture, (x - x_0) / t, is constant along its path: Euler's method makes no error at any number of steps."""
    latents, noise = torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3)
    for steps in (1, 5):
        end = _flow.integrate(noise, _flow.schedule(steps, 3.0), lambda state, t: (state - latents) / t)
        assert torch.allclose(end, latents, atol=1e-5)
