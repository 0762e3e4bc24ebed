"""The worker's part, on the tiny base."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from athanor.trainer.config import CompareJob, ScoreJob, TrainJob, from_json, to_json
from athanor.trainer.control import Control
from athanor.trainer.data.captions import captioner_of
from athanor.trainer.errors import AthanorError, InvalidJobError
from athanor.trainer.loop import train
from athanor.trainer.runs.run import Run, open_run, write_job_file
from athanor.trainer.scoring.measured import read_measured
from athanor.trainer.scoring.plan import Drawing, plan_scores
from athanor.trainer.scoring.work import measure_epochs
from athanor.trainer.settings import AdapterSettings, EmbeddingSettings, TrainSettings
from athanor.trainer.worker import work

pytestmark = pytest.mark.slow


def trained(folder: Path, base, dataset, **changes) -> Run:
    settings = TrainSettings(epochs=2, batch_size=2, rate=0.05, text_encoder_rate=0.05, precision="fp32", save_precision="fp32")
    run = open_run(folder, TrainJob("r", base, dataset, **{"adapter": AdapterSettings(rank=2), "train": settings, **changes}))
    train(run, Control())
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory, base, dataset) -> Run:
    return trained(tmp_path_factory.mktemp("runs"), base, dataset)


def score_job(run: Run, num_seeds=2, token="", **changes) -> ScoreJob:
    job = run.train_job()
    held_out = job.dataset.with_role("validation")
    captions = tuple(captioner_of(job).plain(sample) for sample in held_out)
    if token:
        captions = tuple(f"{token}, {caption}" for caption in captions)
    pictures = CompareJob(job.base, (), 32, 32, "fp32", token)
    planned = plan_scores(pictures, run.epochs(), held_out, captions, job.dataset.with_role("train"), Drawing(num_seeds, 1, 2, 3.0), "r epoch")
    return dataclasses.replace(planned, **changes)


def folder_of(run: Run, name: str, job: ScoreJob) -> Run:
    folder = run.folder / "scores" / name
    write_job_file(folder, job)
    return Run(folder)


def test_losses_are_those_of_the_training_and_everything_is_measured(run):
    job = score_job(run)
    scored = folder_of(run, "all", job)
    assert scored.job() == job and from_json(ScoreJob, to_json(job)) == job
    assert work(scored, Control()) == 0
    measured = read_measured(scored.folder)
    assert [epoch.number for epoch in measured.epochs] == [0, 1, 2]
    told = run.validation_losses()
    for epoch in measured.epochs:
        losses = epoch.of("validation loss")
        assert sum(losses) / len(losses) == pytest.approx(told[epoch.number], rel=1e-4)
        assert {each.measure for each in epoch.values} == {"validation loss", "likeness", "diversity", "copying"}
        assert all(len(each.per_image) == len(job.held_out) for each in epoch.values)
        assert (len(epoch.norms) > 5) == (epoch.number > 0)
    assert measured.epochs[1].of("likeness") != measured.epochs[2].of("likeness") and 0 < measured.held_out_copying <= 1
    assert scored.events()[-1]["event"] == "done" and not scored.events()[-1]["stopped"]


def test_after_a_stop_nothing_is_measured_twice(run):
    class StopSoon(Control):
        looks = 4

        @property
        def stop_requested(self):
            self.looks -= 1
            return self.looks < 0

    job = score_job(run)
    scored = folder_of(run, "stopped", job)
    measure_epochs(scored, job, StopSoon())
    done = {path: path.stat().st_mtime_ns for path in scored.folder.rglob("*.png")}
    assert 0 < len(done) < len(job.pictures.cells) and scored.events()[-1]["stopped"] and not (scored.folder / "measured.json").exists()
    measure_epochs(scored, job, Control())
    assert {path: path.stat().st_mtime_ns for path in done} == done and len(list(scored.folder.rglob("*.png"))) == len(job.pictures.cells)
    whole = folder_of(run, "whole", job)
    measure_epochs(whole, job, Control())
    assert read_measured(scored.folder) == read_measured(whole.folder)


def test_one_seed_and_no_training_images_leave_their_scores_out(run):
    job = score_job(run, num_seeds=1, training=())
    scored = folder_of(run, "small", job)
    measure_epochs(scored, job, Control())
    measured = read_measured(scored.folder)
    assert {each.measure for each in measured.epochs[0].values} == {"validation loss", "likeness"} and measured.held_out_copying is None


def test_an_embedding_is_measured_where_its_name_stands(tmp_path, base, dataset):
    settings = TrainSettings(epochs=2, batch_size=2, rate=0.0, text_encoder_rate=0.5, precision="fp32", save_precision="fp32")
    run = trained(tmp_path, base, dataset, kind="embedding", embedding=EmbeddingSettings(token="thing", num_vectors=2), train=settings)
    job = score_job(run, token="thing")
    scored = folder_of(run, "word", job)
    measure_epochs(scored, job, Control())
    measured, told = read_measured(scored.folder), run.validation_losses()
    for epoch in measured.epochs[1:]:
        losses = epoch.of("validation loss")
        assert sum(losses) / len(losses) == pytest.approx(told[epoch.number], rel=1e-4)
        assert len(epoch.norms) == 2, "the vectors"


def test_all_that_is_wrong_is_told_before_anything_loads(run):
    job = score_job(run)
    gone = dataclasses.replace(job.held_out[0], path="/nowhere/a.png")
    unplaced = dataclasses.replace(job.training[0], placement=None)
    wrong = dataclasses.replace(job, held_out=(gone,), training=(unplaced,), pictures=dataclasses.replace(job.pictures, width_px=33))
    with pytest.raises(InvalidJobError) as raised:
        measure_epochs(folder_of(run, "wrong", wrong), wrong, Control())
    said = str(raised.value)
    assert "/nowhere/a.png is not there any more" in said and "has no bucket yet" in said and "33 x 32 px" in said
    bare = dataclasses.replace(job, held_out=(), captions=())
    with pytest.raises(AthanorError, match="No image is held out"):
        measure_epochs(folder_of(run, "bare", bare), bare, Control())
