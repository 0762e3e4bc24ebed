"""What holds a training to its base, against the same written out by hand with a second, untouched base."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import NATIVE_PX

from athanor.trainer.adapters import all_adapters
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.data.feed import Batch, Feed
from athanor.trainer.dataset import assign_buckets, scan_folder, with_regularization
from athanor.trainer.loop import train
from athanor.trainer.memory.performance import keeping
from athanor.trainer.objective.noise import noise_of
from athanor.trainer.preparation import Prepared, prepare_training
from athanor.trainer.prior.holding import held_losses, trained_rows
from athanor.trainer.runs.events import NoEvents
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import AdapterSettings, ObjectiveSettings, PriorSettings, RunSettings
from athanor.trainer.types import Dataset

HELD = PriorSettings(hold_weight=0.5, class_word="thing")
AS_BASE = PriorSettings(class_target="base")
BOTH = dataclasses.replace(AS_BASE, hold_weight=0.5, class_word="thing")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Four pictures with the trigger in their captions and two of the class, all of one size."""
    root = tmp_path_factory.mktemp("held")
    for seed, folder, captions in ((10, "things", ["a subject, {i}"] * 4), (20, "others", ["a thing, blue"] * 2)):
        (root / folder).mkdir()
        for i, caption in enumerate(captions):
            noise = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(seed + i), dtype=torch.uint8)
            Image.fromarray(noise.numpy()).save(root / folder / f"{i}.png")
            (root / folder / f"{i}.txt").write_text(caption.format(i=i), encoding="utf-8")
    both = with_regularization(scan_folder(root / "things", trigger="Subject"), scan_folder(root / "others"))
    return assign_buckets(both, resolution_px=NATIVE_PX, min_px=16, max_px=64, step_px=16, upscale=True)


@pytest.fixture
def held_job(job: TrainJob, pair: Dataset) -> TrainJob:
    train = dataclasses.replace(job.train, epochs=2, batch_size=4, text_encoder_rate=0.0)
    return dataclasses.replace(job, dataset=pair, train=train, objective=ObjectiveSettings(regularization_weight=0.25), prior=BOTH)


def prepared(root: Path, job: TrainJob) -> tuple[Prepared, Feed]:
    ready = prepare_training(open_run(root, job), job, NoEvents(), Control())
    return ready, Feed(ready.job, ready.family, ready.captioner, ready.cache, ready.vae_id, ready.trainee.caption)


def shaken(ready: Prepared) -> None:
    """Gives the adapters numbers that change something."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in ready.trainee.parameters().values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw).to(parameter.device))


def mixed(feed: Feed) -> tuple[int, Batch]:
    """A batch with images of both kinds."""
    roles = {"train", "regularization"}
    number = next(number for number in range(feed.num_batches) if {sample.role for sample in feed.samples(number)} == roles)
    return number, feed.batch(number)


def distances(ready: Prepared, batch: Batch, rows: Sequence[int], prompts: Sequence[str]) -> torch.Tensor:
    """By hand: (adapted - base)², the base loaded anew from its files, [rows]."""
    family, job, process = ready.family, ready.job, noise_of(ready.job.base)
    latents = batch.mean + batch.std * batch.draws.posterior
    noisy = process.add(latents, batch.draws.noise, batch.times)[list(rows)]
    times, framings = batch.times[list(rows)], [batch.framings[row] for row in rows]
    text = family.load_text(job.base, torch.float32)
    told = family.frame(family.encode_text(text, list(prompts), ready.book.num_chunks), framings)
    with torch.no_grad():
        of_base = family.predict(family.load_denoiser(job.base, torch.float32), noisy, times, told)
    if ready.book.text is not None:
        told = family.frame(family.encode_text(ready.book.text, list(prompts), ready.book.num_chunks), framings)
    return (family.predict(ready.denoiser, noisy, times, told) - of_base).pow(2).mean(dim=(1, 2, 3))


def gradients(ready: Prepared) -> list[torch.Tensor]:
    found = [parameter.grad for parameter in ready.trainee.parameters().values()]
    for parameter in ready.trainee.parameters().values():
        parameter.grad = None
    return [grad for grad in found if grad is not None]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "text_rate"), [*((kind, 0.0) for kind in all_adapters()), ("lora", 1e-3), ("loha", 1e-3)])
def test_both_losses_and_their_gradients_are_those_written_by_hand(tmp_path, held_job, kind, text_rate):
    adapter = AdapterSettings(kind=kind, rank=2, alpha=1.0)
    job = dataclasses.replace(held_job, adapter=adapter, train=dataclasses.replace(held_job.train, text_encoder_rate=text_rate))
    ready, feed = prepared(tmp_path, job)
    number, batch = mixed(feed)
    of_class, of_training = held_losses(ready, noise_of(job.base), keeping(job.performance))
    assert of_class(number, batch).abs().max() == 0 and of_training(number, batch).abs().max() == 0, "nothing is trained yet"
    shaken(ready)
    class_rows = [i for i, sample in enumerate(batch.samples) if sample.role == "regularization"]
    train_rows = [i for i, sample in enumerate(batch.samples) if sample.role == "train"]
    captions = [f"a thing, {Path(batch.samples[i].path).stem}" for i in train_rows]
    for losses, expected in (
        (of_class, 0.25 * distances(ready, batch, class_rows, ["a thing, blue"] * len(class_rows))),
        (of_training, 0.5 * distances(ready, batch, train_rows, captions)),
    ):
        found = losses(number, batch)
        assert expected.min() > 1e-6
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)
        found.sum().backward()
        of_losses = gradients(ready)
        expected.sum().backward()
        by_hand = gradients(ready)
        assert len(of_losses) == len(by_hand) and any(grad.abs().max() > 0 for grad in by_hand)
        torch.testing.assert_close(of_losses, by_hand, rtol=1e-4, atol=1e-7)
    feed.close()


def test_class_images_leave_the_ordinary_loss_and_training_images_stay(tmp_path, held_job):
    ready, feed = prepared(tmp_path, held_job)
    _, batch = mixed(feed)
    rows = trained_rows(ready, batch)
    assert rows is not None and {sample.role for sample in rows.samples} == {"train"}
    assert torch.equal(rows.mean, batch.mean[[i for i, sample in enumerate(batch.samples) if sample.role == "train"]])
    only_class = batch.rows([i for i, sample in enumerate(batch.samples) if sample.role == "regularization"])
    assert trained_rows(ready, only_class) is None
    ready, other = prepared(tmp_path / "picture", dataclasses.replace(held_job, prior=HELD))
    assert trained_rows(ready, batch) is batch
    feed.close(), other.close()


def test_what_half_precision_has_cast_for_the_base_does_not_stop_the_gradient(tmp_path, held_job):
    job = dataclasses.replace(held_job, train=dataclasses.replace(held_job.train, precision="bf16"))
    ready, feed = prepared(tmp_path, job)
    number, batch = mixed(feed)
    shaken(ready)
    (_, of_training) = held_losses(ready, noise_of(job.base), keeping(job.performance))
    of_training(number, batch).sum().backward()
    found = gradients(ready)
    assert len(found) == len(ready.trainee.parameters()) and all(grad.abs().max() > 0 for grad in found)
    feed.close()


def test_a_dropped_caption_is_not_held(tmp_path, held_job):
    job = dataclasses.replace(held_job, captions=dataclasses.replace(held_job.captions, dropout=1.0), prior=HELD)
    ready, feed = prepared(tmp_path, job)
    (of_training,) = held_losses(ready, noise_of(job.base), keeping(job.performance))
    assert of_training(0, feed.batch(0)) is None
    feed.close()


class StopAfter(Control):
    def __init__(self, run: Run, num_steps: int):
        super().__init__()
        self._run, self._num_steps = run, num_steps

    @property
    def stop_requested(self) -> bool:
        return len(self._run.losses()) >= self._num_steps


def trained(root: Path, job: TrainJob, num_steps: int | None = None) -> Run:
    run = open_run(root, job)
    train(run, Control() if num_steps is None else StopAfter(run, num_steps))
    return run


def moved(root: Path, run: Run) -> float:
    """How far the class's own answers are from the base's at the end of `run`."""
    ready, feed = prepared(root, dataclasses.replace(run.train_job(), name="measured"))
    ready.trainee.take(run.epochs()[-1].path)
    _, batch = mixed(feed)
    rows = [i for i, sample in enumerate(batch.samples) if sample.role == "train"]
    feed.close()
    with torch.no_grad():
        return float(distances(ready, batch, rows, ["a thing, 1"] * len(rows)).mean())


@pytest.mark.slow
def test_a_held_training_changes_less_and_resumes_to_the_bit(tmp_path, held_job):
    """With dropout, a trained text encoder and short batches."""
    settings = dataclasses.replace(held_job.train, batch_size=3, text_encoder_rate=1e-3)
    adapter = dataclasses.replace(held_job.adapter, dropout=0.1)
    prior = dataclasses.replace(BOTH, hold_weight=3.0)
    job = dataclasses.replace(held_job, train=settings, adapter=adapter, prior=prior, run=RunSettings(explosion_factor=0.0))
    whole = trained(tmp_path / "whole", job)
    run = trained(tmp_path / "stopped", job, num_steps=2)
    assert len(run.losses()) == 2 and not run.finished()
    run = trained(tmp_path / "stopped", job)
    assert run.losses() == whole.losses()
    assert [epoch.sha256 for epoch in run.epochs()] == [epoch.sha256 for epoch in whole.epochs()]
    plain = trained(tmp_path / "plain", dataclasses.replace(job, prior=PriorSettings()))
    assert moved(tmp_path, plain) > 1.5 * moved(tmp_path, whole), "the class's own answers stay nearer to the base's"
    start = next(event for event in whole.events() if event["event"] == "start")
    assert start["class_images"] == 2
