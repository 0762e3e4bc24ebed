"""Weights that are trained in bf16: what rounding to the nearest would lose is kept on average."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from athanor.trainer.config import TrainJob
from athanor.trainer.optimizing.optimizers import OPTIMIZERS, device_problem, missing_package
from athanor.trainer.optimizing.rounding import in_fp32, rounded_stochastically
from athanor.trainer.optimizing.updates import Updates
from athanor.trainer.trainees.trainee import Group, Trainee


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("value", [1.001, -1.001, 3.14159e-5, -123456.7, 1e-41])
def test_both_neighbours_come_with_the_probability_of_their_distance(value: float):
    values = torch.full((200_000,), value)
    rounded = rounded_stochastically(values, generator()).double()
    neighbours = sorted(set(rounded.tolist()))
    assert len(neighbours) == 2 and neighbours[0] < float(values[0]) < neighbours[1]
    gap = neighbours[1] - neighbours[0]
    assert rounded.mean().item() == pytest.approx(float(values[0]), abs=0.01 * gap)


def test_what_bf16_can_hold_and_what_is_no_number_stays():
    kept = torch.tensor([0.0, -0.0, 1.0, -2.5, float("inf"), -float("inf")])
    assert torch.equal(rounded_stochastically(kept, generator()).float(), kept)
    assert rounded_stochastically(torch.tensor([float("nan")]), generator()).isnan().all()


def test_only_fp32_is_rounded():
    with pytest.raises(ValueError, match=r"not torch\.float16"):
        rounded_stochastically(torch.ones(2, dtype=torch.float16), generator())


def test_other_weights_and_gradients_are_left_alone():
    exact, rough = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    exact.grad, rough.grad = torch.ones(3), torch.ones(3, dtype=torch.bfloat16)
    with in_fp32([exact, rough], 0):
        assert rough.dtype == rough.grad.dtype == torch.float32 and exact.grad is not None
    assert rough.dtype == torch.bfloat16 and rough.grad is None and exact.grad is not None


def trainee_of(weights: torch.nn.Parameter, rate: float) -> Trainee:
    return Trainee(
        (Group("denoiser", rate, {"weights": weights}, 1),), dict, caption=lambda text, draw: text, prompt=lambda text: text, take=lambda path: None
    )


def updates_of(job: TrainJob, weights: torch.nn.Parameter, optimizer: str, rate: float) -> Updates:
    train = replace(job.train, optimizer=optimizer, schedule="constant", warmup_percent=0.0, weight_decay=0.0, max_grad_norm=0.0)
    updates = Updates(replace(job, train=train), trainee_of(weights, rate), torch.device("cpu"))
    updates.begin()
    return updates


def stepped(updates: Updates, weights: torch.nn.Parameter, steps: range) -> None:
    for step in steps:
        updates.set_rates(step)
        updates.backward((weights.float() * torch.linspace(0.5, 1, weights.numel())).sum())
        updates.step()


def test_small_steps_add_up_in_bf16(job: TrainJob):
    """Each is 1/40 of what bf16 can tell apart at 1, so that rounding to the nearest would never move."""
    rate = 1e-4
    weights = torch.nn.Parameter(torch.ones(20_000, dtype=torch.bfloat16))
    stepped(updates_of(job, weights, "sgd", rate), weights, range(1))
    nearest = torch.nn.Parameter(torch.ones(20_000, dtype=torch.bfloat16))
    torch.optim.SGD([nearest], lr=rate).step(lambda: (nearest.float() * 1.0).sum().backward())
    assert torch.equal(nearest, torch.ones_like(nearest))
    moved = 1 - weights.double().mean().item()
    assert moved == pytest.approx(rate * 0.75, rel=0.1)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_optimizer_trains_bf16_and_resumes_to_the_bit(job: TrainJob, name: str):
    if missing_package(name) or device_problem(name, "cpu"):
        pytest.skip("not on this machine")
    # Prodigy begins with a millionth of the rate.
    rate = 1000.0 if name == "prodigy" else 1e-3
    whole = torch.nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
    stepped(updates_of(job, whole, name, rate), whole, range(6))
    assert not torch.equal(whole, torch.ones_like(whole))

    first = torch.nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
    updates = updates_of(job, first, name, rate)
    stepped(updates, first, range(3))
    second = torch.nn.Parameter(first.detach().clone())
    resumed = updates_of(job, second, name, rate)
    resumed.load_state_dict(updates.state_dict())
    stepped(resumed, second, range(3, 6))
    assert torch.equal(whole, second)


def test_the_mean_of_the_way_can_be_looked_at_in_bf16(job: TrainJob):
    if missing_package("schedulefree_adamw"):
        pytest.skip("schedulefree is not installed")
    weights = torch.nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
    updates = updates_of(job, weights, "schedulefree_adamw", 1e-2)
    stepped(updates, weights, range(4))
    before = weights.detach().clone()
    with updates.averaged():
        assert weights.dtype == torch.bfloat16 and not torch.equal(weights, before)
    assert torch.equal(weights, before)
