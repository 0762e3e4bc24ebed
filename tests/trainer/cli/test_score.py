"""`athanor score`, on the tiny base."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image
from tiny import make_pictures

from athanor.trainer.cli import main
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.loop import train
from athanor.trainer.runs.promote import pick_epochs
from athanor.trainer.runs.run import Run, open_loaded, open_run
from athanor.trainer.settings import AdapterSettings, TrainSettings

QUICK = ("--steps", "1", "--seeds", "1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, base, dataset) -> Run:
    settings = TrainSettings(epochs=2, batch_size=2, rate=0.05, text_encoder_rate=0.05, precision="fp32", save_precision="fp32")
    opened = open_run(tmp_path_factory.mktemp("runs"), TrainJob("my run", base, dataset, adapter=AdapterSettings(rank=2), train=settings))
    train(opened, Control())
    return opened


@pytest.fixture
def run(tmp_path, trained) -> Run:
    return Run(shutil.copytree(trained.folder, tmp_path / "runs" / "my run"))


def scores_of(run: Run) -> dict:
    return json.loads((run.folder / "scores" / "scores.json").read_text(encoding="utf-8"))


def test_a_run_is_scored_and_nothing_is_drawn_twice(run, capsys):
    capsys.readouterr()
    assert main(["score", str(run.folder), *QUICK]) == 0
    told = capsys.readouterr().out
    assert "3 x 2 x 1 = 6 pictures of" in told.splitlines()[0] and "| base alone |" in told and told.splitlines()[-1].endswith("scores.png")
    found = scores_of(run)
    losses = next(each for each in found["measures"] if each["name"] == "validation loss")
    assert {score["epoch"]: score["mean"] for score in losses["scores"]} == pytest.approx(run.validation_losses(), rel=1e-3)
    with Image.open(run.folder / "scores" / "scores.png") as plot:
        assert plot.width > 900
    assert pick_epochs(run, "best by validation loss")[0].number == losses["best"]
    drawn = {path: path.stat().st_mtime_ns for path in (run.folder / found["pictures"]).rglob("*.png")}
    assert len(drawn) == 6
    assert main(["score", str(run.folder), *QUICK, "--theme", "light"]) == 0
    assert "all are drawn already" in capsys.readouterr().out and all(path.stat().st_mtime_ns == at for path, at in drawn.items())


def test_the_epochs_of_another_program_are_scored_on_images_of_ones_own(tmp_path, run, base_folder, capsys):
    theirs = tmp_path / "fox-000002.safetensors"
    shutil.copy(run.epochs()[-1].path, theirs)
    loaded = open_loaded(tmp_path / "runs", "fox", "epoch", [(2, theirs)], "lora")
    capsys.readouterr()
    assert main(["score", str(loaded.folder), *QUICK]) == 2
    assert "so that its base is not known; connect base_model, or say --base" in capsys.readouterr().err
    given = ["--base", str(base_folder), "--images", str(make_pictures(tmp_path / "others", num=3)), "--max-images", "2"]
    assert main(["score", str(loaded.folder), *QUICK, *given]) == 0
    assert len(scores_of(loaded)["held_out"]) == 2
    assert [score["epoch"] for score in scores_of(loaded)["measures"][0]["scores"]] == [0, 2]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--epochs", "7"], "7 was not saved; saved are 1, 2"),
        (["--seeds", "0"], "--seeds is 0; it must be from 1 to 16"),
        (["--likeness", "nowhere"], "is no model of transformers"),
    ],
)
def test_what_cannot_be_scored_says_why(run, capsys, more, told):
    assert main(["score", str(run.folder), *more]) == 2
    assert told in capsys.readouterr().err and not (run.folder / "scores").exists()
