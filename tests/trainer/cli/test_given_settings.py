"""`athanor train --settings`: what a file says stands in for the usual values, and options count more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import make_pictures

from athanor.trainer.cli import main
from athanor.trainer.config import TrainJob
from athanor.trainer.runs.run import Run, job_hash

GUI = {"LoRA_type": "Kohya LoCon", "network_dim": 3, "network_alpha": 2, "conv_dim": 5, "conv_alpha": 1, "epoch": 4, "optimizer": "Lion", "seed": 9,
       "lr_scheduler": "constant", "unet_lr": 3e-5, "text_encoder_lr": 2e-5, "shuffle_caption": True, "keep_tokens": 1}  # fmt: skip


@pytest.fixture
def job_from(tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """The job that the options make, without doing it."""
    monkeypatch.setattr("athanor.trainer.cli.foreground.work", lambda *_: 0)
    images = make_pictures(tmp_path / "pictures")
    place = ["--base", str(base_folder), "--images", str(images), "--output", str(tmp_path / "runs"), "--resolution", "32", "--precision", "fp32"]

    def made(*options: str, name: str = "given") -> TrainJob:
        assert main(["train", *place, "--name", name, *options]) == 0
        return Run(tmp_path / "runs" / name).train_job()

    return made


def test_a_file_of_another_trainer_and_options_that_count_more(job_from, tmp_path, capsys):
    path = tmp_path / "kohya 设置.json"
    path.write_text(json.dumps(GUI), encoding="utf-8")
    job = job_from("--settings", str(path), "--rank", "7", "--no-caption-shuffle", "--caption-tag-dropout", "0.1")
    assert (job.adapter.kind, job.adapter.rank, job.adapter.alpha, job.adapter.conv_rank) == ("locon", 7, 2.0, 5)
    assert (job.train.epochs, job.train.optimizer, job.train.seed, job.train.rate, job.train.text_encoder_rate) == (4, "lion", 9, 3e-5, 2e-5)
    assert (job.captions.shuffle, job.captions.keep_tokens, job.train.precision) == (False, 1, "fp32")
    assert "A file of kohya_ss" in capsys.readouterr().out
    whole = job_from("--settings", str(path), "--checkpoint", "--rate", "1e-6", name="whole")
    assert "note: The file's adapter.kind = locon, adapter.rank = 3, adapter.alpha = 2.0" in (told := capsys.readouterr().out)
    assert "do nothing for a whole model." in told and "for a whole model the training node's own count" in told
    assert (whole.train.epochs, whole.train.rate, whole.train.text_encoder_rate) == (4, 1e-6, 0.0), "a LoRA's rates do not suit a whole model"


def test_each_kind_of_training_has_the_usual_values_of_its_node(job_from):
    """A LoRA's rate would ruin a whole model, and hardly move an embedding."""
    lora, word, whole = job_from(), job_from("--embedding", name="my-word"), job_from("--checkpoint", name="whole")
    assert (lora.train.rate, lora.train.text_encoder_rate, lora.run.keep_last) == (1e-4, 5e-5, 0)
    assert (word.train.text_encoder_rate, word.train.weight_decay) == (5e-3, 0.0)
    assert (whole.train.rate, whole.train.text_encoder_rate, whole.train.save_every_epochs, whole.run.keep_last) == (2e-6, 0.0, 5, 3)
    assert job_from("--checkpoint", "--rate", "1e-5", "--run-keep-last", "0", name="told").train.rate == 1e-5


def test_a_run_and_a_preset_by_its_name(job_from, tmp_path, capsys):
    first = job_from("--settings", "sd15 style", "--settings", "sd15 memory 08 GB", "--accumulation", "3")
    assert first.optimizer.accumulation == 3
    again = job_from("--settings", str(tmp_path / "runs" / "given"), name="again")
    assert job_hash(again) == job_hash(TrainJob(**{**vars(first), "name": "again"}))
    assert main(["train", "--settings", "sd15 nothing"]) == 2
    assert "one of the presets: flux character" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "runs" / "given"), "--settings", "sd15 style"]) == 2
    assert "--settings would make another run" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "resume", "validate", "sample", "export", "score"])
def test_a_folder_that_is_no_run_stays_as_it_was(tmp_path, capsys, command):
    pictures = make_pictures(tmp_path / "pictures")
    before = sorted(pictures.iterdir())
    for folder in (pictures, tmp_path / "nowhere", before[0]):
        assert main([command, str(folder)]) == 2
        assert "is no run directory: there is no job.json in it" in capsys.readouterr().err
    assert sorted(pictures.iterdir()) == before and [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_a_mistyped_option_is_told_without_pages_of_usage(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--rate", "fast"])
    told = capsys.readouterr().err
    assert "--rate: invalid float value: 'fast'" in told and len(told) < 400
