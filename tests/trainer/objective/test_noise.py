"""The noise of diffusion models and flows against diffusers' scheduler and against numbers of the papers."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from athanor.trainer.objective.noise import Noise, discrete, noise_of

STEPS = torch.tensor([0, 1, 250, 500, 999])
TIMES = (STEPS + 0.5) / 1000


def test_noise_is_added_as_the_schedule_of_stable_diffusion_says():
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    latents, noise = torch.randn(5, 4, 2, 2), torch.randn(5, 4, 2, 2)
    expected = scheduler.add_noise(latents, noise, STEPS)
    assert torch.allclose(Noise().add(latents, noise, TIMES), expected, atol=1e-6)
    assert torch.equal(Noise().target(latents, noise, TIMES), noise)
    assert torch.allclose(Noise("v").target(latents, noise, TIMES), scheduler.get_velocity(latents, noise, STEPS), atol=1e-6)


def test_zero_terminal_snr_ends_in_noise_alone_and_keeps_its_start():
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True)
    picture, noise = Noise("v", zero_terminal_snr=True).shares(TIMES)
    assert torch.allclose(picture.square(), scheduler.alphas_cumprod[STEPS], atol=1e-6)
    assert picture[-1] == 0 and noise[-1] == 1
    assert torch.allclose(picture[0].square(), torch.tensor(1 - 0.00085))
    assert Noise("v", zero_terminal_snr=True).snr(TIMES)[-1] == 0


def test_a_flow_runs_straight_from_the_picture_to_the_noise():
    flow, ones = Noise("flow"), torch.ones(2, 1, 1, 1)
    times = torch.tensor([0.25, 1.0])
    assert flow.add(4 * ones, -8 * ones, times).flatten().tolist() == [1.0, -8.0]
    assert flow.target(4 * ones, -8 * ones, times).flatten().tolist() == [-12.0, -12.0]
    assert flow.snr(torch.tensor([0.5])).item() == 1.0


def test_the_ratio_of_signal_to_noise():
    """ᾱ_0 = 1 - 0.00085, so its ratio is 0.99915 / 0.00085."""
    assert Noise().snr(torch.tensor([0.0])).item() == pytest.approx(0.99915 / 0.00085, rel=1e-3)


def test_the_last_time_is_999():
    assert discrete(torch.tensor([0.0, 0.9999, 1.0])).tolist() == [0, 999, 999]


def test_the_base_says_which(base):
    assert noise_of(base) == Noise("epsilon", False)
    assert noise_of(dataclasses.replace(base, prediction="v", zero_terminal_snr=True)) == Noise("v", True)
