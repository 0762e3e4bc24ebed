"""Comparisons drawn by the worker's code, against the pictures that the training itself drew."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops
from safetensors.torch import load_file, save_file
from tiny_flow import make_flux_file

from athanor.trainer.bases import describe_base
from athanor.trainer.compare.draw import draw_cells
from athanor.trainer.config import CompareJob, SheetCell, TrainJob
from athanor.trainer.control import Control
from athanor.trainer.errors import AthanorError
from athanor.trainer.loop import train
from athanor.trainer.runs.run import Run, open_run, write_job_file
from athanor.trainer.settings import AdapterSettings, EmbeddingSettings, OptimizerSettings, SampleSettings, TrainSettings

pytestmark = pytest.mark.slow

PROMPTS = ("subject 1", "subject 2")


@pytest.fixture(scope="module")
def run(tmp_path_factory, base, dataset) -> Run:
    """Trains both parts, and draws each prompt at each epoch."""
    settings = TrainSettings(epochs=2, batch_size=2, rate=0.1, text_encoder_rate=0.1, precision="fp32", save_precision="fp32")
    samples = SampleSettings(prompts="\n".join(PROMPTS), negative_prompt="no", steps=3, guidance=4.0, seed=9)
    run = open_run(tmp_path_factory.mktemp("runs"), TrainJob("r", base, dataset, adapter=AdapterSettings(rank=2), train=settings, samples=samples))
    train(run, Control())
    return run


@dataclass(frozen=True)
class Drawn:
    """A small comparison as the worker sees it."""

    folder: Run
    files: dict[tuple[int, float, str], Path]

    def file(self, epoch: int, strength: float, prompt: str) -> Path:
        return self.files[epoch, strength if epoch else 0.0, prompt]


def plan(run: Run, strengths=(0.5, 1.0), prompts=PROMPTS[:1], seed=9, epochs=None, folder="small") -> Drawn:
    """Every epoch at every strength and the base alone, in a run directory for the worker."""
    with Image.open(run.samples()[0].path) as picture:
        width, height = picture.size
    epochs, cells = run.epochs() if epochs is None else epochs, {}
    for epoch in (None, *epochs):
        for strength in strengths if epoch else (0.0,):
            for prompt in prompts:
                number = epoch.number if epoch else 0
                file = f"cells/{number}_{strength:g}_{prompt}_{seed}.png"
                label = f"base, epoch {number} at {strength:g}"
                cell = SheetCell(file, str(epoch.path) if epoch else "", strength, strength, prompt, "no", seed, 3, 4.0, label)
                cells[number, strength, prompt] = cell
    place = run.folder / "compare" / folder
    write_job_file(place, CompareJob(run.train_job().base, tuple(cells.values()), width, height, "fp32"))
    return Drawn(Run(place), {key: place / cell.file for key, cell in cells.items()})


def drawn(run: Run, **changes) -> Drawn:
    planned = plan(run, **changes)
    draw_cells(planned.folder, Control())
    return planned


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


@pytest.mark.parametrize(
    "settings",
    [
        AdapterSettings(kind="locon", rank=3, alpha=3.0, conv_rank=2),
        AdapterSettings(kind="loha", rank=2, alpha=2.0),
        AdapterSettings(kind="lokr", rank=2, alpha=2.0, factor=2),
        AdapterSettings(kind="dora", rank=2, alpha=2.0),
        AdapterSettings(kind="ia3"),
        AdapterSettings(kind="ia3", stock_form=True),
        AdapterSettings(rank=2, alpha=2.0, rules="up_blocks.*: rank=3"),
    ],
    ids=lambda s: s.kind + ("-stock" if s.stock_form else "-rules" if s.rules else ""),
)
def test_every_kind_is_drawn_as_the_training_drew_it(tmp_path, run, settings):
    given = dataclasses.replace(run.train_job(), adapter=settings, train=dataclasses.replace(run.train_job().train, epochs=1))
    other = open_run(tmp_path, given)
    train(other, Control())
    planned = drawn(other, strengths=(0.0, 1.0))
    assert difference(planned.file(1, 1.0, PROMPTS[0]), other.samples()[0].path) <= 1
    assert difference(planned.file(1, 0.0, PROMPTS[0]), planned.file(0, 0.0, PROMPTS[0])) <= 1
    assert difference(planned.file(1, 1.0, PROMPTS[0]), planned.file(0, 0.0, PROMPTS[0])) > 5


def test_strength_0_is_the_base_alone(run):
    sheet = drawn(run, strengths=(0.0, 1.0))
    baseline = sheet.file(0, 1.0, PROMPTS[0])
    assert difference(sheet.file(2, 0.0, PROMPTS[0]), baseline) == 0
    assert difference(sheet.file(2, 1.0, PROMPTS[0]), baseline) > 1


def test_only_what_is_missing_is_drawn_and_a_larger_sheet_takes_over_what_is_there(run):
    sheet = drawn(run, prompts=PROMPTS)
    written = {path: path.stat().st_mtime_ns for path in sheet.files.values()}
    sheet.file(2, 0.5, PROMPTS[1]).unlink()
    larger = drawn(run, prompts=PROMPTS, strengths=(0.5, 0.75, 1.0))
    assert len(larger.files) == 2 * (1 + 2 * 3)
    changed = {path for path in larger.files.values() if written.get(path) != path.stat().st_mtime_ns}
    assert changed == {sheet.file(2, 0.5, PROMPTS[1]), *(larger.file(epoch, 0.75, prompt) for epoch in (1, 2) for prompt in PROMPTS)}


def test_a_stop_keeps_the_cells_that_are_done(run):
    class StopAtOnce(Control):
        looks = 1

        @property
        def stop_requested(self):
            self.looks -= 1
            return self.looks < 0

    planned = plan(run, seed=77)
    draw_cells(planned.folder, StopAtOnce())
    assert sum(path.is_file() for path in planned.files.values()) == 1
    done = planned.folder.events()[-1]
    assert done["event"] == "done" and done["stopped"] and done["step"] == 1


def test_a_cell_tells_its_parameters(run):
    sheet = drawn(run)
    with Image.open(sheet.file(2, 0.5, PROMPTS[0])) as picture:
        parameters = picture.text["parameters"]
    assert parameters.startswith("subject 1\nNegative prompt: no\nSteps: 3,") and "Seed: 9" in parameters and "epoch 2 at 0.5" in parameters


def test_an_epoch_that_is_gone_is_told_before_anything_loads(run):
    gone = dataclasses.replace(run.epochs()[0], path=run.folder / "epochs" / "gone.safetensors")
    planned = plan(run, epochs=(gone,), seed=5)
    with pytest.raises(AthanorError, match=r"The file .*gone\.safetensors is not there any more"):
        draw_cells(planned.folder, Control())


def test_the_strengths_of_model_and_text_encoder_are_told_apart(run):
    planned = plan(run, strengths=(1.0,))
    job = planned.folder.job()
    assert isinstance(job, CompareJob)
    whole = next(cell for cell in job.cells if cell.epoch_file.endswith("000002.safetensors"))
    cells = [
        dataclasses.replace(whole, file=f"apart/{m:g}-{t:g}.png", strength_model=m, strength_text=t) for m, t in ((1, 1), (1, 0), (0, 1), (0, 0))
    ]
    write_job_file(planned.folder.folder, dataclasses.replace(job, cells=tuple(cells)))
    draw_cells(planned.folder, Control())
    paths = [planned.folder.folder / cell.file for cell in cells]
    assert all(difference(paths[i], paths[j]) > 0 for i in range(4) for j in range(i))
    assert difference(paths[3], drawn(run).file(0, 0.0, PROMPTS[0])) == 0


def test_a_picture_that_fails_is_told_and_the_others_are_drawn(run):
    planned = plan(run, strengths=(1.0,), seed=31)
    job = planned.folder.job()
    broken = planned.folder.folder / "broken.safetensors"
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(3, 2)}, broken)
    last = dataclasses.replace(job.cells[-1], file="cells/broken.png", epoch_file=str(broken))
    write_job_file(planned.folder.folder, dataclasses.replace(job, cells=(*job.cells, last)))
    draw_cells(planned.folder, Control())
    events = planned.folder.events()
    assert [event["file"] for event in events if event["event"] == "cell_failed"] == ["cells/broken.png"]
    assert all(path.is_file() for path in planned.files.values())


def test_epochs_of_an_embedding_are_drawn_where_its_name_stands(tmp_path, base, dataset):
    settings = TrainSettings(epochs=2, batch_size=2, rate=0.0, text_encoder_rate=0.5, precision="fp32", save_precision="fp32")
    embedding = EmbeddingSettings(token="thing", num_vectors=2)
    samples = SampleSettings(prompts="a red thing", negative_prompt="no", steps=3, guidance=4.0, seed=9)
    job = TrainJob("thing", base, dataset, kind="embedding", embedding=embedding, train=settings, samples=samples)
    run = open_run(tmp_path, job)
    train(run, Control())
    pictures = run.samples()
    with Image.open(pictures[0].path) as picture:
        width, height = picture.size
    folder = run.folder / "compare" / "small"
    # Another run's may have more vectors.
    rows = load_file(run.epochs()[0].path)["emb_params"]
    save_file({"emb_params": torch.cat([rows, rows[:1] + 0.5])}, tmp_path / "longer.safetensors")
    files = [*(str(epoch.path) for epoch in run.epochs()), "", str(tmp_path / "longer.safetensors")]
    cells = [SheetCell(f"{i}.png", file, 1.0, 1.0, "a red embedding:thing", "no", 9, 3, 4.0) for i, file in enumerate(files)]
    cells.append(SheetCell("bare.png", "", 1.0, 1.0, "a red", "no", 9, 3, 4.0))
    write_job_file(folder, CompareJob(base, tuple(cells), width, height, "fp32", token="thing"))
    draw_cells(Run(folder), Control())
    for i, picture in enumerate(pictures):
        assert difference(folder / f"{i}.png", picture.path) <= 1, "as the training drew it"
    assert difference(folder / "0.png", folder / "1.png") > 1 and difference(folder / "0.png", folder / "3.png") > 1
    assert difference(folder / "2.png", folder / "bare.png") == 0


@pytest.mark.parametrize("kind", ["lora", "embedding"])
def test_what_t5_has_learned_is_drawn_as_in_the_training(kind, tmp_path, dataset):
    base = describe_base(make_flux_file(tmp_path / "model").path)
    rate = 0.5 if kind == "embedding" else 1e-9
    settings = TrainSettings(
        epochs=2, batch_size=2, rate=0.0 if kind == "embedding" else 1e-9, text_encoder_rate=rate, precision="fp32", save_precision="fp32"
    )
    job = TrainJob(
        "thing",
        base,
        dataset,
        kind=kind,
        adapter=AdapterSettings() if kind == "embedding" else AdapterSettings(rank=2),
        embedding=EmbeddingSettings(token="thing", num_vectors=2) if kind == "embedding" else EmbeddingSettings(),
        train=settings,
        optimizer=OptimizerSettings(t5_rate=0.0 if kind == "embedding" else 0.3),
        samples=SampleSettings(prompts="a red thing", steps=2, guidance=3.5, seed=9),
    )
    run = open_run(tmp_path, job)
    train(run, Control())
    pictures = run.samples()
    with Image.open(pictures[0].path) as picture:
        width, height = picture.size
    folder = run.folder / "compare" / "small"
    cells = [SheetCell(f"{i}.png", str(epoch.path), 1.0, 1.0, "a red thing", "", 9, 2, 3.5) for i, epoch in enumerate(run.epochs())]
    cells.append(SheetCell("bare.png", "", 1.0, 1.0, "a red thing", "", 9, 2, 3.5))
    write_job_file(folder, CompareJob(base, tuple(cells), width, height, "fp32", token="thing" if kind == "embedding" else ""))
    draw_cells(Run(folder), Control())
    for i, picture in enumerate(pictures):
        assert difference(folder / f"{i}.png", picture.path) <= 1, "as the training drew it"
    assert difference(folder / "1.png", folder / "bare.png") > 1, "T5 changes the picture"


def test_what_was_merged_into_the_base_first_is_drawn_as_the_training_drew_it(tmp_path, run):
    first = run.epochs()[0].path
    merged = AdapterSettings(rank=2, merge_files=f"{first}: 0.7")
    given = dataclasses.replace(run.train_job(), adapter=merged, train=dataclasses.replace(run.train_job().train, epochs=1))
    other = open_run(tmp_path, given)
    train(other, Control())
    planned = plan(other, strengths=(1.0,), seed=9)
    job = planned.folder.job()
    assert isinstance(job, CompareJob)
    write_job_file(planned.folder.folder, dataclasses.replace(job, merge_files=merged.merge_files))
    draw_cells(planned.folder, Control())
    assert difference(planned.file(1, 1.0, PROMPTS[0]), other.samples()[0].path) <= 1
    without = drawn(other, strengths=(1.0,), seed=9, folder="without")
    assert difference(without.file(1, 1.0, PROMPTS[0]), other.samples()[0].path) > 1
    write_job_file(planned.folder.folder, dataclasses.replace(job, merge_files=f"{tmp_path / 'gone.safetensors'}: 1"))
    with pytest.raises(AthanorError, match=r"gone\.safetensors, which the run merged into its base first, is not there any more"):
        draw_cells(planned.folder, Control())


def test_the_base_is_kept_as_the_training_kept_it(tmp_path, run):
    settings = dataclasses.replace(run.train_job().train, epochs=1, base_precision="fp8")
    other = open_run(tmp_path, dataclasses.replace(run.train_job(), train=settings))
    train(other, Control())
    planned = plan(other, strengths=(1.0,))
    job = planned.folder.job()
    assert isinstance(job, CompareJob)
    pictures = []
    for storage in ("fp8", "auto"):
        write_job_file(planned.folder.folder, dataclasses.replace(job, base_precision=storage))
        for path in planned.files.values():
            path.unlink(missing_ok=True)
        draw_cells(planned.folder, Control())
        pictures.append(difference(planned.file(1, 1.0, PROMPTS[0]), other.samples()[0].path))
    assert pictures[0] <= 1 and pictures[1] > 1


def test_runs_of_another_rank_and_kind_are_drawn_in_turns_as_their_trainings_drew_them(tmp_path, run):
    once = dataclasses.replace(run.train_job().train, epochs=1)
    others = []
    for settings in (AdapterSettings(rank=3), AdapterSettings(kind="loha", rank=2, alpha=2.0)):
        other = open_run(tmp_path, dataclasses.replace(run.train_job(), name=settings.kind, adapter=settings, train=once))
        train(other, Control())
        others.append(other)
    planned = plan(run, strengths=(1.0,), seed=9, epochs=(run.epochs()[0],), folder="in turns")
    job = planned.folder.job()
    assert isinstance(job, CompareJob)
    cell, drawn_by = job.cells[-1], [run, *others, run]
    cells = [dataclasses.replace(cell, file=f"turns/{i}.png", epoch_file=str(each.epochs()[0].path)) for i, each in enumerate(drawn_by)]
    write_job_file(planned.folder.folder, dataclasses.replace(job, cells=tuple(cells)))
    draw_cells(planned.folder, Control())
    for i, each in enumerate(drawn_by):
        sample = next(picture for picture in each.samples() if picture.epoch == 1 and picture.prompt == PROMPTS[0])
        assert difference(planned.folder.folder / "turns" / f"{i}.png", sample.path) <= 1


def test_a_lora_is_drawn_with_the_embedding_that_was_trained_with_it(tmp_path, base, dataset):
    samples = tuple(dataclasses.replace(sample, caption="a my-cat") for sample in dataset.samples)
    settings = TrainSettings(epochs=2, batch_size=2, rate=1e-3, text_encoder_rate=0.0, precision="fp32", save_precision="fp32")
    embedding = EmbeddingSettings(other_embeddings="my-cat: vectors=2", embedding_rate=0.5)
    look = SampleSettings("a red my-cat", "no", steps=3, guidance=4.0, seed=9)
    job = TrainJob(
        "pivotal",
        base,
        dataclasses.replace(dataset, samples=samples),
        adapter=AdapterSettings(rank=2),
        embedding=embedding,
        train=settings,
        samples=look,
    )
    run = open_run(tmp_path, job)
    train(run, Control())
    first, last = run.epochs()
    files = {"": (), str(first.path): (str(first.words[0][1]),), str(last.path): (str(last.words[0][1]),)}
    cells = [
        SheetCell(f"{i}.png", file, 1.0, 1.0, "a red embedding:my-cat", "no", 9, 3, 4.0, word_files=beside)
        for i, (file, beside) in enumerate(files.items())
    ]
    cells.append(SheetCell("bare.png", "", 1.0, 1.0, "a red", "no", 9, 3, 4.0))
    cells.append(SheetCell("weak.png", str(last.path), 0.0, 0.0, "a red my-cat", "no", 9, 3, 4.0, word_files=files[str(last.path)]))
    folder = tmp_path / "runs" / "pivotal" / "compare" / "one"
    size = Image.open(run.samples()[0].path).size
    write_job_file(folder, CompareJob(base, tuple(cells), *size, "fp32", words=("my-cat",)))
    draw_cells(Run(folder), Control())
    drawn = {cell.file: Image.open(folder / cell.file).tobytes() for cell in cells}
    assert drawn["0.png"] == drawn["bare.png"], "without the epoch its word says nothing"
    for file, epoch in (("1.png", 1), ("2.png", 2)):
        (sample,) = [picture for picture in run.samples() if picture.epoch == epoch]
        assert drawn[file] == Image.open(sample.path).tobytes(), "as the training itself drew it"
    assert len(set(drawn.values())) == 4, "the embedding alone, at no strength of the LoRA, is seen too"
