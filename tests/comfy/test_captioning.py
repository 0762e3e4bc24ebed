"""Caption Images in a real ComfyUI: from a folder of models/captioners to captions beside the pictures, with tags, a second time, broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from comfyui_server import ComfyUI, ServerError, failure
from graphs import Prompt, node
from PIL import Image
from tiny_captioners import make_blip, make_florence2, make_florence2_original

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
FOLDER = "描述 pictures"
LIMIT_SEC = 600
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    folder, models = comfyui.input_folder / FOLDER, comfyui.models_folder
    folder.mkdir(parents=True)
    for name, image in zip(NAMES, (Image.radial_gradient("L"), Image.new("RGB", (40, 20), (255, 0, 0)), Image.linear_gradient("L")), strict=True):
        image.save(folder / f"{name}.png")
    native = make_florence2(models / "captioners" / "Florence 小")
    make_blip(models / "captioners" / "blip")
    make_florence2_original(models / "LLM" / "Florence-2-tiny-PromptGen", native)
    broken = shutil.copytree(models / "captioners" / "blip", models / "captioners" / "broken")
    (broken / "model.safetensors").write_bytes(b"cut off")
    return comfyui


def _graph(server: ComfyUI, *captioning: dict, tagging: dict | None = None) -> Prompt:
    prompt = {"data": node(server, "AthanorLoadDataset", folder=FOLDER, trigger="", validation_percent=0.0, recursive=True)}
    last = "data"
    for i, settings in enumerate(captioning):
        values = {"captioner": "blip", "mode": "overwrite", "max_tokens": 8, "num_beams": 1, **settings}
        prompt[f"caption{i}"] = node(server, "AthanorCaptionImages", dataset=[last, 0], **values)
        last = f"caption{i}"
    if tagging is not None:
        prompt["tags"] = node(server, "AthanorAutoTag", dataset=[last, 0], **tagging)
        last = "tags"
    prompt["save"] = node(server, "AthanorSaveCaptions", dataset=[last, 0], backup=False, write=True)
    prompt["said"] = node(server, "PreviewAny", source=["caption0", 1])
    return prompt


def _run(server: ComfyUI, *captioning: dict, tagging: dict | None = None) -> tuple[list[str], str]:
    said = server.run(_graph(server, *captioning, tagging=tagging), LIMIT_SEC)["outputs"]["said"]["text"][0]
    folder = server.input_folder / FOLDER
    return [(folder / f"{name}.txt").read_text(encoding="utf-8") for name in NAMES], said


def _complaint(server: ComfyUI, settings: dict) -> str:
    prompt = _graph(server, settings)
    try:
        return failure(server.wait(server.queue(prompt), LIMIT_SEC)) or ""
    except ServerError as error:
        return str(error)


def _logs(server: ComfyUI) -> dict[Path, int]:
    """The worker's logs: they grow with each start."""
    return {path: path.stat().st_size for path in server.output_folder.rglob("captions/*/events.jsonl")}


def test_pictures_are_described_once_and_cleaned_anew(server: ComfyUI):
    captions, said = _run(server, {"leave_out": ""})
    assert said == "3 of 3 images were described by blip" and len(set(captions)) >= 2 and all(captions)
    worked = _logs(server)
    assert len(worked) == 1
    first, second, rest = captions[0].split(maxsplit=2)
    again, _ = _run(server, {"leave_out": f"{first} {second}\nnothing"})
    assert again[0] == rest[0].upper() + rest[1:] and _logs(server) == worked, "no worker is needed for that"
    prompt = _graph(server, {"leave_out": ""})
    prompt["bucket"] = node(server, "AthanorBucket", dataset=["data", 0], resolution=64, mirror=True)
    prompt["caption0"]["inputs"]["dataset"] = ["bucket", 0]
    prompt["save"]["inputs"] |= {"folder": "mirrored 描述", "pictures": "as trained"}
    server.run(prompt, LIMIT_SEC)
    assert {path.name for path in (server.input_folder / "mirrored 描述").glob("*.txt")} == {
        f"{name}{end}.txt" for name in NAMES for end in ("", "-mirrored")
    }
    kept, said = _run(server, {"mode": "fill-empty", "captioner": "Florence 小"})
    assert kept == again and said == "0 of 3 images were described by Florence 小", "pictures that have captions are left alone"


def test_both_layouts_of_florence_write_the_same(server: ComfyUI):
    native, _ = _run(server, {"captioner": "Florence 小", "detail": "very detailed"})
    original, said = _run(server, {"captioner": "Florence-2-tiny-PromptGen", "detail": "very detailed"})
    assert native == original and all(native) and said == "3 of 3 images were described by Florence-2-tiny-PromptGen"


def test_sentences_and_tags_stand_in_the_order_that_is_chosen(server: ComfyUI):
    sentences, _ = _run(server, {"leave_out": ""})
    tagging = {"tagger": "Athanor miniature (built in)", "general_threshold": 0.0, "max_tags": 2}
    tags, _ = _run(server, {"leave_out": ""}, tagging={**tagging, "mode": "overwrite"})
    behind, _ = _run(server, {"leave_out": ""}, tagging={**tagging, "mode": "append"})
    front, _ = _run(server, {"leave_out": ""}, tagging={**tagging, "mode": "prepend"})
    for sentence, tag, back, ahead in zip(sentences, tags, behind, front, strict=True):
        assert tag.count(",") == 1 and sentence not in tag
        assert back == f"{sentence}, {tag}" and ahead == f"{tag}, {sentence}"
    twice, _ = _run(server, {"leave_out": ""}, {"captioner": "Florence 小", "mode": "prepend"})
    assert [text.rsplit(", ", 1)[-1] for text in twice] == sentences and twice != sentences


def test_what_is_not_here_or_not_whole_is_one_sentence(server: ComfyUI):
    spec = server.get("/object_info/AthanorCaptionImages")["AthanorCaptionImages"]["input"]["required"]["captioner"]
    choices = spec[0] if isinstance(spec[0], list) else spec[1]["options"]
    assert choices[:4] == ["blip", "broken", "Florence 小", "Florence-2-tiny-PromptGen"] and "Florence-2-base (not downloaded)" in choices
    said = _complaint(server, {"captioner": "Florence-2-base (not downloaded)"})
    assert "florence-community/Florence-2-base on Hugging Face" in said and "`download`" in said and "config.json" in said
    assert "There is no captioner '../x'" in _complaint(server, {"captioner": "../x"})
    assert "does not know 'tags (PromptGen)'" in _complaint(server, {"captioner": "Florence 小", "detail": "tags (PromptGen)"})
    said = _complaint(server, {"captioner": "broken"})
    assert "cannot be loaded" in said and "Download it again" in said and str(server.models_folder / "captioners" / "broken") in said
