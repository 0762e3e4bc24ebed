"""Comparisons drawn by the worker's code, against the pictures that the training itself drew."""

from __future__ import annotations

import dataclasses

import pytest
from PIL import Image, ImageChops

from athanor.trainer.compare.draw import draw_cells
from athanor.trainer.compare.sheet import BASELINE, Look, Sheet, plan_sheet, write_sheet_job
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.errors import AthanorError
from athanor.trainer.loop import train
from athanor.trainer.run import Run, open_run
from athanor.trainer.settings import AdapterSettings, SampleSettings, TrainSettings

PROMPTS = ("subject 1", "subject 2")


@pytest.fixture(scope="module")
def run(tmp_path_factory, base, dataset) -> Run:
    """Trains both parts, and draws each prompt at each epoch."""
    settings = TrainSettings(epochs=2, batch_size=2, rate=0.1, text_encoder_rate=0.1, precision="fp32", save_precision="fp32")
    samples = SampleSettings(prompts="\n".join(PROMPTS), negative_prompt="no", steps=3, guidance=4.0, seed=9)
    run = open_run(tmp_path_factory.mktemp("runs"), TrainJob("r", base, dataset, adapter=AdapterSettings(rank=2), train=settings, samples=samples))
    train(run, Control())
    return run


def plan(run: Run, strengths=(0.5, 1.0), prompts=PROMPTS[:1], seed=9, epochs=None):
    with Image.open(run.samples()[0].path) as picture:
        width, height = picture.size
    job = run.train_job()
    return plan_sheet(run, job.base, epochs or run.epochs(), strengths, prompts, seed, True, Look("no", 3, 4.0, width, height, "fp32"))


def drawn(run: Run, **changes) -> Sheet:
    sheet, job = plan(run, **changes)
    draw_cells(write_sheet_job(sheet, job), Control())
    return sheet


def difference(first, second) -> int:
    """The largest difference of a channel, 0 to 255."""
    with Image.open(first) as one, Image.open(second) as two:
        return max(high for _, high in ImageChops.difference(one.convert("RGB"), two.convert("RGB")).getextrema())


def test_a_cell_at_full_strength_is_the_picture_that_the_training_drew(run):
    sheet = drawn(run)
    for epoch in (1, 2):
        sample = next(picture for picture in run.samples() if picture.epoch == epoch and picture.prompt == PROMPTS[0])
        assert difference(sheet.file(epoch, 1.0, PROMPTS[0]), sample.path) <= 1
    assert difference(sheet.file(1, 1.0, PROMPTS[0]), sheet.file(2, 1.0, PROMPTS[0])) > 1
    assert difference(sheet.file(2, 0.5, PROMPTS[0]), sheet.file(2, 1.0, PROMPTS[0])) > 1


def test_strength_0_is_the_base_alone(run):
    sheet = drawn(run, strengths=(0.0, 1.0))
    baseline = sheet.file(BASELINE, 1.0, PROMPTS[0])
    assert difference(sheet.file(2, 0.0, PROMPTS[0]), baseline) == 0
    assert difference(sheet.file(2, 1.0, PROMPTS[0]), baseline) > 1


def test_only_what_is_missing_is_drawn_and_a_larger_sheet_takes_over_what_is_there(run):
    sheet = drawn(run, prompts=PROMPTS)
    written = {path: path.stat().st_mtime_ns for path in sheet.folder.rglob("*.png")}
    sheet.file(2, 0.5, PROMPTS[1]).unlink()
    larger = drawn(run, prompts=PROMPTS, strengths=(0.5, 0.75, 1.0))
    assert larger.folder == sheet.folder and larger.num_finished == len(larger.cells) == 2 * (1 + 2 * 3)
    changed = {path for path in larger.folder.rglob("*.png") if written.get(path) != path.stat().st_mtime_ns}
    assert changed == {sheet.file(2, 0.5, PROMPTS[1]), *(larger.file(epoch, 0.75, prompt) for epoch in (1, 2) for prompt in PROMPTS)}


def test_a_stop_keeps_the_cells_that_are_done(run):
    class StopAtOnce(Control):
        looks = 1

        @property
        def stop_requested(self):
            self.looks -= 1
            return self.looks < 0

    sheet, job = plan(run, seed=77)
    worker_run = write_sheet_job(sheet, job)
    draw_cells(worker_run, StopAtOnce())
    assert sheet.num_finished == 1
    done = worker_run.events()[-1]
    assert done["event"] == "done" and done["stopped"] and done["step"] == 1


def test_a_cell_tells_its_parameters(run):
    sheet = drawn(run)
    with Image.open(sheet.file(2, 0.5, PROMPTS[0])) as picture:
        parameters = picture.text["parameters"]
    assert parameters.startswith("subject 1\nNegative prompt: no\nSteps: 3,") and "Seed: 9" in parameters and "epoch 2 at 0.5" in parameters


def test_an_epoch_that_is_gone_is_told_before_anything_loads(run):
    gone = dataclasses.replace(run.epochs()[0], path=run.folder / "epochs" / "gone.safetensors")
    sheet, job = plan(run, epochs=(gone,), seed=5)
    with pytest.raises(AthanorError, match=r"The LoRA file .*gone\.safetensors is not there any more"):
        draw_cells(write_sheet_job(sheet, job), Control())
