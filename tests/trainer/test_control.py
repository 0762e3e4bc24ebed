"""What the host says to a worker: it obeys between steps, and what is trained stays the same to the bit."""

from __future__ import annotations

import dataclasses
import io
import itertools
import time

import pytest

from athanor.trainer.config import TrainJob
from athanor.trainer.control import COMMANDS, GO_ON, SAMPLE, SAVE, STOP, STOP_EPOCH, Control, Stopped
from athanor.trainer.loop import train
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import SampleSettings

pytestmark = pytest.mark.slow


class AtStep(Control):
    """Says lines after given steps of the run `folder`, as a host would."""

    def __init__(self, run: Run, lines: dict[int, list[str]]):
        super().__init__()
        self._run, self._lines = run, lines

    @property
    def stop_requested(self) -> bool:
        for command in self._lines.pop(len(self._run.losses()), []):
            self.obey(command)
        return super().stop_requested


def trained(root, job: TrainJob, lines: dict[int, list[str]]) -> Run:
    run = open_run(root, job)
    train(run, AtStep(run, dict(lines)))
    return run


def with_samples(job: TrainJob) -> TrainJob:
    return dataclasses.replace(job, samples=SampleSettings(prompts="subject", steps=2))


def test_lines_are_obeyed_and_others_passed_over():
    control = Control()
    for line in ("nonsense", "", "stop now", "STOP"):
        control.obey(line)
    assert not control.stop_requested and not control.stop_after_epoch and not control.take_wish(SAMPLE) and not control.take_wish(SAVE)
    control.obey(SAMPLE)
    control.obey(SAMPLE)
    assert control.take_wish(SAMPLE) and not control.take_wish(SAMPLE) and not control.take_wish(SAVE)
    control.obey(STOP_EPOCH)
    assert control.stop_after_epoch and not control.stop_requested
    control.obey(GO_ON)
    assert not control.stop_after_epoch
    control.obey(STOP)
    with pytest.raises(Stopped):
        control.raise_if_stopped()
    assert set(COMMANDS) == {"stop", "stop-epoch", "go-on", "sample", "save"}


def test_the_end_of_the_stream_is_a_stop():
    control = Control()
    control.follow(io.StringIO("save\n"))
    deadline = time.monotonic() + 10
    while not control.stop_requested and time.monotonic() < deadline:
        time.sleep(0.01)
    assert control.stop_requested and control.take_wish(SAVE)


@pytest.mark.parametrize(("optimizer", "schedule"), [("adamw", "cosine"), ("schedulefree_adamw", "constant")])
def test_sampling_and_saving_on_wish_change_nothing_that_is_trained(tmp_path, job, optimizer, schedule):
    job = with_samples(dataclasses.replace(job, train=dataclasses.replace(job.train, optimizer=optimizer, schedule=schedule)))
    plain = trained(tmp_path / "plain", job, {})
    asked = trained(tmp_path / "asked", job, {1: [SAMPLE, SAVE], 4: [SAVE], 5: [SAMPLE]})
    assert asked.losses() == plain.losses()
    assert [epoch.sha256 for epoch in asked.epochs()] == [epoch.sha256 for epoch in plain.epochs()]
    extra = [event for event in asked.events() if event["event"] in ("sample", "saved") and event["epoch"] is None]
    assert [(event["event"], event["step"]) for event in extra] == [("sample", 2), ("saved", 2), ("saved", 5), ("sample", 6)]
    assert all((asked.folder / event["file"]).is_file() for event in extra)
    states = [event["step"] for event in asked.events() if event["event"] == "state"]
    assert {2, 5} <= set(states)
    assert [picture.path.name for picture in asked.samples()] == [picture.path.name for picture in plain.samples()]


def test_a_sample_on_wish_without_prompts_is_told(tmp_path, job):
    run = trained(tmp_path, job, {1: [SAMPLE]})
    assert run.finished()
    assert [event["message"] for event in run.events() if event["event"] == "warning"] == [
        "No sample pictures were drawn: this run has no sample prompts."
    ]


def test_a_stop_after_the_epoch_ends_there_and_resumes_to_the_bit(tmp_path, job):
    job = dataclasses.replace(job, train=dataclasses.replace(job.train, save_every_epochs=3))
    whole = trained(tmp_path / "whole", job, {})
    per_epoch = len(whole.losses()) // 3
    run = trained(tmp_path / "stopped", job, {per_epoch + 1: [STOP_EPOCH]})
    assert not run.finished() and len(run.losses()) == 2 * per_epoch
    assert [epoch.number for epoch in run.epochs()] == [2], "the epoch is saved although its turn had not come"
    assert not list((run.folder / "epochs").glob("*-step*"))
    again = trained(tmp_path / "stopped", job, {})
    assert again.finished() and again.losses() == whole.losses() and again.epochs()[-1].sha256 == whole.epochs()[-1].sha256


def test_a_stop_after_the_epoch_can_be_taken_back(tmp_path, job):
    run = trained(tmp_path, job, {1: [STOP_EPOCH], 2: [GO_ON]})
    assert run.finished()


def test_the_memory_is_told_when_it_has_grown(tmp_path, job):
    told = [event for event in trained(tmp_path, job, {}).events() if event["event"] == "memory"]
    assert told and told[0]["step"] == 1 and told[0]["ram_mib"] > 50
    assert all(later["ram_mib"] > earlier["ram_mib"] for earlier, later in itertools.pairwise(told))
