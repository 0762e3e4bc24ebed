from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from athanor.trainer.control import Control
from athanor.trainer.formats.header import read_header
from athanor.trainer.loop import train
from athanor.trainer.optimizing.ema import RunningMean, warmed_decay
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import OptimizerSettings


def test_the_decay_rises_to_the_one_that_was_set():
    assert warmed_decay(0.99, 0) == 0.1 and warmed_decay(0.99, 10) == 11 / 20 and warmed_decay(0.99, 10_000) == 0.99


def test_the_mean_is_the_formula_s():
    weights = {"a": torch.tensor([1.0, 2.0])}
    mean = RunningMean(weights, 0.5, torch.device("cpu"))
    expected = weights["a"].clone()
    for step in range(8):
        weights["a"] = weights["a"] * 2 + step
        mean.update(weights)
        decay = warmed_decay(0.5, step)
        expected = decay * expected + (1 - decay) * weights["a"]
    assert torch.allclose(mean.mean["a"], expected)
    assert mean.mean["a"] is not weights["a"]


def test_the_mean_of_half_precision_weights_is_fp32():
    weights = {"a": torch.ones(3, dtype=torch.bfloat16)}
    mean = RunningMean(weights, 0.999, torch.device("cpu"))
    mean.update({"a": weights["a"] * 1.0078125})
    assert mean.mean["a"].dtype == torch.float32 and mean.mean["a"][0] > 1


@pytest.mark.slow
def test_a_run_saves_the_mean_and_resumes_it_to_the_bit(tmp_path, job):
    job = dataclasses.replace(job, optimizer=OptimizerSettings(ema_decay=0.9), train=dataclasses.replace(job.train, save_precision="fp32"))
    whole = open_run(tmp_path / "whole", job)
    train(whole, Control())
    raw = open_run(tmp_path / "raw", dataclasses.replace(job, optimizer=OptimizerSettings()))
    train(raw, Control())
    assert whole.losses() == raw.losses(), "the mean changes nothing of what is trained"
    assert whole.validation_losses() != raw.validation_losses()
    state = load_file(max((whole.folder / "state").iterdir(), key=lambda path: int(read_header(path).metadata["step"])))
    saved = load_file(whole.epochs()[-1].path)
    assert any(
        torch.equal(tensor, saved[key]) for key in saved if key.endswith("up.weight") for tensor in state.values() if tensor.shape == saved[key].shape
    )

    class StopAfterTwo(Control):
        @property
        def stop_requested(self) -> bool:
            return any(len(Run(path.parent).losses()) >= 2 for path in (tmp_path / "stopped").glob("*/events.jsonl"))

    again = open_run(tmp_path / "stopped", job)
    train(again, StopAfterTwo())
    assert not again.finished()
    train(again, Control())
    assert [epoch.sha256 for epoch in again.epochs()] == [epoch.sha256 for epoch in whole.epochs()]
