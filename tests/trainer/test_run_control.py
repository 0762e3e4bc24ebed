"""Length, what is kept, early ends and broken trainings on the tiny model."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from athanor.trainer.checks.validate import check_train_job
from athanor.trainer.control import Control
from athanor.trainer.errors import AthanorError
from athanor.trainer.formats.files import load_tensors
from athanor.trainer.loop import train
from athanor.trainer.optimizing.steps import steps_of
from athanor.trainer.optimizing.updates import Updates
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import AdapterSettings, EmbeddingSettings, RunSettings, SampleSettings

pytestmark = pytest.mark.slow


def trained(root: Path, job, **sections) -> Run:
    run = open_run(root, dataclasses.replace(job, **sections))
    train(run, Control())
    return run


def files(run: Run) -> list[str]:
    return sorted(path.name for path in (run.folder / "epochs").glob("*.safetensors"))


def test_a_run_of_so_many_steps_ends_within_an_epoch(tmp_path, job):
    run = trained(tmp_path, job, run=RunSettings(steps=4, save_every_steps=2))
    start = next(event for event in run.events() if event["event"] == "start")
    assert (len(run.losses()), start["total_steps"], start["steps_per_epoch"], start["total_epochs"]) == (4, 4, 3, 2)
    assert run.finished() and [(epoch.number, epoch.step) for epoch in run.epochs()] == [(1, 3), (2, 4)]
    assert files(run) == ["my run-000001.safetensors", "my run-000002.safetensors", "my run-step00000002.safetensors"]


def test_only_the_last_files_and_the_best_one_stay(tmp_path, job):
    job = dataclasses.replace(job, train=dataclasses.replace(job.train, epochs=4))
    run = trained(tmp_path, job, run=RunSettings(keep_last=2))
    best = min((loss, epoch) for epoch, loss in run.validation_losses().items() if epoch)[1]
    assert {epoch.number for epoch in run.epochs()} == {best, 3, 4} and run.finished()


def test_patience_ends_the_run_as_a_finished_one(tmp_path, job):
    job = dataclasses.replace(job, train=dataclasses.replace(job.train, epochs=20, rate=0.5, text_encoder_rate=0.5))
    run = trained(tmp_path, job, run=RunSettings(patience=2, explosion_factor=0.0))
    losses = run.validation_losses()
    last = max(losses)
    assert last < 20 and run.finished() and run.epochs()[-1].number == last
    assert min(losses, key=losses.__getitem__) == last - 2
    assert any("Ended early after epoch" in event.get("message", "") for event in run.events())
    before = len(run.events())
    train(run, Control())
    assert len(run.losses()) == last * 3, "a second start changes nothing"
    assert len(run.events()) >= before


def test_a_loss_that_is_no_number_goes_back_to_the_last_good_state(tmp_path, job, monkeypatch):
    from athanor.trainer import loop

    original, calls = loop.backward_together, []

    def spoiled(batches, *others):
        calls.append(list(batches))
        value = original(batches, *others)
        return float("nan") if len(calls) == 5 else value

    monkeypatch.setattr(loop, "backward_together", spoiled)
    run = open_run(tmp_path, job)
    with pytest.raises(AthanorError) as told:
        train(run, Control())
    sentence = str(told.value)
    assert "The loss became nan at step 5 (epoch 2; batch 5; images picture" in sentence
    assert "rolled back to step 3, whose file is my run-step00000003.safetensors" in sentence
    assert (run.folder / "epochs" / "my run-step00000003.safetensors").is_file()
    monkeypatch.setattr(loop, "backward_together", original)
    train(run, Control())
    assert run.losses() == trained(tmp_path / "whole", job).losses()


@pytest.mark.parametrize("broken_step", [2, 6])
def test_weights_that_are_no_numbers_are_never_saved(tmp_path, job, monkeypatch, broken_step):
    """The loss is that of before the step: a file that is due then would be saved, the last one without anybody noticing."""
    real, calls = Updates.step, []

    def breaking(updates):
        real(updates)
        calls.append(1)
        if len(calls) == broken_step:
            next(iter(updates._trained.values())).data.fill_(math.nan)

    monkeypatch.setattr(Updates, "step", breaking)
    job = dataclasses.replace(job, train=dataclasses.replace(job.train, epochs=3, save_every_epochs=1), run=RunSettings(save_every_steps=2))
    run = open_run(tmp_path, job)
    with pytest.raises(AthanorError, match=f"no numbers with step {broken_step}") as raised:
        train(run, Control())
    assert ("rolled back to step 4" if broken_step == 6 else "no state from before") in str(raised.value)
    assert all(torch.isfinite(tensor).all() for path in (run.folder / "epochs").glob("*") for tensor in load_tensors(path).values())
    monkeypatch.undo()
    train(run, Control())
    assert run.finished() and len(run.losses()) == steps_of(job).total


def test_an_exploding_loss_goes_back_to_before_it_began(tmp_path, job, monkeypatch):
    from athanor.trainer import loop

    original, calls = loop.backward_together, []

    def growing(batches, *others):
        calls.append(1)
        value = original(batches, *others)
        return value if len(calls) <= 30 else 1e4

    monkeypatch.setattr(loop, "backward_together", growing)
    job = dataclasses.replace(job, train=dataclasses.replace(job.train, epochs=30))
    with pytest.raises(AthanorError, match=r"grew out of all bounds, to 1e\+04, at step 31 .*rolled back to step 30"):
        trained(tmp_path, job, run=RunSettings(explosion_factor=5.0))


def test_pictures_are_drawn_when_asked_and_change_nothing(tmp_path, job):
    plain = trained(tmp_path / "plain", job)
    samples = SampleSettings(
        prompts="subject 1 --w 48 --s 1 --d 5\n# no\nsubject 2 --n bad --l 2", steps=2, every_epochs=2, every_steps=2, at_start=True
    )
    run = trained(tmp_path / "sampled", job, samples=samples)
    assert run.losses() == plain.losses()
    assert [epoch.sha256 for epoch in run.epochs()] != [] and run.validation_losses() == plain.validation_losses()
    events = [event for event in run.events() if event["event"] == "sample"]
    drawn = [(event["step"], event["epoch"], event["prompt"], event["seed"]) for event in events]
    points = [(0, 0), (2, None), (4, None), (6, 2), (8, None), (9, 3)]
    assert drawn == [(step, epoch, prompt, seed) for step, epoch in points for prompt, seed in (("subject 1", 5), ("subject 2", 2))]
    with Image.open(run.samples()[0].path) as image:
        assert image.width == 48 and "Steps: 1" in image.text["parameters"]


@pytest.mark.parametrize("kind", ["embedding", "checkpoint"])
def test_nor_do_they_change_embeddings_and_whole_models(tmp_path, job, kind):
    words = EmbeddingSettings(token="subject", num_vectors=2) if kind == "embedding" else EmbeddingSettings()
    rates = {"rate": 0.0, "text_encoder_rate": 0.05} if kind == "embedding" else {"rate": 1e-3, "text_encoder_rate": 1e-3}
    job = dataclasses.replace(job, kind=kind, train=dataclasses.replace(job.train, epochs=1, **rates), adapter=AdapterSettings(), embedding=words)
    plain = trained(tmp_path, job)
    run = trained(tmp_path, job, samples=SampleSettings(prompts="subject", steps=1, every_steps=2, at_start=True))
    assert len(run.samples()) == 2 and run.losses() == plain.losses() and run.validation_losses() == plain.validation_losses()
    mine, other = (load_tensors(each.epochs()[-1].path) for each in (run, plain))
    assert mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine)


def test_a_picture_that_was_replaced_since_is_told_before_anything_loads(job):
    first, *rest = job.dataset.samples
    told = Path(first.path).stat()
    replaced = dataclasses.replace(first, fingerprint=f"{told.st_size + 1}-{told.st_mtime_ns}")
    touched = dataclasses.replace(first, fingerprint=f"{told.st_size}-1")
    check_train_job(dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, samples=(touched, *rest))))
    with pytest.raises(AthanorError, match=r"1 images are not those that this training was set up with \(the first is .*put them back"):
        check_train_job(dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, samples=(replaced, *rest))))


def test_settings_without_effect_are_refused(job):
    with pytest.raises(AthanorError, match="patience needs held-out images"):
        check_train_job(dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, samples=job.dataset.trained), run=RunSettings(patience=1)))
    with pytest.raises(AthanorError, match="every_steps does nothing without prompts"):
        check_train_job(dataclasses.replace(job, samples=SampleSettings(every_steps=3)))
