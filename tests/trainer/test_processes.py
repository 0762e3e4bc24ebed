"""Several processes on one job, as `accelerate launch` starts them: the same LoRA as from one process, whoever goes on with it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

import athanor
from athanor.trainer.checks.engine import process_problems
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.loop import train
from athanor.trainer.optimizing.steps import Steps
from athanor.trainer.processes import ALONE, Processes, join_processes
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import CaptionSettings, DataSettings, OptimizerSettings, PriorSettings, RunSettings

LAUNCH = Path(athanor.__file__).parent / "trainer" / "launch.py"
TIMEOUT_SEC = 600


def launched(run: Run, num_processes: int, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(num_processes), "--main_process_port", "0"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with (run.folder / "worker.log").open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            [*command, str(LAUNCH), str(run.folder), *options], stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, env=environment
        )


def ended(run: Run, process: subprocess.Popen) -> int:
    try:
        return process.wait(TIMEOUT_SEC)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(run.log_tail()) from None
    finally:
        if process.stdin is not None:
            process.stdin.close()


def varied(job: TrainJob, accumulation: int) -> TrainJob:
    """Everything that is drawn; seven batches an epoch, so that the last step of each has fewer than are accumulated."""
    return dataclasses.replace(
        job,
        train=dataclasses.replace(job.train, epochs=4, batch_size=1, save_precision="fp32"),
        dataset=dataclasses.replace(
            job.dataset, samples=tuple(dataclasses.replace(s, repeats=2 if i == 0 else 1) for i, s in enumerate(job.dataset.samples))
        ),
        optimizer=OptimizerSettings(accumulation=accumulation, ema_decay=0.9),
        captions=CaptionSettings(shuffle=True, dropout=0.3),
        data=DataSettings(random_crop=True, variants=2),
    )


def furthest(one: Run, other: Run) -> float:
    """The largest difference of any number in any saved epoch."""
    pairs = [(load_file(a.path), load_file(b.path)) for a, b in zip(one.epochs(), other.epochs(), strict=True)]
    assert len(pairs) == 4 and all(a.keys() == b.keys() for a, b in pairs)
    return max(float((a[key] - b[key]).abs().max()) for a, b in pairs for key in a)


def test_without_a_launcher_there_is_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_processes() == ALONE and ALONE.leads
    assert ALONE.sum(2.5) == 2.5 and ALONE.any_of(True) and not ALONE.any_of(False) and ALONE.of_leader(lambda: "x") == "x"
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)
    ALONE.add_gradients([weight])
    assert weight.grad.tolist() == [1, 1]


@pytest.mark.parametrize(("num_batches", "accumulation", "count"), [(7, 2, 2), (7, 4, 3), (12, 3, 3), (5, 8, 4)])
def test_each_batch_is_taken_once_and_evenly(num_batches, accumulation, count):
    steps = Steps(num_batches, accumulation, epochs=3, warmup=0)
    processes = [Processes(rank, count) for rank in range(count)]
    for step in range(steps.total):
        shares = [[number for number in steps.batches(step) if each.takes(steps.turn(number))] for each in processes]
        assert sorted(number for share in shares for number in share) == list(steps.batches(step))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.slow
def test_two_processes_train_what_one_does_with_accumulation_two(tmp_path, job):
    """Class images are drawn by the first of them, and all hold the LoRA to the base."""
    prior = PriorSettings(class_images=2, class_prompts="a thing", class_steps=2, class_target="base", hold_weight=0.5, class_word="thing")
    job = dataclasses.replace(varied(job, accumulation=2), prior=prior)
    one, two = open_run(tmp_path / "one", job), open_run(tmp_path / "two", job)
    train(one, Control())
    assert ended(two, launched(two, 2)) == 0, two.log_tail()
    assert two.finished() and furthest(one, two) < 1e-5
    assert two.losses() == pytest.approx(one.losses(), rel=1e-5) and two.validation_losses() == pytest.approx(one.validation_losses(), rel=1e-5)
    # One writer: the same events, each once.
    kinds = [[event["event"] for event in run.events() if event["event"] not in ("memory", "state", "phase")] for run in (one, two)]
    assert kinds[0] == kinds[1] and next(event for event in two.events() if event["event"] == "start")["processes"] == 2


@pytest.mark.slow
def test_a_run_of_three_processes_is_stopped_and_finished_by_one(tmp_path, job):
    job = varied(job, accumulation=3)
    one, three = open_run(tmp_path / "one", job), open_run(tmp_path / "three", job)
    train(one, Control())
    process = launched(three, 3, "--attached")
    while len(three.losses()) < 2 and process.poll() is None:
        time.sleep(0.01)
    assert process.stdin is not None
    process.stdin.write("stop\n")
    process.stdin.flush()
    assert ended(three, process) == 0, three.log_tail()
    stopped = three.events()[-1]
    assert stopped["event"] == "done" and stopped["stopped"] and 2 <= stopped["step"] < len(one.losses())
    train(three, Control())
    assert three.finished() and furthest(one, three) < 1e-5 and len(three.losses()) == len(one.losses())


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed_again_and_again_end_in_the_same_lora(tmp_path, job):
    """Whichever dies, the others end by themselves, and nothing but the unsaved steps is lost."""
    job = varied(job, accumulation=2)
    # Long enough that three deaths come before its end, however quick the steps are.
    longer = dataclasses.replace(job.train, epochs=16, save_every_epochs=4)
    job = dataclasses.replace(job, train=longer, run=RunSettings(state_minutes=0.1, save_every_steps=2))
    one, two = open_run(tmp_path / "one", job), open_run(tmp_path / "two", job)
    train(one, Control())
    for victim in (0, 1, 0):
        process, before = launched(two, 2), len(two.losses())
        while len(two.losses()) < before + 3 and process.poll() is None:
            time.sleep(0.01)
        workers = psutil.Process(process.pid).children()
        assert len(workers) == 2
        next(each for each in workers if each.environ()["RANK"] == str(victim)).kill()
        assert ended(two, process) != 0
        assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in workers)
    assert ended(two, launched(two, 2)) == 0, two.log_tail()
    assert two.finished() and furthest(one, two) < 1e-5 and two.losses() == pytest.approx(one.losses(), rel=1e-5)


@pytest.mark.slow
def test_processes_without_anything_to_do_are_refused_once(tmp_path, job):
    run = open_run(tmp_path, varied(job, accumulation=1))
    process = launched(run, 2)
    assert ended(run, process) != 0
    lines = [json.loads(line) for line in (run.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["error"] and lines[0]["code"] == 2
    assert lines[0]["message"].startswith("Optimizer: accumulation is 1, but 2 processes train together")


def test_as_many_processes_as_batches_of_a_step_are_fine(job):
    assert process_problems(varied(job, accumulation=2), 2) == [] and process_problems(varied(job, accumulation=1), 1) == []
