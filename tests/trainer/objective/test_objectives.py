"""Losses and weights against numbers worked out by hand from the papers and from sd-scripts' formulas."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from athanor.trainer.objective.noise import Noise
from athanor.trainer.objective.objectives import element_losses, huber_thresholds, image_losses, masked_means, time_weights, validation_times
from athanor.trainer.settings import ObjectiveSettings

EPSILON, V, FLOW = Noise("epsilon"), Noise("v"), Noise("flow")
PLAIN = ObjectiveSettings()


def with_snr(wanted: float) -> torch.Tensor:
    """The time whose ratio is next to `wanted`, and must then be told exactly."""
    times = (torch.arange(1000) + 0.5) / 1000
    return times[(EPSILON.snr(times) - wanted).abs().argmin()].view(1)


def one(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # d = 3, c = 4, sqrt(9 + 16) = 5.
        ("mse", 9.0),
        ("l1", 3.0),
        ("huber", 2 * 4 * (5 - 4)),
        ("smooth_l1", 2 * (5 - 4)),
    ],
)
def test_losses_of_one_error(loss, expected):
    assert element_losses(one(5.0), one(2.0), loss, torch.tensor([4.0])).item() == pytest.approx(expected)


def test_huber_is_the_square_for_small_errors_and_straight_for_large_ones():
    c = torch.tensor([0.1])
    # 2c (sqrt(d² + c²) - c) -> d² for d << c, and 2c |d| - 2c² for d >> c.
    assert element_losses(one(0.001), one(0.0), "huber", c).item() == pytest.approx(1e-6, rel=0.02)
    assert element_losses(one(100.0), one(0.0), "huber", c).item() == pytest.approx(2 * 0.1 * 100 - 2 * 0.01, rel=1e-4)


def test_thresholds_of_the_three_schedules():
    time = torch.tensor([0.5005])
    settings = dataclasses.replace(PLAIN, loss="huber", huber_c=0.1, huber_scale=2.0)
    assert huber_thresholds(time, EPSILON, dataclasses.replace(settings, huber_schedule="constant")).item() == pytest.approx(0.2)
    # exp(-α t) with α = -ln(0.1) / 1000 and t = 500: sqrt(0.1), times the scale.
    exponential = dataclasses.replace(settings, huber_schedule="exponential")
    assert huber_thresholds(time, EPSILON, exponential).item() == pytest.approx(2 * math.sqrt(0.1), rel=1e-5)
    assert huber_thresholds(torch.tensor([0.5]), FLOW, exponential).item() == pytest.approx(2 * math.sqrt(0.1), rel=1e-5)
    # sigma = sqrt((1 - ᾱ) / ᾱ); at ᾱ_0 = 1 - 0.00085: sigma = sqrt(0.00085 / 0.99915) = 0.0291674, (1 - 0.1) / 1.0291674² + 0.1 = 0.949715.
    snr = dataclasses.replace(settings, huber_schedule="snr")
    assert huber_thresholds(torch.tensor([0.0]), EPSILON, snr).item() == pytest.approx(0.949715, abs=1e-4)
    assert torch.equal(huber_thresholds(time, EPSILON, settings), huber_thresholds(time, EPSILON, snr)), "auto, where there is a ratio"
    assert torch.equal(huber_thresholds(time, FLOW, settings), huber_thresholds(time, FLOW, exponential)), "auto, where there is none"


def test_thresholds_reach_the_constant_at_zero_terminal_snr():
    settings = dataclasses.replace(PLAIN, loss="huber", huber_schedule="snr", huber_c=0.1)
    thresholds = huber_thresholds(torch.tensor([0.9999]), Noise("v", zero_terminal_snr=True), settings)
    assert thresholds.item() == pytest.approx(0.1)


@pytest.mark.parametrize("wanted", [0.1, 1.0, 4.0, 20.0, 500.0])
def test_min_snr_and_debiased_weights(wanted):
    time = with_snr(wanted)
    snr = EPSILON.snr(time).item()
    min_snr = dataclasses.replace(PLAIN, weighting="min_snr", min_snr_gamma=5.0)
    debiased = dataclasses.replace(PLAIN, weighting="debiased")
    assert time_weights(time, EPSILON, min_snr).item() == pytest.approx(min(snr, 5) / snr, rel=1e-5)
    assert time_weights(time, V, min_snr).item() == pytest.approx(min(snr, 5) / (snr + 1), rel=1e-5)
    assert time_weights(time, EPSILON, debiased).item() == pytest.approx(1 / math.sqrt(snr), rel=1e-5)
    assert time_weights(time, V, debiased).item() == pytest.approx(1 / (snr + 1), rel=1e-5)
    assert time_weights(time, EPSILON, PLAIN).item() == 1


def test_min_snr_weighs_the_picture_alike_whatever_is_predicted():
    """The weight is min(snr, γ) on the error of x_0 (Hang et al. 2023, equation 8); error_x0² = error_ε² / snr = error_v² / (snr + 1).

    So an error of x_0 told as ε and as v must cost the same.
    """
    time = with_snr(2.0)
    picture_share, noise_share = EPSILON.shares(time)
    snr, error_of_picture = EPSILON.snr(time), 0.7
    min_snr = dataclasses.replace(PLAIN, weighting="min_snr")
    error_of_noise, error_of_v = error_of_picture * picture_share / noise_share, error_of_picture / noise_share
    as_noise, as_v = error_of_noise**2 * time_weights(time, EPSILON, min_snr), error_of_v**2 * time_weights(time, V, min_snr)
    assert as_noise.item() == pytest.approx(min(snr.item(), 5) * error_of_picture**2, rel=1e-4)
    assert as_v.item() == pytest.approx(as_noise.item(), rel=1e-4)


def test_weights_at_zero_terminal_snr_are_finite():
    """The ratio there is 0: min(0, γ) / (0 + 1) = 0 and 1 / (0 + 1) = 1. sd-scripts took the ratios of the schedule before it was mended."""
    end, process = torch.tensor([0.9999]), Noise("v", zero_terminal_snr=True)
    assert time_weights(end, process, dataclasses.replace(PLAIN, weighting="min_snr")).item() == 0
    assert time_weights(end, process, dataclasses.replace(PLAIN, weighting="debiased")).item() == 1


def test_debiased_holds_the_ratio_under_1000():
    # The first time's ratio is 0.99915 / 0.00085 = 1175.
    assert time_weights(torch.tensor([0.0]), EPSILON, dataclasses.replace(PLAIN, weighting="debiased")).item() == pytest.approx(1 / math.sqrt(1000))


def test_a_mask_counts_its_part_or_the_mean_of_its_part():
    losses = torch.tensor([[[[4.0, 8.0], [100.0, 100.0]]], [[[2.0, 2.0], [2.0, 2.0]]]])
    mask = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    # (4 + 8/2) / 4 = 2; divided by the mask's mean of 1.5 / 4.
    assert masked_means(losses, mask, normalized=False).tolist() == [2.0, 2.0]
    assert masked_means(losses, mask, normalized=True).tolist() == pytest.approx([2.0 / 0.375, 2.0])
    assert masked_means(losses, None, normalized=True).tolist() == [53.0, 2.0]


def test_a_small_mask_trains_as_strongly_as_a_large_one_when_normalized():
    losses = torch.full((2, 4, 8, 8), 3.0)
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :1, :1], mask[1] = 1.0, 1.0
    assert masked_means(losses, mask, normalized=False).tolist() == pytest.approx([3 / 64, 3])
    assert masked_means(losses, mask, normalized=True).tolist() == pytest.approx([3, 3])


def test_an_empty_mask_costs_nothing_and_no_division_by_zero():
    losses, mask = torch.full((1, 4, 2, 2), 3.0), torch.zeros(1, 1, 2, 2)
    assert masked_means(losses, mask, True).item() == masked_means(losses, mask, False).item() == 0


def test_everything_together():
    settings = ObjectiveSettings(loss="l1", weighting="min_snr", min_snr_gamma=1.0, masked_loss="normalized")
    time = with_snr(4.0)
    predicted, target = torch.tensor([[[[1.0, 9.0]]]]), torch.tensor([[[[3.0, 0.0]]]])
    loss = image_losses(predicted, target, time, torch.tensor([[[[1.0, 0.0]]]]), EPSILON, settings)
    assert loss.item() == pytest.approx(2.0 / EPSILON.snr(time).item(), rel=1e-5)


def test_half_precision_is_computed_in_full():
    predicted = torch.full((1, 1, 1, 1), 300.0, dtype=torch.float16)
    assert image_losses(predicted, torch.zeros(1, 1, 1, 1), torch.tensor([0.5]), None, EPSILON, PLAIN).item() == 90000.0


def test_validation_times_are_the_middles_of_equal_shares():
    assert validation_times(4) == [0.125, 0.375, 0.625, 0.875]
