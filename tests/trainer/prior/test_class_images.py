"""Class images that the base draws: how many, kept and taken again, drawn the same after a kill, and trained with."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
from PIL import Image

from athanor.trainer.checks.validate import check_train_job
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control, Stopped
from athanor.trainer.loop import train
from athanor.trainer.prior.class_images import (
    CLASS_FOLDER,
    CONCEPT,
    ClassImage,
    alike_notes,
    class_image_notes,
    draw_class_images,
    missing_class_images,
    planned_class_images,
)
from athanor.trainer.runs.events import EventLog
from athanor.trainer.runs.run import open_run
from athanor.trainer.settings import AdapterSettings, PriorSettings
from athanor.trainer.types import Placement, Sample

DRAWN = PriorSettings(class_images=5, class_prompts="a thing\n# left out\n  a 东西 \n", class_steps=2, class_seed=7)


@pytest.fixture
def drawing(job: TrainJob) -> TrainJob:
    """Of training images that make five draws an epoch."""
    first = job.dataset.with_role("train")[0]
    samples = tuple(dataclasses.replace(sample, repeats=2) if sample is first else sample for sample in job.dataset.samples)
    job = dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, samples=samples))
    return dataclasses.replace(job, prior=DRAWN, train=dataclasses.replace(job.train, epochs=1, text_encoder_rate=0.0))


class StopAt(Control):
    """Asks to stop once so many class images are there."""

    def __init__(self, root: Path, number: int):
        super().__init__()
        self._root, self._number = root, number

    @property
    def stop_requested(self) -> bool:
        return len(pictures(self._root)) >= self._number


def pictures(root: Path) -> list[Path]:
    return sorted((root / CLASS_FOLDER).rglob("*.png"))


def test_the_number_follows_what_is_there_and_the_training_images(drawing):
    num_train = sum(sample.repeats for sample in drawing.dataset.with_role("train"))
    assert num_train == 5 and missing_class_images(drawing) == 5 and class_image_notes(drawing) == []
    more = dataclasses.replace(drawing, prior=dataclasses.replace(DRAWN, class_images=9))
    assert missing_class_images(more) == num_train
    assert class_image_notes(more)[0].startswith("Of the 9 class images that are wanted 5 are used")
    given = tuple(dataclasses.replace(sample, role="regularization", path=f"{i}.png") for i, sample in enumerate(drawing.dataset.trained[:2]))
    with_two = drawing.dataset.with_samples((*drawing.dataset.samples, *given))
    assert missing_class_images(dataclasses.replace(drawing, dataset=with_two)) == 3
    assert planned_class_images(dataclasses.replace(drawing, prior=PriorSettings()), Path("root")) == ()


def test_prompts_go_round_and_everything_that_changes_a_picture_changes_its_folder(drawing):
    planned = planned_class_images(drawing, Path("root"))
    assert [(image.prompt, image.seed) for image in planned] == [("a thing", 7), ("a 东西", 7), ("a thing", 8), ("a 东西", 8), ("a thing", 9)]
    assert len({image.path for image in planned}) == 5
    assert planned[0].path.parent.name.startswith("a-thing-") and planned[1].path.parent.name.startswith("a-东西-")
    fewer = dataclasses.replace(drawing, prior=dataclasses.replace(DRAWN, class_images=3))
    assert planned_class_images(fewer, Path("root")) == planned[:3]
    base, prior = drawing.base, drawing.prior
    others = (
        {"base": dataclasses.replace(base, fingerprint="another")},
        {"base": dataclasses.replace(base, clip_skip=2)},
        {"prior": dataclasses.replace(prior, class_steps=3)},
        {"prior": dataclasses.replace(prior, class_guidance=5.0)},
        {"prior": dataclasses.replace(prior, class_negative_prompt="blurry")},
        {"train": dataclasses.replace(drawing.train, precision="bf16")},
    )
    folders = {planned_class_images(dataclasses.replace(drawing, **changed), Path("root"))[0].path.parent for changed in others}
    assert len(folders) == len(others) and planned[0].path.parent not in folders
    same = dataclasses.replace(drawing, adapter=AdapterSettings(rank=7), train=dataclasses.replace(drawing.train, epochs=9, seed=1))
    assert planned_class_images(same, Path("root")) == planned


@pytest.mark.slow
def test_they_are_drawn_once_kept_and_drawn_the_same_after_a_kill(tmp_path, drawing):
    run = open_run(tmp_path / "one", drawing)
    events = EventLog(run.folder)
    job = draw_class_images(run, drawing, events, Control())
    drawn = pictures(tmp_path / "one")
    assert len(drawn) == 5
    added = job.dataset.with_role("regularization")
    assert sorted(sample.path for sample in added) == [str(path) for path in drawn]
    assert sum(sample.repeats for sample in added) == sum(sample.repeats for sample in job.dataset.with_role("train"))
    assert {sample.concept for sample in added} == {CONCEPT}
    for path in drawn:
        prompt = path.with_suffix(".txt").read_text(encoding="utf-8")
        assert prompt in DRAWN.class_lines
        with Image.open(path) as image:
            assert image.size == added[0].placement.bucket_px and f"Seed: {int(path.stem)}" in image.info["parameters"]
            assert image.info["parameters"].startswith(prompt)
    phases = [event for event in run.events() if event["event"] == "phase"]
    assert [(event["name"], event["done"], event["total"]) for event in phases] == [("class", 0, 5), ("class", 4, 5), ("class", 5, 5)]

    times = [path.stat().st_mtime_ns for path in drawn]
    again = draw_class_images(run, drawing, events, Control())
    assert again == job and [path.stat().st_mtime_ns for path in drawn] == times
    assert len([event for event in run.events() if event["event"] == "phase"]) == 3, "nothing was drawn"

    other = open_run(tmp_path / "two", drawing)
    with pytest.raises(Stopped):
        draw_class_images(other, drawing, EventLog(other.folder), StopAt(tmp_path / "two", 4))
    assert len(pictures(tmp_path / "two")) == 4
    # One of the first batch is lost: it is drawn with the others of its batch, but they stay.
    pictures(tmp_path / "two")[1].unlink()
    draw_class_images(other, drawing, EventLog(other.folder), Control())
    assert [path.read_bytes() for path in pictures(tmp_path / "two")] == [path.read_bytes() for path in drawn]


@pytest.mark.slow
def test_they_are_trained_with_and_the_run_goes_on_after_a_stop(tmp_path, drawing):
    stopped = open_run(tmp_path, drawing)
    train(stopped, StopAt(tmp_path, 4))
    assert stopped.losses() == [] and not stopped.finished() and [e["stopped"] for e in stopped.events() if e["event"] == "done"] == [True]
    run = open_run(tmp_path, drawing)
    assert run == stopped
    train(run, Control())
    assert run.finished() and len(pictures(tmp_path)) == 5
    start = next(event for event in run.events() if event["event"] == "start")
    assert start["class_images"] == 5
    bare = open_run(tmp_path, dataclasses.replace(drawing, prior=PriorSettings()))
    train(bare, Control())
    bare_start = next(event for event in bare.events() if event["event"] == "start")
    assert bare_start["class_images"] == 0 and start["total_steps"] > bare_start["total_steps"]


def test_pictures_that_repeat_each_other_are_told(tmp_path):
    draw = random.Random(1)
    images = [ClassImage(tmp_path / f"{seed:010d}.png", "a thing", seed) for seed in range(4)]
    for image in images:
        colours = bytes(draw.randrange(256) for _ in range(8 * 8 * 3))
        Image.frombytes("RGB", (8, 8), colours).resize((64, 64), Image.Resampling.BICUBIC).save(image.path)
    assert alike_notes(images, (64, 64)) == []
    images[2].path.write_bytes(images[0].path.read_bytes())
    (told,) = alike_notes(images, (64, 64))
    assert told.startswith("1 of the 4 class images look like others of them (as 0000000000.png); write further class prompts")


@pytest.mark.slow
def test_a_whole_model_is_trained_with_those_of_a_lora(tmp_path, drawing):
    """The base draws them before anything is trained; what draws them does not depend on what is trained."""
    draw_class_images(open_run(tmp_path, drawing), drawing, EventLog(open_run(tmp_path, drawing).folder), Control())
    drawn = {path: path.read_bytes() for path in pictures(tmp_path)}
    whole = dataclasses.replace(drawing, kind="checkpoint", train=dataclasses.replace(drawing.train, rate=1e-4))
    check_train_job(whole)
    run = open_run(tmp_path, whole)
    train(run, Control())
    assert run.finished() and {path: path.read_bytes() for path in pictures(tmp_path)} == drawn and len(drawn) == 5
    start = next(event for event in run.events() if event["event"] == "start")
    assert start["class_images"] == 5 and start["parts"][0]["name"] == "denoiser"
    assert not any(event["event"] == "phase" and event["name"] == "class" for event in run.events()), "nothing was drawn anew"


def test_given_class_images_and_drawn_ones_are_counted_together(tmp_path, drawing):
    given = Sample("given.png", 32, 32, "1-2", caption="a thing", repeats=5, role="regularization", placement=Placement((32, 32), (32, 32), (0, 0)))
    job = dataclasses.replace(drawing, dataset=drawing.dataset.with_samples((*drawing.dataset.samples, given)))
    found = draw_class_images(open_run(tmp_path, job), job, EventLog(open_run(tmp_path, job).folder), Control())
    assert [sample.repeats for sample in found.dataset.with_role("regularization")] == [1] * 5
    assert found.dataset.with_role("regularization")[0].path == "given.png"
