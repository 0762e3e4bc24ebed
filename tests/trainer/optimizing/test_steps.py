"""Batches become steps, and a step of several batches is the step of one larger batch."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from athanor.trainer.control import Control
from athanor.trainer.loop import train
from athanor.trainer.optimizing.steps import Steps, steps_of
from athanor.trainer.runs.run import open_run
from athanor.trainer.settings import OptimizerSettings, ScheduleSettings
from athanor.trainer.step import backward_together


def test_no_step_reaches_into_the_next_epoch():
    steps = Steps(batches_per_epoch=5, accumulation=2, epochs=2, warmup=0)
    assert (steps.per_epoch, steps.total) == (3, 6)
    assert [list(steps.batches(step)) for step in range(6)] == [[0, 1], [2, 3], [4], [5, 6], [7, 8], [9]]
    assert [steps.epoch(step) for step in range(6)] == [1, 1, 1, 2, 2, 2]


def test_a_warm_up_in_steps_comes_before_the_percent(job):
    assert steps_of(job).warmup == round(0.05 * steps_of(job).total)
    assert steps_of(dataclasses.replace(job, schedule=ScheduleSettings(warmup_steps=3))).warmup == 3


@dataclasses.dataclass
class Piece:
    samples: tuple
    x: torch.Tensor


@pytest.mark.parametrize("cuts", [(8,), (4, 4), (4, 3, 1), (1,) * 8])
def test_however_the_batches_are_cut_the_gradient_is_that_of_one(cuts):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
    x = torch.randn(8, 6)
    net(x).pow(2).flatten().mean().backward()
    expected, mean = [parameter.grad.clone() for parameter in net.parameters()], net(x).pow(2).mean().item()
    net.zero_grad()
    batches = {i: Piece(tuple(range(len(part))), part) for i, part in enumerate(x.split(list(cuts)))}
    found = backward_together(batches, 8, lambda number, piece: net(piece.x).pow(2).flatten(), torch.Tensor.backward)
    assert found == pytest.approx(mean, rel=1e-6)
    for parameter, wanted in zip(net.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, wanted, atol=1e-6, rtol=1e-6)


def test_nothing_is_added_up_after_a_loss_that_is_no_number():
    calls = []
    losses = {0: torch.tensor([1.0]), 1: torch.tensor([float("nan")]), 2: torch.tensor([1.0])}
    found = backward_together(
        {i: Piece((0,), losses[i]) for i in losses}, 3, lambda number, piece: losses[number], lambda loss: calls.append(float(loss))
    )
    assert found != found and len(calls) == 1


def test_a_run_with_accumulation_makes_fewer_steps_with_the_same_images(tmp_path, job):
    plain, gathered = steps_of(job), dataclasses.replace(job, optimizer=OptimizerSettings(accumulation=2))
    run = open_run(tmp_path, gathered)
    train(run, Control())
    steps = steps_of(gathered)
    assert len(run.losses()) == steps.total == -(-plain.batches_per_epoch // 2) * 3 < plain.total
    assert run.finished() and [epoch.step for epoch in run.epochs()] == [steps.per_epoch * n for n in (1, 2, 3)]
