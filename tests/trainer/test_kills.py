"""A worker that is killed again and again, anywhere, also while its state is being written, gives the same run to the bit."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import athanor
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.optimizing.optimizers import AVERAGING, RATE_FINDING
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import CaptionSettings, DataSettings, OptimizerSettings, RunSettings
from athanor.trainer.worker import work

LAUNCH = Path(athanor.__file__).parent / "trainer" / "launch.py"
TIMEOUT_SEC = 600


def start(run: Run) -> subprocess.Popen:
    with (run.folder / "worker.log").open("a", encoding="utf-8") as log:
        return subprocess.Popen([sys.executable, str(LAUNCH), str(run.folder)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def num_steps(run: Run) -> int:
    return len(run.losses())


def wait(run: Run, process: subprocess.Popen, reached) -> bool:
    """Whether it was reached before the worker ended by itself."""
    deadline = time.monotonic() + TIMEOUT_SEC
    while not reached():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, run.log_tail()
        time.sleep(0.001)
    return True


def killed(run: Run, chance: random.Random, while_saving: bool) -> bool:
    """Kills a worker some steps on; while it writes its state, or at any moment."""
    before, process = num_steps(run), start(run)
    wanted = before + chance.randint(1, 4)
    alive = wait(run, process, lambda: num_steps(run) >= wanted)
    if alive and while_saving:
        alive = wait(run, process, lambda: any((run.folder / "state").glob(".*.tmp")))
    elif alive:
        time.sleep(chance.random() * 0.05)
    process.kill()
    process.wait()
    return alive


def disturbed_equals_undisturbed(tmp_path: Path, job: TrainJob, num_kills: int) -> int:
    """The kills that met a living worker."""
    whole, run, chance = open_run(tmp_path / "whole", job), open_run(tmp_path / "killed", job), random.Random(num_kills)
    assert work(whole, Control()) == 0, whole.events()
    hits = sum(killed(run, chance, while_saving=i % 2 == 1) for i in range(num_kills))
    assert work(run, Control()) == 0, run.events()
    assert run.finished() and run.losses() == whole.losses()
    assert [epoch.sha256 for epoch in run.epochs()] == [epoch.sha256 for epoch in whole.epochs()]
    assert run.validation_losses() == whole.validation_losses()
    rows = [(folder.folder / "logs" / "log.csv").read_text(encoding="utf-8").splitlines() for folder in (run, whole)]
    assert [line.split(",")[:4] for line in rows[0]] == [line.split(",")[:4] for line in rows[1]]
    return hits


def varied(job: TrainJob, epochs: int, optimizer: str = "adamw", ema_decay: float = 0.9) -> TrainJob:
    """Everything that is drawn anew each time: orders, captions, crops; accumulation and a running mean; a state after every step."""
    rates = {"rate": 1.0, "text_encoder_rate": 1.0} if optimizer in RATE_FINDING else {}
    schedule = {"schedule": "constant"} if optimizer in AVERAGING else {}
    return dataclasses.replace(
        job,
        train=dataclasses.replace(job.train, epochs=epochs, save_every_epochs=epochs // 2, optimizer=optimizer, **rates, **schedule),
        optimizer=OptimizerSettings(accumulation=2, ema_decay=ema_decay),
        captions=CaptionSettings(shuffle=True, dropout=0.3, tag_dropout=0.2),
        data=DataSettings(random_crop=True, variants=2),
        run=RunSettings(save_every_steps=1, keep_last=3),
    )


@pytest.mark.slow
def test_five_kills_change_nothing(tmp_path, job):
    assert disturbed_equals_undisturbed(tmp_path, varied(job, 20), 5) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "ema_decay"), [("adamw", 0.9), ("prodigy", 0.9), ("lion", 0.99), ("adafactor", 0.0), ("schedulefree_adamw", 0.0)]
)
def test_fifty_kills_change_nothing(tmp_path, job, thorough, optimizer, ema_decay):
    """Ten for each, so fifty in all."""
    assert disturbed_equals_undisturbed(tmp_path, varied(job, 40, optimizer, ema_decay), 10) == 10
