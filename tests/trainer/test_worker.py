"""The worker as the host starts it: a process of its own, killed, stopped, orphaned."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import athanor
from athanor.trainer.control import Control
from athanor.trainer.errors import AthanorError
from athanor.trainer.runs.events import EventLog
from athanor.trainer.runs.exits import BUSY
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.worker import LOCK_FILE, work

pytestmark = pytest.mark.slow

LAUNCH = Path(athanor.__file__).parent / "trainer" / "launch.py"
TIMEOUT_SEC = 300


def start(run: Run, *, attached: bool = True) -> subprocess.Popen:
    arguments = [sys.executable, str(LAUNCH), str(run.folder), *(["--attached"] if attached else [])]
    with (run.folder / "worker.log").open("a", encoding="utf-8") as log:
        return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True)


def finish(run: Run) -> int:
    """In this process, which has its libraries loaded already."""
    return work(run, Control())


def wait_for_steps(run: Run, process: subprocess.Popen, num_steps: int) -> None:
    deadline = time.monotonic() + TIMEOUT_SEC
    while len(run.losses()) < num_steps:
        assert process.poll() is None and time.monotonic() < deadline, run.log_tail()
        time.sleep(0.005)


@pytest.fixture
def long_job(job):
    return dataclasses.replace(job, train=dataclasses.replace(job.train, epochs=12))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, base, dataset) -> list[str]:
    """The sha256 of every epoch of the run that nobody disturbs."""
    from athanor.trainer.config import TrainJob
    from athanor.trainer.settings import AdapterSettings, TrainSettings

    settings = TrainSettings(epochs=12, batch_size=2, rate=1e-2, text_encoder_rate=1e-3, precision="fp32", seed=3)
    run = open_run(tmp_path_factory.mktemp("whole"), TrainJob("my run", base, dataset, adapter=AdapterSettings(rank=2, alpha=1.0), train=settings))
    assert finish(run) == 0
    return [epoch.sha256 for epoch in run.epochs()]


@pytest.mark.parametrize("num_steps", [2, 9])
def test_a_killed_worker_is_continued_to_the_bit(tmp_path, long_job, whole, num_steps):
    run = open_run(tmp_path, long_job)
    process = start(run)
    wait_for_steps(run, process, num_steps)
    process.kill()
    assert process.wait() != 0
    process.stdin.close()
    assert not run.finished()
    assert finish(run) == 0
    assert [epoch.sha256 for epoch in run.epochs()] == whole
    assert not list(run.folder.rglob("*.tmp"))


def test_the_end_of_its_stdin_ends_the_worker_with_everything_saved(tmp_path, long_job, whole):
    """So it ends when ComfyUI is killed."""
    run = open_run(tmp_path, long_job)
    process = start(run)
    wait_for_steps(run, process, 4)
    process.stdin.close()
    assert process.wait(TIMEOUT_SEC) == 0
    done = run.events()[-1]
    assert done["event"] == "done" and done["stopped"] and done["step"] == len(run.losses())
    assert any(event["event"] == "state" and event["step"] == done["step"] for event in run.events())
    assert finish(run) == 0
    assert [epoch.sha256 for epoch in run.epochs()] == whole


def test_a_problem_is_an_event_and_an_exit_code(tmp_path, job, workshop):
    from athanor.trainer.bases import describe_base

    broken = describe_base(workshop)
    (workshop / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    run = open_run(tmp_path / "runs", dataclasses.replace(job, base=broken, train=dataclasses.replace(job.train, rate=0.0, text_encoder_rate=0.0)))
    process = start(run, attached=False)
    process.stdin.close()
    assert process.wait(TIMEOUT_SEC) == 2
    message = run.events()[-1]["message"]
    assert "unet" in message and "All learning rates are 0" in message
    assert message.count("\n") == 1
    assert not list(run.folder.rglob("*.safetensors"))


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a file's size are set the POSIX way")
@pytest.mark.parametrize("limit_bytes", [2_000, 30_000])
def test_a_disk_that_takes_no_more_is_told_in_one_sentence_and_nothing_is_halved(tmp_path, job, limit_bytes):
    import resource

    run = open_run(tmp_path, job)
    with (run.folder / "worker.log").open("a", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, str(LAUNCH), str(run.folder)],
            stdout=log,
            stderr=log,
            check=False,
            timeout=TIMEOUT_SEC,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
        )
    assert done.returncode == 2
    message = run.events()[-1]["message"]
    assert message.startswith("Cannot write ") and "Free some space" in message and "\n" not in message
    assert not list(tmp_path.rglob("*.tmp")) and not list((run.folder / "epochs").glob("*") if (run.folder / "epochs").exists() else [])
    assert finish(run) == 0 and run.finished()


def test_the_worker_s_own_folder_hides_no_module_of_python():
    """trainer/ holds types.py and others whose names the standard library uses."""
    done = subprocess.run([sys.executable, str(LAUNCH), "--help"], capture_output=True, text=True, timeout=TIMEOUT_SEC, check=False)
    assert done.returncode == 0 and "run directory" in done.stdout, done.stderr


def test_a_write_that_fails_without_a_name_is_told_with_the_run_s_folder(tmp_path, job, monkeypatch):
    """Python names no file where the disk is full at a write, only where one cannot be opened."""
    from athanor.trainer import loop

    def full(run, control, processes):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(loop, "train", full)
    run = open_run(tmp_path / "full", job)
    assert work(run, Control()) == 2
    message = run.events()[-1]["message"]
    assert str(run.folder) in message and "No space left on device" in message and "None" not in message


def test_a_line_of_events_that_cannot_be_ended_is_told_with_its_file(tmp_path, job, monkeypatch):
    run = open_run(tmp_path, job)
    events = run.folder / "events.jsonl"
    events.write_text('{"event": "st', encoding="utf-8")

    def refused(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(events), "open", refused)
    with pytest.raises(AthanorError, match=r"Cannot write .*events\.jsonl: No space left on device"):
        EventLog(run.folder)


def test_a_run_that_another_worker_has_is_left_as_it_is(tmp_path, job, monkeypatch, capsys):
    from filelock import FileLock

    run = open_run(tmp_path, job)
    monkeypatch.setattr("athanor.trainer.worker._LOCK_WAIT_SEC", 0.05)
    with FileLock(run.folder / LOCK_FILE):
        assert finish(run) == BUSY
    assert "Another worker is busy with" in capsys.readouterr().err
    assert not list(run.events()), "a panel that watches the other one would show a failure"
