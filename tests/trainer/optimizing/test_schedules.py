"""Against the schedules of transformers and torch, and against the papers' formulas."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import optimization

from athanor.trainer.errors import AthanorError
from athanor.trainer.optimizing.schedules import SCHEDULES, own_options, rate_factor

TOTAL, WARMUP = 40, 8


def theirs(make) -> list[float]:
    """The factor of each step after the warm-up, which begins differently: theirs wastes a step at a rate of 0."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, factors = make(optimizer), []
    for _ in range(TOTAL):
        factors.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return factors[WARMUP:]


def ours(name: str, options=None, min_ratio: float = 0.0) -> list[float]:
    return [rate_factor(name, step, TOTAL, WARMUP, options, min_ratio) for step in range(WARMUP, TOTAL)]


@pytest.mark.parametrize(
    ("name", "options", "make"),
    [
        ("linear", {}, lambda o: optimization.get_linear_schedule_with_warmup(o, WARMUP, TOTAL)),
        ("cosine", {}, lambda o: optimization.get_cosine_schedule_with_warmup(o, WARMUP, TOTAL)),
        (
            "cosine_restarts",
            {"num_cycles": 3},
            lambda o: optimization.get_cosine_with_hard_restarts_schedule_with_warmup(o, WARMUP, TOTAL, num_cycles=3),
        ),
        ("polynomial", {"power": 2.0}, lambda o: optimization.get_polynomial_decay_schedule_with_warmup(o, WARMUP, TOTAL, lr_end=0.0, power=2.0)),
        ("inverse_sqrt", {}, lambda o: optimization.get_inverse_sqrt_schedule(o, WARMUP)),
        ("constant", {}, lambda o: optimization.get_constant_schedule_with_warmup(o, WARMUP)),
    ],
)
def test_the_schedules_of_transformers(name, options, make):
    assert ours(name, options) == pytest.approx(theirs(make), abs=1e-9)


def test_the_inverse_square_root_with_a_timescale():
    """The paper's formula; a timescale of 0 without a warm-up is a tenth of the run."""
    assert ours("inverse_sqrt", {"timescale_steps": 20}) == pytest.approx([1 / math.sqrt(1 + i / 20) for i in range(TOTAL - WARMUP)])
    assert rate_factor("inverse_sqrt", 10, 100, 0) == pytest.approx(1 / math.sqrt(2))


def test_a_minimal_ratio_as_in_transformers():
    expected = theirs(lambda o: optimization.get_cosine_with_min_lr_schedule_with_warmup(o, WARMUP, TOTAL, min_lr_rate=0.1))
    assert ours("cosine", min_ratio=0.1) == pytest.approx(expected, abs=1e-9)
    assert rate_factor("cosine", TOTAL, TOTAL, WARMUP, {}, 0.1) == pytest.approx(0.1)


@pytest.mark.parametrize(("ours_", "their_shape"), [("cosine", "cosine"), ("linear", "linear"), ("sqrt", "1-sqrt")])
def test_warmup_stable_decay_as_in_transformers(ours_, their_shape):
    expected = theirs(
        lambda o: optimization.get_wsd_schedule(
            o, num_warmup_steps=WARMUP, num_stable_steps=TOTAL - WARMUP - 10, num_decay_steps=10, decay_type=their_shape
        )
    )
    found = ours("warmup_stable_decay", {"decay_percent": 25.0, "decay_shape": ours_})
    assert found == pytest.approx(expected, abs=1e-9)
    assert found[:22] == [1.0] * 22 and found[-1] < 0.2


def test_rex_of_the_paper():
    assert [rate_factor("rex", step, 4, 0) for step in range(5)] == pytest.approx([1.0, 0.75 / 0.875, 0.5 / 0.75, 0.25 / 0.625, 0.0])


def test_cosine_is_torch_s():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert rate_factor("cosine", step, 20, 0) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        scheduler.step()


def test_warm_up_rises_in_a_straight_line_and_never_starts_at_nothing():
    factors = [rate_factor("constant", step, 10, 4) for step in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert rate_factor("cosine", 4, 10, 4) == 1.0


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_every_schedule_begins_at_the_full_rate_and_stays_within_its_bounds(name):
    factors = [rate_factor(name, step, 100, 0, {}, 0.05) for step in range(101)]
    assert factors[0] == 1.0 and all(0.05 <= factor <= 1.0 for factor in factors)


@pytest.mark.parametrize("name", ["inverse_sqrt", "warmup_stable_decay", "polynomial"])
def test_a_run_of_one_step_has_a_rate(name):
    assert rate_factor(name, 0, 1, 0) > 0


def test_the_signature_tells_the_options():
    assert own_options("cosine_restarts") == {"num_cycles": 3} and own_options("cosine") == {}


def test_an_unknown_schedule_is_answered_with_the_known_ones():
    with pytest.raises(AthanorError, match="'zigzag'; choose one of: constant, cosine"):
        rate_factor("zigzag", 0, 10, 0)
