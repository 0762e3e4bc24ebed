"""Captions by the real worker process, with models of random weights."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_captioners import make_blip, make_florence2, make_florence2_original

import athanor
from athanor.trainer.captioning.store import read_text, store_folder, write_text
from athanor.trainer.config import CaptionJob, read_job
from athanor.trainer.errors import AthanorError
from athanor.trainer.runs.run import Run, write_job_file
from athanor.trainer.settings import CaptioningSettings

pytestmark = pytest.mark.slow

LAUNCH = Path(athanor.__file__).parent / "trainer" / "launch.py"
TIMEOUT_SEC = 300
SETTINGS = CaptioningSettings(max_tokens=12, num_beams=2)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("模型 models")
    native = make_florence2(root / "Florence-2-tiny")
    return {"blip": make_blip(root / "blip"), "florence2": native, "florence2-original": make_florence2_original(root / "original", native)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> tuple[tuple[str, str], ...]:
    folder = tmp_path_factory.mktemp("图")
    images = (
        Image.radial_gradient("L").resize((50, 40)),
        Image.new("RGB", (30, 30), (255, 0, 0)),
        Image.linear_gradient("L"),
        Image.new("RGBA", (30, 20), (0, 90, 0, 40)),
        Image.new("L", (9, 40), 200),
    )
    for i, image in enumerate(images):
        image.save(folder / f"{i}.png")
    return tuple((f"name{i}", str(folder / f"{i}.png")) for i in range(len(images)))


def _job(kind: str, model: Path, pictures: tuple, **changes) -> CaptionJob:
    return dataclasses.replace(CaptionJob(kind, str(model), pictures, SETTINGS, batch_size=2), **changes)


def _start(run: Run, job: CaptionJob) -> subprocess.Popen:
    write_job_file(run.folder, job)
    with (run.folder / "worker.log").open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            [sys.executable, str(LAUNCH), str(run.folder), "--attached"], stdin=subprocess.PIPE, stdout=log, stderr=log, text=True
        )


def _work(run: Run, job: CaptionJob) -> int:
    process = _start(run, job)
    code = process.wait(TIMEOUT_SEC)
    process.stdin.close()
    return code


def _texts(run: Run, pictures: tuple) -> list[str | None]:
    return [read_text(run.folder, name) for name, _ in pictures]


def _expected(kind: str, folder: Path, pictures: tuple) -> list[str]:
    """By transformers alone, one picture at a time."""
    from transformers import AutoProcessor, BlipForConditionalGeneration, Florence2ForConditionalGeneration

    classes = {"blip": BlipForConditionalGeneration, "florence2": Florence2ForConditionalGeneration}
    model, processor = classes[kind].from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    found = []
    for _, path in pictures:
        image = Image.open(path)
        if image.mode == "RGBA":
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        text = {} if kind == "blip" else {"text": "<DETAILED_CAPTION>"}
        inputs = processor(images=image.convert("RGB"), return_tensors="pt", **text)
        with torch.no_grad():
            tokens = model.generate(**inputs, max_new_tokens=12, num_beams=2, do_sample=False)
        found.append(processor.batch_decode(tokens, skip_special_tokens=True)[0].strip())
    return found


@pytest.mark.parametrize("kind", ["blip", "florence2"])
def test_texts_are_those_of_transformers(tmp_path, models, pictures, kind):
    run = Run(tmp_path)
    assert _work(run, _job(kind, models[kind], pictures)) == 0, run.log_tail()
    texts = _texts(run, pictures)
    assert texts == _expected(kind, models[kind], pictures) and len(set(texts)) >= 3, "they depend on the picture"
    events = run.events()
    assert [event["step"] for event in events if event["event"] == "caption"] == [2, 4, 5]
    assert events[-1]["event"] == "done" and not events[-1]["stopped"]


def test_the_original_layout_writes_the_same_as_that_of_transformers(tmp_path, models, pictures):
    runs = [Run(tmp_path / kind) for kind in ("florence2", "florence2-original")]
    for run in runs:
        assert _work(run, _job(run.folder.name, models[run.folder.name], pictures)) == 0, run.log_tail()
    assert _texts(runs[0], pictures) == _texts(runs[1], pictures) != [None] * 5


def test_settings_reach_the_model(tmp_path, models, pictures):
    begun, short = Run(tmp_path / "a"), Run(tmp_path / "b")
    assert _work(begun, _job("blip", models["blip"], pictures, settings=CaptioningSettings(beginning="a photo of", max_tokens=5))) == 0
    assert all(text.startswith("a photo of") and len(text.split()) <= 8 for text in _texts(begun, pictures))
    assert _work(short, _job("florence2", models["florence2"], pictures, settings=CaptioningSettings("short", max_tokens=12))) == 0
    assert _texts(short, pictures) != _expected("florence2", models["florence2"], pictures), "another question, another answer"


def test_what_is_there_is_not_written_again(tmp_path, models, pictures):
    run = Run(tmp_path)
    for name, _ in pictures[1:]:
        write_text(run.folder, name, "kept")
    job = _job("blip", models["blip"], pictures)
    assert _work(run, job) == 0
    assert _texts(run, pictures)[1:] == ["kept"] * 4 and _texts(run, pictures)[0] not in (None, "kept")
    gone = dataclasses.replace(job, model=str(tmp_path / "no model is needed any more"))
    assert _work(run, gone) == 0, "nothing is loaded when nothing is left to do"


def test_a_picture_that_cannot_be_read_ends_nothing(tmp_path, models, pictures):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    run = Run(tmp_path / "run")
    assert _work(run, _job("blip", models["blip"], (("bad", str(broken)), *pictures[:2]))) == 0
    assert _texts(run, (("bad", ""), *pictures[:2]))[0] is None and None not in _texts(run, pictures[:2])
    (warning,) = (event["message"] for event in run.events() if event["event"] == "warning")
    assert str(broken) in warning and "cannot be read" in warning


def test_a_stop_ends_it_between_two_words_and_the_next_run_goes_on(tmp_path, models, pictures):
    run = Run(tmp_path)
    many = tuple((f"{name} {i}", path) for i in range(60) for name, path in pictures)
    process = _start(run, _job("florence2", models["florence2"], many, batch_size=1, settings=CaptioningSettings(max_tokens=200, num_beams=4)))
    deadline = time.monotonic() + TIMEOUT_SEC
    while not any(event["event"] == "caption" for event in run.events()):
        assert process.poll() is None and time.monotonic() < deadline, run.log_tail()
        time.sleep(0.01)
    process.stdin.write("stop\n")
    process.stdin.flush()
    assert process.wait(TIMEOUT_SEC) == 0
    process.stdin.close()
    done = run.events()[-1]
    num_kept = sum(text is not None for text in _texts(run, many))
    assert done["event"] == "done" and done["stopped"] and 0 < num_kept == done["step"] < len(many)


def _without(file: Path, part: str) -> None:
    from safetensors.torch import load_file, save_file

    save_file({name: tensor for name, tensor in load_file(file).items() if part not in name}, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("kind", "make", "damage", "message"),
    [
        ("blip", make_blip, lambda folder: (folder / "model.safetensors").write_bytes(b"cut off"), "cannot be loaded"),
        ("blip", make_blip, lambda folder: (folder / "config.json").write_text("{", encoding="utf-8"), "cannot be loaded"),
        ("blip", make_blip, lambda folder: _without(folder / "model.safetensors", "text_decoder.bert.encoder.layer.1"), "of its weights are missing, the first is"),
        ("florence2", make_florence2, lambda folder: _without(folder / "model.safetensors", "image_proj_norm"), "2 of its weights are missing"),
    ],
)  # fmt: skip
def test_a_broken_model_is_one_clear_sentence(tmp_path, pictures, kind, make, damage, message):
    damage(make(tmp_path / "model"))
    run = Run(tmp_path / "run")
    assert _work(run, _job(kind, tmp_path / "model", pictures)) == 2
    said = run.events()[-1]["message"]
    assert message in said and str(tmp_path / "model") in said and "Download it again" in said and "\n" not in said
    assert not (run.folder / "texts").exists()


def test_an_original_checkpoint_that_is_not_whole_is_refused(tmp_path, models):
    from athanor.trainer.captioning.base import CAPTIONERS
    from athanor.trainer.captioning.work import write_captions  # noqa: F401 - registers them

    folder = make_florence2_original(tmp_path / "original", models["florence2"])
    _without(folder / "model.safetensors", "convs.1.norm")
    with pytest.raises(AthanorError, match=r"2 of its weights are missing, the first is model\.vision_tower\.convs\.1\.norm\.bias"):
        CAPTIONERS["florence2-original"](folder, torch.device("cpu"), torch.float32)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["d_model"] = 32
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(AthanorError, match=r"is not a Florence-2: .* expected is"):
        CAPTIONERS["florence2-original"](folder, torch.device("cpu"), torch.float32)
    with pytest.raises(AthanorError, match="Unknown captioner 'gpt'; choose one of: blip, florence2, florence2-original"):
        CAPTIONERS["gpt"]


def test_texts_are_kept_by_model_and_settings_wherever_they_lie(tmp_path, models):
    import shutil

    copy = shutil.copytree(models["blip"], tmp_path / "elsewhere")
    first = store_folder(tmp_path, "blip", models["blip"], SETTINGS)
    assert store_folder(tmp_path, "blip", copy, SETTINGS) == first and first.parent == tmp_path
    others = [
        store_folder(tmp_path, "blip", models["blip"], dataclasses.replace(SETTINGS, num_beams=1)),
        store_folder(tmp_path, "florence2", models["florence2"], SETTINGS),
        store_folder(tmp_path, "blip", make_blip(tmp_path / "other", seed=1), SETTINGS),
    ]
    assert len({first, *others}) == 4


def test_the_job_survives_its_file(tmp_path, models, pictures):
    job = _job("blip", models["blip"], pictures)
    write_job_file(tmp_path, job)
    assert read_job(tmp_path / "job.json") == job
    with pytest.raises(AthanorError, match="holds captions, not a training"):
        Run(tmp_path).train_job()
