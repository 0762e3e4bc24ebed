from __future__ import annotations

import csv
import sys
import types
from pathlib import Path

import pytest

from athanor.trainer.control import Control
from athanor.trainer.loop import train
from athanor.trainer.runs import curves
from athanor.trainer.runs.curves import LoggedEvents
from athanor.trainer.runs.run import open_run

PARTS = [{"name": "denoiser"}, {"name": "text_encoder"}]


class Scalars:
    """Stands in for tensorboard's writer."""

    def __init__(self, folder: str, purge_step: int):
        self.folder, self.purge_step, self.written = folder, purge_step, []
        WRITERS.append(self)

    def add_scalar(self, tag, scalar_value, global_step):
        self.written.append((tag, scalar_value, global_step))

    def flush(self):
        pass


WRITERS: list[Scalars] = []


@pytest.fixture
def tensorboard(monkeypatch):
    WRITERS.clear()
    monkeypatch.setattr(curves.importlib.util, "find_spec", lambda name: object() if name == "tensorboardX" else None)
    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=Scalars))
    return WRITERS


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs" / "log.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def start(log: LoggedEvents, step: int) -> None:
    log.write("start", {"step": step, "steps_per_epoch": 2, "parts": PARTS})


def one_step(log: LoggedEvents, step: int, loss: float) -> None:
    log.write("step", {"step": step, "epoch": 1, "loss": loss, "rates": {"denoiser": 1e-4, "text_encoder": 5e-5}, "seconds": 0.1})


def test_tags_are_those_of_sd_scripts(tmp_path, tensorboard):
    log = LoggedEvents(tmp_path)
    start(log, 0)
    one_step(log, 1, 1.0)
    one_step(log, 2, 2.0)
    log.write("epoch", {"epoch": 1, "step": 2, "loss": 1.5})
    log.write("validation", {"epoch": 1, "step": 2, "loss": 0.7})
    (writer,) = tensorboard
    assert writer.written[:4] == [("loss/current", 1.0, 1), ("loss/average", 1.0, 1), ("lr/unet", 1e-4, 1), ("lr/textencoder", 5e-5, 1)]
    assert writer.written[-3] == ("loss/epoch_average", 1.5, 1)
    assert writer.written[-2:] == [("loss/validation/epoch_average", 0.7, 1), ("loss/validation/epoch_divergence", pytest.approx(-0.8), 1)]


def test_a_rate_that_is_found_stands_beside_the_one_that_was_set(tmp_path, tensorboard):
    log = LoggedEvents(tmp_path)
    start(log, 0)
    log.write("step", {"step": 1, "epoch": 1, "loss": 1.0, "rates": {"denoiser": 3e-4, "text_encoder": 1.5e-4}, "seconds": 0.1, "found": 3e-4})
    told = {tag: value for tag, value, _ in tensorboard[0].written}
    assert told["lr/unet"] == pytest.approx(1.0) and told["lr/textencoder"] == pytest.approx(0.5)
    assert told["lr/d*lr/unet"] == 3e-4 and told["lr/d*lr/textencoder"] == 1.5e-4


@pytest.mark.parametrize(
    ("family", "tags"),
    [
        ("sdxl", ["lr/unet", "lr/textencoder", "lr/textencoder 2", "lr/textencoder plus"]),
        ("sd35", ["lr/unet", "lr/textencoder 1 ", "lr/textencoder 2 ", "lr/textencoder 1  plus", "lr/textencoder 3 "]),
        ("flux", ["lr/unet", "lr/textencoder 1 ", "lr/textencoder 2 "]),
    ],
)
def test_text_encoders_are_numbered_as_in_the_network_of_their_family(tmp_path, tensorboard, family, tags):
    names = ["denoiser", "text_encoder", "text_encoder_2", "text_encoder × 4", "text_encoder_3"][: len(tags)]
    log = LoggedEvents(tmp_path)
    log.write("start", {"step": 0, "steps_per_epoch": 2, "parts": [{"name": name} for name in names], "family": family})
    log.write("step", {"step": 1, "epoch": 1, "loss": 1.0, "rates": dict.fromkeys(names, 1e-4), "seconds": 0.1})
    assert [tag for tag, _, _ in tensorboard[0].written if tag.startswith("lr/")] == tags


def test_a_resume_takes_back_the_steps_that_are_done_anew(tmp_path, tensorboard):
    log = LoggedEvents(tmp_path)
    start(log, 0)
    for step in (1, 2, 3):
        one_step(log, step, float(step))
    with (tmp_path / "logs" / "log.csv").open("a", encoding="utf-8") as file:
        file.write("4,1")
    again = LoggedEvents(tmp_path)
    start(again, 2)
    one_step(again, 3, 9.0)
    assert [(row["step"], row["loss"], row["average_loss"]) for row in rows(tmp_path)] == [
        ("1", "1.0", "1.0"),
        ("2", "2.0", "1.5"),
        ("3", "9.0", "5.5"),
    ]
    assert tensorboard[-1].purge_step == 3


def test_a_file_that_a_power_cut_has_damaged_is_taken_as_far_as_it_is_whole(tmp_path, tensorboard):
    log = LoggedEvents(tmp_path)
    start(log, 0)
    one_step(log, 1, 1.0)
    with (tmp_path / "logs" / "log.csv").open("ab") as file:
        file.write(b"2,1,\xff" + bytes(80))
    start(LoggedEvents(tmp_path), 1)
    assert [row["step"] for row in rows(tmp_path)] == ["1"]


def test_a_run_that_begins_anew_has_the_bare_base_once(tmp_path, tensorboard):
    for _ in range(2):
        log = LoggedEvents(tmp_path)
        start(log, 0)
        log.write("validation", {"epoch": 0, "step": 0, "loss": 0.9})
        one_step(log, 1, 1.0)
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1"]


def test_what_is_measured_again_at_the_last_step_is_there_once(tmp_path, tensorboard):
    log = LoggedEvents(tmp_path)
    start(log, 0)
    one_step(log, 1, 1.0)
    log.write("validation", {"epoch": 1, "step": 1, "loss": 0.9})
    again = LoggedEvents(tmp_path)
    start(again, 1)
    again.write("validation", {"epoch": 1, "step": 1, "loss": 0.9})
    again.write("validation", {"epoch": 2, "step": 2, "loss": 0.8})
    assert [(row["step"], row["validation_loss"]) for row in rows(tmp_path)] == [("1", ""), ("1", "0.9"), ("2", "0.8")]


def test_a_training_writes_its_numbers_and_says_once_that_tensorboard_is_missing(tmp_path, job, monkeypatch, capsys):
    monkeypatch.setattr(curves.importlib.util, "find_spec", lambda name: None)
    run = open_run(tmp_path, job)
    train(run, Control())
    told = rows(run.folder)
    assert [float(row["loss"]) for row in told if row["loss"]] == run.losses()
    assert [float(row["validation_loss"]) for row in told if row["validation_loss"]] == list(run.validation_losses().values())
    assert capsys.readouterr().err.count(curves.NO_TENSORBOARD) == 1
