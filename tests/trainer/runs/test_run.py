from __future__ import annotations

import dataclasses
import math

import pytest

from athanor.trainer.config import TrainJob, from_json, to_json
from athanor.trainer.errors import AthanorError
from athanor.trainer.runs.run import Epoch, Run, job_hash, open_run
from athanor.trainer.types import TagScore


def test_the_same_job_finds_its_run_and_another_gets_a_new_one(tmp_path, job):
    first = open_run(tmp_path, job)
    assert first.folder == tmp_path / "my run"
    assert open_run(tmp_path, job) == first
    other = open_run(tmp_path, dataclasses.replace(job, train=dataclasses.replace(job.train, seed=4)))
    assert other.folder == tmp_path / "my run-2"
    assert open_run(tmp_path, job) == first and first.train_job() == job


def test_a_model_or_picture_that_only_moved_is_the_same_job(job):
    moved = dataclasses.replace(job, base=dataclasses.replace(job.base, path="/elsewhere", tokenizer_folders=("/t",)))
    assert job_hash(moved) == job_hash(job)
    changed = dataclasses.replace(job, base=dataclasses.replace(job.base, fingerprint="other"))
    assert job_hash(changed) != job_hash(job)
    captions = dataclasses.replace(job, dataset=job.dataset.with_samples(tuple(dataclasses.replace(s, caption="x") for s in job.dataset.samples)))
    assert job_hash(captions) != job_hash(job)
    trigger = dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, trigger="another"))
    assert job_hash(trigger) != job_hash(job), "images without a caption are trained with it"
    noted = dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, notes=("a broken image was left out",)))
    assert job_hash(noted) == job_hash(job)
    first, *rest = job.dataset.samples
    scored = dataclasses.replace(first, tag_scores=(TagScore("plain", "general", 0.9),))
    tagged = dataclasses.replace(job, dataset=job.dataset.with_samples((scored, *rest)))
    assert job_hash(tagged) == job_hash(job) and "tag_scores" not in str(to_json(tagged)), "scores are for people who edit"
    assert from_json(TrainJob, to_json(tagged)) == job


def test_a_loss_that_is_no_number_is_not_the_lowest(tmp_path, job, monkeypatch):
    losses = (math.nan, 0.3, 0.2, math.inf)
    epochs = tuple(Epoch(i, i, tmp_path / f"{i}", "", validation_loss=loss) for i, loss in enumerate(losses, start=1))
    monkeypatch.setattr(Run, "epochs", lambda _: epochs)
    assert open_run(tmp_path, job).best_epoch() == epochs[2]


def test_a_run_whose_files_have_moved_reads_them_where_they_are_now(tmp_path, job):
    run = open_run(tmp_path, job)
    moved = dataclasses.replace(job, base=dataclasses.replace(job.base, path=str(tmp_path / "elsewhere")))
    assert open_run(tmp_path, moved) == run
    assert run.train_job() == moved


def test_a_folder_of_somebody_else_is_left_alone(tmp_path, job):
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "notes.txt").write_text("mine", encoding="utf-8")
    assert open_run(tmp_path, job).folder == tmp_path / "my run-2"
    assert (tmp_path / "my run" / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["", "   ", "..", "con", "///"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, job, name):
    with pytest.raises(AthanorError, match="cannot be used as a file name"):
        open_run(tmp_path, dataclasses.replace(job, name=name))
    assert not list(tmp_path.iterdir())


def test_a_name_stays_inside_the_folder_of_runs(tmp_path, job):
    assert open_run(tmp_path / "runs", dataclasses.replace(job, name="../../小狐狸: v1")).folder.parent == tmp_path / "runs"


def test_an_output_folder_that_cannot_be_made_gets_one_sentence(tmp_path, job):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(AthanorError, match=r"Cannot write .*job\.json: Not a directory"):
        open_run(tmp_path / "file", job)


def test_a_folder_of_masks_that_only_moved_is_the_same_job(job):
    def masked(mask, fingerprint="1-1+2-2"):
        samples = tuple(dataclasses.replace(s, mask=mask, fingerprint=fingerprint) for s in job.dataset.samples)
        return job_hash(dataclasses.replace(job, dataset=job.dataset.with_samples(samples)))

    assert masked("/masks/a.png") == masked("/elsewhere/a_mask.webp")
    assert masked("/masks/a.png") != masked("/masks/a.png", "1-1+3-3"), "another content"
    assert len({masked("/masks/a.png"), masked("alpha"), masked(None)}) == 3
