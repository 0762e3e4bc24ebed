from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file
from tiny import make_pictures
from tiny_families import make_sdxl_split

from athanor.trainer.cli import main
from athanor.trainer.cli.options import existing_run
from athanor.trainer.errors import AthanorError
from athanor.trainer.files import file_sha256
from athanor.trainer.runs.relocation import relocated
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import AdapterSettings, EmbeddingSettings, SampleSettings

pytestmark = pytest.mark.slow


def arguments(base_folder, images, output, *more: str) -> list[str]:
    settings = ["--rank", "2", "--epochs", "2", "--batch-size", "2", "--rate", "0.01", "--text-encoder-rate", "0.01", "--precision", "fp32"]
    return [
        "train",
        "--base",
        str(base_folder),
        "--images",
        str(images),
        "--output",
        str(output),
        "--name",
        "cli-run",
        "--resolution",
        "32",
        *settings,
        *more,
    ]


@pytest.fixture
def images(tmp_path):
    return make_pictures(tmp_path / "my pictures")


def test_a_folder_becomes_a_run_and_a_second_call_finds_it_finished(tmp_path, base_folder, images, capsys):
    assert main(arguments(base_folder, images, tmp_path / "runs", "--held-out-percent", "20")) == 0
    run = Run(tmp_path / "runs" / "cli-run")
    assert run.finished() and [epoch.number for epoch in run.epochs()] == [1, 2]
    assert f"epoch 2: {run.epochs()[1].path}  held-out loss" in capsys.readouterr().out
    assert main(["resume", str(run.folder)]) == 0
    assert "finished already" in capsys.readouterr().out


def test_an_embedding_is_named_like_its_run(tmp_path, base_folder, images):
    given = arguments(base_folder, images, tmp_path / "runs", "--embedding", "--num-vectors", "2")
    given = [each for i, each in enumerate(given) if each not in ("--rank", "--rate") and given[i - 1] not in ("--rank", "--rate")]
    assert main(given) == 0
    job = Run(tmp_path / "runs" / "cli-run").train_job()
    assert job.kind == "embedding" and job.embedding.token == "cli-run" and job.embedding.num_vectors == 2


def test_every_adapter_can_be_chosen_and_starts_from_a_file_that_is_told_by_its_content(tmp_path, base_folder, images):
    runs = tmp_path / "runs"
    once = ["--epochs", "1", "--name"]
    assert main(arguments(base_folder, images, runs, "--adapter", "lokr", "--factor", "2", *once, "first")) == 0
    first = Run(runs / "first")
    assert first.train_job().adapter.kind == "lokr" and first.train_job().adapter.factor == 2
    assert {key.rpartition(".")[2] for key in load_file(first.epochs()[-1].path)} >= {"lokr_w1", "alpha"}
    assert main(arguments(base_folder, images, runs, "--adapter", "lokr", "--start-file", str(first.epochs()[-1].path), *once, "second")) == 0
    assert Run(runs / "second").train_job().adapter.files_sha256 == file_sha256(first.epochs()[-1].path)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--embedding", "--adapter", "ia3"], "--adapter is ia3, but does nothing for an embedding; leave it out."),
        (["--embedding", "--module-dropout", "0.1"], "--module-dropout is 0.1, but does nothing for an embedding; leave it out."),
        (["--num-vectors", "8"], "--num-vectors is 8, but does nothing for a LoRA; leave it out."),
    ],
)
def test_what_is_for_the_other_kind_of_training_is_refused(tmp_path, base_folder, images, capsys, more, told):
    assert main(arguments(base_folder, images, tmp_path / "runs", *more)) == 2
    assert told in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_a_base_may_be_in_several_files(tmp_path, images, capsys):
    made = make_sdxl_split(tmp_path)
    files = ["--text-encoders", *map(str, made.text_encoders), "--vae", str(made.vae), "--tokenizers", str(tmp_path), "--prediction", "v"]
    assert main(arguments(made.path, images, tmp_path / "runs", *files, "--text-encoder-rate", "0", "--epochs", "1", "--resolution", "64")) == 0, (
        capsys.readouterr().err
    )
    base = Run(tmp_path / "runs" / "cli-run").train_job().base
    assert (base.family, base.prediction, base.vae_path) == ("sdxl", "v", str(made.vae)) and len(base.text_encoder_paths) == 1


def test_every_problem_is_told_before_anything_is_made(tmp_path, base_folder, images, capsys):
    assert main(arguments(base_folder, images, tmp_path / "runs", "--rank", "0", "--epochs", "-1")) == 2
    told = capsys.readouterr().err
    assert "rank is 0; it must be from 1 to 1024" in told and "epochs is -1" in told
    assert not (tmp_path / "runs").exists()
    assert main(arguments(tmp_path / "nowhere", images, tmp_path / "runs")) == 2
    assert "There is no model at" in capsys.readouterr().err


def test_objective_captions_and_images_are_set_like_everything_else(tmp_path, base_folder, images):
    others = make_pictures(tmp_path / "others", num=2)
    for picture in others.glob("*.png"):
        Image.linear_gradient("L").resize((40, 32)).convert("RGB").save(picture)
    more = ["--weighting", "min_snr", "--caption-shuffle", "--caption-keep-tokens", "1", "--image-mirror", "--regularization", str(others)]
    assert main(arguments(base_folder, images, tmp_path / "runs", *more)) == 0
    job = Run(tmp_path / "runs" / "cli-run").train_job()
    assert job.objective.weighting == "min_snr" and job.captions.shuffle and job.captions.keep_tokens == 1 and job.data.mirror
    assert {sample.concept for sample in job.dataset.with_role("regularization")} == {"others"}


def test_a_run_directory_is_checked_trained_drawn_and_exported(tmp_path, job, capsys):
    run = open_run(tmp_path / "runs", dataclasses.replace(job, samples=SampleSettings(prompts="subject 1 --d 4 --s 1 --w 48\nsubject 2 --s 1")))
    where = str(run.folder)
    assert main(["validate", where]) == 0
    assert "my run can be trained: 9 steps, 3 in each of 3 epochs; 4 images, 2 held out" in capsys.readouterr().out
    assert not run.events()
    assert main(["train", where]) == 0 and run.finished()
    capsys.readouterr()
    assert main(["sample", where, "--epochs", "1,3"]) == 0
    drawn = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert len(drawn) == 4 and all(path.is_file() and path.is_relative_to(run.folder) for path in drawn)
    assert main(["export", where, "--to", str(tmp_path / "loras"), "--name", "mine", "--sd-scripts", str(tmp_path / "mine.toml")]) == 0
    assert (tmp_path / "loras" / "mine.safetensors").is_file() and "network_dim = 2" in (tmp_path / "mine.toml").read_text(encoding="utf-8")
    assert main(["export", where]) == 2 and "say --to FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["merged", "checkpoint"])
def test_pictures_drawn_later_are_those_of_the_training(tmp_path, job, capsys, kind):
    """Also where the epochs are whole models, and where a LoRA was merged into the base first."""
    exact = dataclasses.replace(job.train, epochs=1, save_precision="fp32")
    first = open_run(tmp_path, dataclasses.replace(job, train=exact, name="first"))
    if kind == "merged":
        assert main(["train", str(first.folder)]) == 0
        merged = AdapterSettings(rank=2, alpha=1.0, merge_files=str(first.epochs()[-1].path))
        job = dataclasses.replace(job, train=exact, adapter=merged)
    else:
        job = dataclasses.replace(job, kind=kind, adapter=AdapterSettings(), train=dataclasses.replace(exact, rate=1e-3, text_encoder_rate=1e-3))
    run = open_run(tmp_path, dataclasses.replace(job, samples=SampleSettings(prompts="subject 1 --d 4 --s 2")))
    assert main(["train", str(run.folder)]) == 0
    capsys.readouterr()
    assert main(["sample", str(run.folder)]) == 0
    (drawn,) = capsys.readouterr().out.splitlines()
    with Image.open(drawn) as later, Image.open(run.samples()[-1].path) as then:
        assert later.tobytes() == then.tobytes()


@pytest.mark.parametrize("kind", ["lora", "embedding"])
def test_epochs_are_measured_anew_as_they_were_while_training(tmp_path, job, capsys, kind):
    train = dataclasses.replace(job.train, save_precision="fp32", **({"rate": 0.0, "text_encoder_rate": 0.05} if kind == "embedding" else {}))
    run = open_run(tmp_path, dataclasses.replace(job, kind=kind, embedding=EmbeddingSettings(token="my-run"), train=train))
    assert main(["train", str(run.folder)]) == 0
    before = (run.folder / "events.jsonl").read_bytes()
    capsys.readouterr()
    assert main(["validate", str(run.folder), "--epochs", "1,3"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    told = run.validation_losses()
    assert lines == [
        f"before training: held-out loss {told[0]:.5f}",
        *(f"epoch {n}: held-out loss {told[n]:.5f} ({told[n]:.5f} while it was trained)" for n in (1, 3)),
    ]
    assert len({line.split("loss ")[1] for line in lines}) == 3
    assert (run.folder / "events.jsonl").read_bytes() == before
    assert main(["validate", str(run.folder), "--check-only"]) == 0 and "held-out loss" not in capsys.readouterr().out


def test_a_run_may_be_named_by_its_job_file(tmp_path, job):
    run = open_run(tmp_path, job)
    assert existing_run(run.folder / "job.json") == existing_run(run.folder) == Run(run.folder.resolve())
    with pytest.raises(AthanorError, match="is no run directory"):
        existing_run(tmp_path / "job.json")


def test_a_new_run_names_what_it_lacks(capsys):
    assert main(["train", "--base", "x"]) == 2
    assert "A new run needs --images, --name" in capsys.readouterr().err


def test_a_run_goes_on_where_its_model_and_pictures_lie_elsewhere(tmp_path, base_folder, images, capsys):
    """As on another machine, to which only the run's folder was carried over by itself."""
    root = tmp_path / "old"
    shutil.copytree(base_folder, root / "model")
    for concept in ("6_one", "2_two"):
        shutil.copytree(images, root / "data" / concept)
    assert main(arguments(root / "model", root / "data", tmp_path / "runs", "--held-out-percent", "20", "--accumulation", "2")) == 0
    whole = Run(tmp_path / "runs" / "cli-run")
    new = tmp_path / "new"
    shutil.move(root, new)
    again = Run(tmp_path / "again" / "cli-run")
    again.folder.mkdir(parents=True)
    shutil.copy(whole.folder / "job.json", again.folder)
    assert main(["train", str(again.folder)]) == 2 and "put them back" in capsys.readouterr().err
    assert main(["train", str(again.folder), "--base", str(new / "model"), "--images", str(new)]) == 0
    assert {Path(sample.path).parent.name for sample in again.train_job().dataset.samples} == {"6_one", "2_two"}
    assert again.losses() == whole.losses() and [each.sha256 for each in again.epochs()] == [each.sha256 for each in whole.epochs()]


def test_another_model_other_pictures_and_other_settings_are_no_places(tmp_path, base_folder, images, workshop, capsys):
    assert main(arguments(base_folder, images, tmp_path / "runs", "--epochs", "1")) == 0
    where = str(tmp_path / "runs" / "cli-run")
    before = (tmp_path / "runs" / "cli-run" / "job.json").read_bytes()
    unet = workshop / "unet" / "diffusion_pytorch_model.safetensors"
    unet.write_bytes(unet.read_bytes()[:-4] + b"\0\0\0\0")
    (tmp_path / "few").mkdir()
    for more, sentence in (
        (["--base", str(workshop)], "is not tiny base, which this run was begun with"),
        (["--images", str(tmp_path / "few")], "6 of this run's pictures and masks are not below"),
        (["--rank", "7"], "--rank would make another run"),
        (["--run-steps", "7"], "--run-steps would make another run"),
    ):
        assert main(["train", where, *more]) == 2
        assert sentence in capsys.readouterr().err
    assert (tmp_path / "runs" / "cli-run" / "job.json").read_bytes() == before


def test_a_job_from_windows_finds_its_files_by_their_names(tmp_path, base_folder, images):
    assert main(arguments(base_folder, images, tmp_path / "runs", "--epochs", "1")) == 0
    job = Run(tmp_path / "runs" / "cli-run").train_job()
    samples = tuple(dataclasses.replace(each, path=f"D:\\my pictures\\{Path(each.path).name}") for each in job.dataset.samples)
    written = dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, samples=samples))
    assert relocated(written, None, images) == job
