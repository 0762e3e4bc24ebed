"""A run that is carried to other hardware goes on with the same images, captions, crops and random numbers; and how near its result is.

To the bit it cannot be: other processors add up in another order. What differs here is what differs between computers: which
instructions the arithmetic uses and on how many cores; with a GPU at hand, also that one half of the run is computed on it.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import witness
from safetensors.torch import load_file

from athanor.trainer.config import TrainJob
from athanor.trainer.optimizing.steps import steps_of
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import CaptionSettings, DataSettings, OptimizerSettings

LIMIT_SEC = 600
NUM_EPOCHS, NUM_HERE = 8, 10
OLD_PROCESSOR = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "2",
    "CUDA_VISIBLE_DEVICES": "",
}
"""What a computer of 2008 with two cores computes with, whichever this one is."""
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


def finished_elsewhere(run: Run, environment: dict[str, str], file: Path) -> dict:
    done = subprocess.run(
        [sys.executable, witness.__file__, str(run.folder), str(file)],
        env={**os.environ, **environment, "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LIMIT_SEC,
    )
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")[-3000:]
    return torch.load(file)


def everything_drawn(job: TrainJob) -> TrainJob:
    return dataclasses.replace(
        job,
        train=dataclasses.replace(job.train, epochs=NUM_EPOCHS, save_every_epochs=NUM_EPOCHS, save_precision="fp32"),
        optimizer=OptimizerSettings(accumulation=2, ema_decay=0.9),
        captions=CaptionSettings(shuffle=True, dropout=0.3, tag_dropout=0.2),
        data=DataSettings(random_crop=True, variants=2),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("elsewhere", "near"),
    [
        pytest.param(OLD_PROCESSOR, 1e-4, id="old processor"),
        pytest.param(NO_GPU, 2e-2, id="gpu", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]),
    ],
)
def test_a_run_carried_to_other_hardware_goes_on_with_the_same_data_and_numbers(tmp_path, job, elsewhere, near, record_property):
    job = everything_drawn(job)
    whole, carried = open_run(tmp_path / "whole", job), open_run(tmp_path / "carried", job)
    expected = witness.witnessed(whole)
    witness.witnessed(carried, NUM_HERE)
    # What was encoded stays here: there all is computed anew.
    shutil.rmtree(tmp_path / "carried" / ".cache")
    there = finished_elsewhere(carried, elsewhere, tmp_path / "told.pt")
    if elsewhere is OLD_PROCESSOR:
        assert (there["capability"], there["threads"]) == ("DEFAULT", 2)
    assert not there["cuda"] and carried.finished()

    total, told = len(whole.losses()), there["told"]
    assert total > NUM_HERE and [event["step"] for event in carried.events() if event["event"] == "start"] == [0, NUM_HERE]
    assert (min(told), max(told)) == (steps_of(job).batches(NUM_HERE)[0], max(expected))
    off_by = 0.0
    for number, batch in told.items():
        for name in ("names", "framings", "prompts"):
            assert batch[name] == expected[number][name], (number, name)
        for name, tensor in batch["draws"].items():
            off_by = max(off_by, float((tensor - expected[number]["draws"][name]).abs().max()))
    assert off_by < 1e-5, "the random numbers are the same but for the last bit of a logarithm"

    assert carried.losses()[:NUM_HERE] == whole.losses()[:NUM_HERE]
    pairs = list(zip(carried.losses(), whole.losses(), strict=True))[NUM_HERE:]
    loss_off_by = max(abs(one - two) / two for one, two in pairs)
    tensors = [load_file(run.epochs()[-1].path) for run in (carried, whole)]
    assert tensors[0].keys() == tensors[1].keys()
    apart = sum(float((tensors[0][key] - tensors[1][key]).square().sum()) for key in tensors[1]) ** 0.5
    lora_off_by = apart / sum(float(tensors[1][key].square().sum()) for key in tensors[1]) ** 0.5
    for name, value in (("draws", off_by), ("losses", loss_off_by), ("lora", lora_off_by)):
        record_property(f"{name}_off_by", f"{value:.1e}")
        sys.stdout.write(f"{name} off by {value:.1e}\n")
    assert loss_off_by < near and lora_off_by < near
