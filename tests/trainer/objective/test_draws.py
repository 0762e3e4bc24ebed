"""The random numbers of a step, the noise made of them and the times at which it is trained."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from athanor.trainer.families import family
from athanor.trainer.objective.draws import Draws, coarse_layers, draws_of, encoder_drops, shaped_noise, validation_draws
from athanor.trainer.objective.noise import discrete
from athanor.trainer.objective.times import training_times
from athanor.trainer.settings import ObjectiveSettings
from athanor.trainer.types import BaseModel

PLAIN = ObjectiveSettings()
SHAPE = (3, 4, 8, 6)
BASE = BaseModel("base", "sd15", "", "", 512, 64)


def times(count: int = 100_000, size: tuple[int, int] = (64, 64), **settings) -> torch.Tensor:
    uniform = (torch.arange(count) + 0.5) / count
    return training_times(uniform, size, family("sd15"), BASE, ObjectiveSettings(**settings))


def test_a_step_draws_the_same_numbers_again_and_other_steps_others():
    first, again, other = draws_of(1, 7, SHAPE, PLAIN), draws_of(1, 7, SHAPE, PLAIN), draws_of(1, 8, SHAPE, PLAIN)
    assert torch.equal(first.noise, again.noise) and torch.equal(first.uniform, again.uniform) and torch.equal(first.posterior, again.posterior)
    assert not torch.equal(first.noise, other.noise)


def test_switching_one_thing_on_leaves_the_other_numbers_alone():
    plain = draws_of(1, 7, SHAPE, PLAIN)
    everything = draws_of(1, 7, SHAPE, ObjectiveSettings(noise_offset=0.1, multires_iterations=6, input_perturbation=0.1, noise_offset_random=True))
    assert torch.equal(plain.noise, everything.noise) and torch.equal(plain.uniform, everything.uniform)
    assert plain.offset is plain.coarse is plain.perturbation is None
    assert 0 < everything.offset_strength < 0.1


def test_a_noise_offset_moves_a_whole_channel():
    """noise + (o + a |mean|) z: channel means of 2 and -4 with a = 0.5 add 1 and 2 to the offset of 0.1."""
    latents = torch.stack([torch.full((2, 3), 2.0), torch.full((2, 3), -4.0)]).unsqueeze(0)
    draws = Draws(torch.zeros(1, 2, 2, 3), torch.ones(1, 2, 2, 3), torch.zeros(1), torch.tensor([1.0, -2.0]).view(1, 2, 1, 1), 0.1)
    assert shaped_noise(draws, latents, 0.0)[0, :, 0, 0].tolist() == pytest.approx([1.1, 0.8])
    assert shaped_noise(draws, latents, 0.5)[0, :, 1, 2].tolist() == pytest.approx([1 + 1.1, 1 - 2 * 2.1])
    assert shaped_noise(draws, latents, -1.0)[0, :, 0, 0].tolist() == pytest.approx([1.0, 1.0]), "the strength is not under 0"


def test_multiresolution_noise_adds_ever_coarser_layers():
    layers = coarse_layers((1, 1, 64, 64), 1, 0.5, seed=3)
    # Layer 0 has the full size and weight 1.
    assert layers.std().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(coarse_layers((1, 1, 64, 64), 10, 0.0, seed=3), layers), "a discount of 0 leaves layer 0"
    deeper = coarse_layers((1, 1, 64, 64), 10, 0.9, seed=3)
    assert blockwise(deeper) > 4 * blockwise(layers), "coarse noise has means that differ from block to block"
    assert torch.equal(coarse_layers((1, 1, 64, 64), 10, 0.9, seed=3), deeper)


def blockwise(noise: torch.Tensor) -> float:
    return torch.nn.functional.avg_pool2d(noise, 16).std().item()


def test_multiresolution_noise_has_a_deviation_of_1_in_each_image():
    draws = draws_of(1, 7, SHAPE, ObjectiveSettings(multires_iterations=6, multires_discount=0.4))
    noise = shaped_noise(draws, torch.zeros(SHAPE), 0.0)
    assert noise.flatten(1).std(dim=1).tolist() == pytest.approx([1, 1, 1], rel=1e-5)
    assert not torch.allclose(noise, draws.noise)


def test_validation_draws_are_of_the_image_alone():
    first, second = validation_draws("a.png", [0.25, 0.75], SHAPE[1:]), validation_draws("a.png", [0.25, 0.75], SHAPE[1:])
    assert torch.equal(first.noise, second.noise) and not first.posterior.any() and first.uniform.tolist() == [0.25, 0.75]
    assert not torch.equal(first.noise, validation_draws("b.png", [0.25, 0.75], SHAPE[1:]).noise)


def test_an_epsilon_model_is_trained_at_all_times_alike():
    steps = discrete(times(1000))
    assert steps.tolist() == list(range(1000))


@pytest.mark.parametrize("kind", ["uniform", "sigmoid", "mode", "logit_normal", "shifted", "resolution_shifted"])
@pytest.mark.parametrize(("low", "high"), [(0, 1000), (290, 310), (299, 300), (0, 1), (999, 1000), (100, 900)])
def test_times_keep_to_their_range(kind, low, high):
    steps = discrete(times(20_000, timestep_sampling=kind, min_timestep=low, max_timestep=high))
    assert steps.min() >= low and steps.max() <= high - 1
    if kind == "uniform":
        assert set(steps.tolist()) == set(range(low, high))


@pytest.mark.parametrize(
    ("settings", "quarter", "median"),
    [
        # The quartiles of a standard normal are ±0.674490: sigmoid(-0.674490) = 0.337507.
        ({"timestep_sampling": "sigmoid"}, 0.337507, 0.5),
        ({"timestep_sampling": "logit_normal"}, 0.337507, 0.5),
        # sigmoid(1 - 2 * 0.674490) = sigmoid(-0.348980) = 0.413630; sigmoid(1) = 0.731059.
        ({"timestep_sampling": "logit_normal", "logit_mean": 1.0, "logit_std": 2.0}, 0.413630, 0.731059),
        # 3 * 0.337507 / (1 + 2 * 0.337507) = 0.604482; 1.5 / 2 = 0.75.
        ({"timestep_sampling": "shifted", "shift": 3.0}, 0.604482, 0.75),
        # 1024 px are 64 x 64 patches: exp(1.15) = 3.158193; its median is 3.158193 / 4.158193.
        ({"timestep_sampling": "resolution_shifted"}, 0.616683, 0.759511),
        ({"timestep_sampling": "uniform"}, 0.25, 0.5),
        # 1 - u - s (cos²(π u / 2) - 1 + u) is symmetric about its middle.
        ({"timestep_sampling": "mode"}, None, 0.5),
    ],
)
def test_quartiles_of_the_samplings(settings, quarter, median):
    sampled = times(size=(128, 128), **settings).double()
    assert sampled.median().item() == pytest.approx(median, abs=1e-4)
    if quarter is not None:
        assert sampled.quantile(0.25).item() == pytest.approx(quarter, abs=1e-4)


def test_mode_gathers_in_the_middle():
    """Equation 20 at u = 0.25 with s = 1.29: 0.75 - 1.29 (cos²(π / 8) - 0.75) = 0.75 - 1.29 * 0.103553 = 0.616416."""
    sampled = times(4, timestep_sampling="mode").tolist()
    uniform = 0.125
    expected = 1 - uniform - 1.29 * (math.cos(math.pi / 2 * uniform) ** 2 - 1 + uniform)
    assert sampled[0] == pytest.approx(expected, abs=1e-6)
    middle = training_times(torch.tensor([0.25]), (8, 8), family("sd15"), BASE, dataclasses.replace(PLAIN, timestep_sampling="mode"))
    assert middle.item() == pytest.approx(0.616416, abs=1e-5)


def test_encoders_are_dropped_at_their_rates_apart_from_each_other_and_alike_each_time():
    """With 0.464 each, all three are silent in 0.464³, a tenth of the times (Esser et al. 2024)."""
    rates = dict.fromkeys(("clip_l", "clip_g", "t5"), 0.464)
    drawn = [encoder_drops(3, batch, 4, rates) for batch in range(2500)]
    columns = {name: torch.tensor([each[name] for each in drawn]).flatten() for name in rates}
    assert all(abs(float(each.float().mean()) - 0.464) < 0.02 for each in columns.values())
    assert float(torch.stack(list(columns.values())).all(dim=0).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert drawn[7] == encoder_drops(3, 7, 4, rates) != encoder_drops(4, 7, 4, rates)
    assert encoder_drops(3, 7, 4, {"t5": 0.464})["t5"] == drawn[7]["t5"], "switching others off changes nothing of it"
    assert encoder_drops(3, 7, 2, {}) == {} and all(encoder_drops(3, 7, 9, {"t5": 1.0})["t5"])
