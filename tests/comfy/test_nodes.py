"""All nodes in a real ComfyUI, on a tiny random model: from a folder with every kind of trouble to a compared LoRA and an embedding."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from comfyui_server import ComfyUI, ServerError, failure
from graphs import Prompt, node, run_of, training, user_files
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import NATIVE_PX

from athanor.trainer.data.batches import commonest_bucket

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from probe_tagger import write_labels, write_probe

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
FOLDER = "训练 pictures"
LORA, LORA_FOLDER = "toys/红 LoRA", "toys_红 LoRA"
EMBEDDING = "toyword"
LIMIT_SEC = 900


def make_folder(folder: Path) -> None:
    """Seven good pictures, one of them captioned, a broken one, and a folder without any."""
    for concept, colour in (("3_red toy", "red"), ("1_蓝色 toy", "blue")):
        for i in range(3):
            save_picture(folder / concept / f"图 {i}.png", colour, (40, 32) if i else (32, 64), depth=4 + i)
    save_picture(folder / "own caption.png", "red", (32, 32))
    (folder / "own caption.txt").write_text("a toy, a toy, plain", encoding="utf-8")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (folder / "空 folder").mkdir()


def save_picture(path: Path, colour: str, size: tuple[int, int], depth: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = Image.radial_gradient("L").resize(size).point(lambda value: value // depth)
    full = Image.new("L", size, 255)
    Image.merge("RGB", (full, shade, shade) if colour == "red" else (shade, shade, full)).save(path)


def make_tagger(folder: Path) -> None:
    """Says red_toy or blue_toy by the colour in the middle of the picture."""
    folder.mkdir(parents=True)
    write_labels(folder / "selected_tags.csv", [("general", 9), ("red_toy", 0), ("blue_toy", 0)])
    pixels = [(0, 0, "green"), (4, 4, "red"), (4, 4, "blue")]
    write_probe(folder / "model.onnx", pixels, side_px=8, batch="N", layout="NHWC", dtype="float32", scale=1.0, num_outputs=3)


def whole_graph(server: ComfyUI, strengths: str = "0.5, 1") -> Prompt:
    prompt = training(server, FOLDER, LORA, epochs=3, sample_prompts="subject, red toy\n# not this\n蓝色 toy")
    prompt["data"]["inputs"]["trigger"] = "mytoy"
    prompt["tags"] = node(server, "AthanorAutoTag", dataset=["data", 0], tagger="probe", general_threshold=0.5)
    prompt["edit"] = node(server, "AthanorEditTags", dataset=["tags", 0], rules="deduplicate\ntrigger: mytoy")
    prompt["bucket"]["inputs"]["dataset"] = ["edit", 0]
    prompt["captions"] = node(server, "AthanorSaveCaptions", dataset=["bucket", 0], extension=".caption", write=True)
    prompt["plot"] = node(server, "AthanorPlotLoss", run=["train", 0], log_scale=True)
    compared = {"prompts": "subject, red toy", "x_values": strengths, "steps": 2}
    prompt["xy"] = node(server, "AthanorXYPlotCompare", run=["train", 0], base_model=["base", 0], **compared)
    prompt["save"] = node(server, "AthanorSaveEpoch", run=["train", 0], epochs=["xy", 2], filename="../my toy")
    prompt["embed"] = node(
        server,
        "AthanorTrainEmbedding",
        base_model=["base", 0],
        dataset=["bucket", 0],
        name=EMBEDDING,
        num_vectors=2,
        epochs=2,
        batch_size=2,
        precision="fp32",
        sample_prompts=f"a photo of {EMBEDDING}",
        sample_steps=2,
    )
    prompt["save embedding"] = node(server, "AthanorSaveEpoch", run=["embed", 0], epochs="last", filename="")
    shown = {"data": ("data", 1), "tags": ("tags", 1), "edit": ("edit", 2), "bucket": ("bucket", 2), "epoch": ("xy", 2), "files": ("save", 2)}
    prompt |= {f"text of {name}": node(server, "PreviewAny", source=list(link)) for name, link in shown.items()}
    shown = {"sheet": ("edit", 1), "chart": ("bucket", 1), "samples": ("train", 3), "cells": ("xy", 1), "grid": ("xy", 0)}
    prompt |= {f"picture of {name}": node(server, "PreviewImage", images=list(link)) for name, link in shown.items()}
    prompt["stock save"] = node(server, "SaveLoRA", lora=["train", 1], prefix="loras/stock")
    prompt["stock plot"] = node(server, "LossGraphNode", loss=["train", 2])
    return prompt


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    make_folder(comfyui.input_folder / FOLDER)
    make_tagger(comfyui.models_folder / "wd_taggers" / "probe")
    return comfyui


@pytest.fixture(scope="module")
def ended(server: ComfyUI) -> dict[str, Any]:
    """The history of the graph's first run."""
    return server.run(whole_graph(server), LIMIT_SEC)


@pytest.fixture
def text(ended: dict[str, Any]) -> Callable[[str], str]:
    return lambda name: ended["outputs"][f"text of {name}"]["text"][0]


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def choices(server: ComfyUI, class_type: str, name: str) -> list[str]:
    spec = server.get(f"/object_info/{class_type}")[class_type]["input"]["required"][name]
    return spec[0] if isinstance(spec[0], list) else spec[1]["options"]


def test_new_folders_models_and_taggers_are_offered(server: ComfyUI, ended: dict[str, Any]):
    folders = choices(server, "AthanorLoadDataset", "folder")
    assert {FOLDER, f"{FOLDER}/3_red toy", f"{FOLDER}/1_蓝色 toy", f"{FOLDER}/空 folder"} <= set(folders)
    assert "tiny base" in choices(server, "AthanorLoadBaseModel", "model")
    assert "probe" in choices(server, "AthanorAutoTag", "tagger")


def test_the_dataset_report_names_what_was_left_out(server: ComfyUI, ended: dict[str, Any], text: Callable[[str], str]):
    head, *notes = text("data").splitlines()
    samples = run_of(server, LORA_FOLDER).train_job().dataset.samples
    train = [sample for sample in samples if sample.role == "train"]
    assert len(samples) == 7 and 1 <= len(train) < 7
    assert sum(sample.repeats for sample in samples) == 3 * 3 + 3 + 1
    expected = (
        f"{len(train)} images to train on ({sum(sample.repeats for sample in train)} with repeats), {7 - len(train)} held out, 1 with a caption"
    )
    assert head == expected
    assert sum("broken.png" in note for note in notes) == 1
    assert sum("空 folder" in note for note in notes) == 1
    assert ended["outputs"]["data"]["text"] == [text("data")]


def test_images_without_a_caption_are_tagged_edited_and_saved(server: ComfyUI, ended: dict[str, Any], text: Callable[[str], str]):
    assert text("tags").splitlines()[0] == "6 of 7 images were tagged by probe"
    folder = server.input_folder / FOLDER
    written = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.caption")}
    red = {f"3_red toy/图 {i}.caption": "mytoy, red toy" for i in range(3)}
    blue = {f"1_蓝色 toy/图 {i}.caption": "mytoy, blue toy" for i in range(3)}
    assert written == {**red, **blue, "own caption.caption": "mytoy, a toy, plain"}
    assert (folder / "own caption.txt").read_text(encoding="utf-8") == "a toy, a toy, plain"
    assert "7" in ended["outputs"]["captions"]["text"][0]
    assert "mytoy" in text("edit")


def test_the_buckets_are_those_of_the_base(server: ComfyUI, ended: dict[str, Any], text: Callable[[str], str]):
    placed = [sample.placement for sample in run_of(server, LORA_FOLDER).train_job().dataset.samples]
    assert all(each is not None and each.bucket_px[0] * each.bucket_px[1] <= NATIVE_PX**2 for each in placed)
    assert len({each.bucket_px for each in placed if each}) > 1
    assert text("bucket")
    for name in ("chart", "sheet"):
        (file,) = server.files(ended, f"picture of {name}")
        assert min(size_of(file)) > 100


def test_the_run_has_its_epochs_samples_and_loss_plot(server: ComfyUI, ended: dict[str, Any]):
    run = run_of(server, LORA_FOLDER)
    assert run.finished() and [epoch.number for epoch in run.epochs()] == [1, 2, 3]
    assert all(epoch.path.is_file() and epoch.validation_loss for epoch in run.epochs())
    shown = server.files(ended, "train")
    assert [path.name for path in shown] == [f"{LORA_FOLDER}_e000003_00.png", f"{LORA_FOLDER}_e000003_01.png", "loss.png"]
    assert all(path.is_file() and path.is_relative_to(run.folder) for path in shown)
    assert size_of(shown[0]) == commonest_bucket(run.train_job().dataset.with_role("train"))
    assert len(server.files(ended, "picture of samples")) == 2
    (plot,) = server.files(ended, "plot")
    assert plot == run.folder / "loss.png" and min(size_of(plot)) > 100


def test_epochs_can_be_picked_in_the_stock_loaders_at_once(server: ComfyUI, ended: dict[str, Any]):
    loras = choices(server, "LoraLoader", "lora_name")
    assert {epoch.path.name for epoch in run_of(server, LORA_FOLDER).epochs()} <= set(loras)
    assert {"_my toy.safetensors", "stock_00001_.safetensors"} <= set(loras)
    names = server.get("/embeddings")
    assert EMBEDDING in names and f"{EMBEDDING}-000002" in names


def test_the_best_epoch_is_promoted_with_all_it_tells_of_itself(server: ComfyUI, ended: dict[str, Any], text: Callable[[str], str]):
    run = run_of(server, LORA_FOLDER)
    best = min(run.epochs(), key=lambda epoch: epoch.validation_loss or 0)
    assert text("epoch") == str(best.number)
    assert text("files") == "_my toy.safetensors"
    file = server.models_folder / "loras" / "_my toy.safetensors"
    saved, kept = load_file(file), load_file(best.path)
    assert saved.keys() == kept.keys() and all(saved[key].equal(kept[key]) for key in kept)
    assert size_of(file.with_suffix(".png")) == size_of(run.samples()[0].path)
    metadata = server.get(f"/view_metadata/loras?filename={quote(file.name)}")
    assert metadata["ss_output_name"] == LORA and metadata["ss_epoch"] == str(best.number) and metadata["ss_network_dim"] == "2"
    assert metadata["ss_base_model_version"] == "sd_v1" and metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert metadata["modelspec.trigger_phrase"] == "mytoy" and float(metadata["ss_training_finished_at"]) > 1e9
    assert set(json.loads(metadata["ss_tag_frequency"])) <= {"3_red toy", "1_蓝色 toy", FOLDER}
    assert len(metadata["sshs_model_hash"]) == 64
    assert metadata["athanor_validation_loss"] == f"{best.validation_loss:.6f}"


def test_the_stock_nodes_take_the_lora_and_the_losses(server: ComfyUI, ended: dict[str, Any]):
    saved, last = load_file(server.output_folder / "loras" / "stock_00001_.safetensors"), load_file(run_of(server, LORA_FOLDER).epochs()[-1].path)
    assert saved.keys() == last.keys() and all(saved[key].equal(last[key]) for key in last)
    (plot,) = server.files(ended, "stock plot")
    assert plot.is_file()


def sheet_folder(server: ComfyUI) -> Path:
    (folder,) = (run_of(server, LORA_FOLDER).folder / "compare").iterdir()
    return folder


def cells(server: ComfyUI) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (sheet_folder(server) / "cells").glob("*.png")}


def test_the_comparison_has_a_cell_for_each_epoch_and_strength(server: ComfyUI, ended: dict[str, Any]):
    heads = sorted(name.rsplit("_", 1)[0] for name in cells(server))
    assert heads == ["e000000_s0", *(f"e{epoch:06d}_s{strength}" for epoch in (1, 2, 3) for strength in ("0.5", "1"))]
    (grid,) = server.files(ended, "xy")
    assert grid == sheet_folder(server) / "grid-01.png"
    assert len(server.files(ended, "picture of grid")) == 1 and len(server.files(ended, "picture of cells")) == 7
    cell = next((sheet_folder(server) / "cells").glob("e000002_s1_*.png"))
    assert size_of(grid)[0] > 2 * size_of(cell)[0] and size_of(grid)[1] > 4 * size_of(cell)[1]
    with Image.open(cell) as image:
        assert image.info["parameters"].startswith("subject, red toy\nSteps: 2, ")
    pictures = {path.name: path.read_bytes() for path in (sheet_folder(server) / "cells").glob("e000003_*.png")}
    assert len(set(pictures.values())) == 2, "another strength, another picture"


def test_the_embedding_is_saved_for_the_stock_text_node(server: ComfyUI, ended: dict[str, Any]):
    run = run_of(server, EMBEDDING)
    assert run.finished() and len(run.epochs()) == 2
    file = server.models_folder / "embeddings" / f"{EMBEDDING}.safetensors"
    with safe_open(file, framework="pt") as opened:
        assert {key: tuple(opened.get_tensor(key).shape) for key in opened.keys()} == {"emb_params": (2, 16)}  # noqa: SIM118
    assert file.with_suffix(".png").is_file()
    first, last = (load_file(epoch.path)["emb_params"] for epoch in run.epochs())
    assert not first.equal(last)


def test_the_same_graph_again_trains_nothing_and_draws_nothing(server: ComfyUI, ended: dict[str, Any]):
    forget(server)
    runs = [run_of(server, name) for name in (LORA_FOLDER, EMBEDDING)]
    before, drawn = [(run.folder / "events.jsonl").read_bytes() for run in runs], cells(server)
    sheet_events = (sheet_folder(server) / "events.jsonl").read_bytes()
    loras = {path: path.read_bytes() for path in (server.models_folder / "loras").iterdir()}
    again = server.run(whole_graph(server), LIMIT_SEC)
    assert not {"data", "train", "embed", "xy", "save"} & cached_nodes(again), "they were asked"
    assert [(run.folder / "events.jsonl").read_bytes() for run in runs] == before
    assert cells(server) == drawn and (sheet_folder(server) / "events.jsonl").read_bytes() == sheet_events
    assert {path: path.read_bytes() for path in (server.models_folder / "loras").iterdir()} == loras, "no second copy"
    assert server.files(again, "xy") == server.files(ended, "xy")
    assert [path.name for path in server.files(again, "train")] == [path.name for path in server.files(ended, "train")]


def cached_nodes(entry: dict[str, Any]) -> set[str]:
    """The nodes whose outputs the host took from its own cache."""
    return {name for kind, data in entry["status"]["messages"] if kind == "execution_cached" for name in data["nodes"]}


def forget(server: ComfyUI) -> None:
    """Empties the host's cache of node outputs, as a restart does, so that every node is executed anew."""
    server.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1.0)  # The queue's thread does it, and would take a prompt first.


def test_a_further_strength_draws_only_its_own_cells(server: ComfyUI, ended: dict[str, Any]):
    drawn, events = cells(server), (run_of(server, LORA_FOLDER).folder / "events.jsonl").read_bytes()
    entry = server.run(whole_graph(server, strengths="0.5, 1, -0.5"), LIMIT_SEC)
    now = cells(server)
    assert {name: now[name] for name in drawn} == drawn
    assert sorted(name.rsplit("_", 1)[0] for name in now.keys() - drawn.keys()) == [f"e{epoch:06d}_s-0.5" for epoch in (1, 2, 3)]
    assert len(server.files(entry, "picture of cells")) == 10
    assert (run_of(server, LORA_FOLDER).folder / "events.jsonl").read_bytes() == events


def complaint(server: ComfyUI, prompt: Prompt) -> str:
    """Why a prompt was refused or failed; it must have written nothing."""
    before = user_files(server)
    try:
        entry = server.wait(server.queue(prompt), LIMIT_SEC)
    except ServerError as error:
        said = str(error)
    else:
        said = failure(entry) or ""
        assert said, "it should have failed"
    assert user_files(server) == before
    return said


@pytest.mark.parametrize("folder", ["not there", "../../etc", "../" * 9 + "etc", "/etc", "", FOLDER + "/../..", FOLDER + "/own caption.png"])
def test_a_folder_that_is_none_of_the_datasets_is_refused(server: ComfyUI, folder: str):
    prompt = training(server, folder, "refused")
    said = complaint(server, prompt)
    assert f"There is no dataset folder {folder!r} below {server.input_folder}" in said and "extra_model_paths.yaml" in said


def test_a_folder_without_an_image_is_told(server: ComfyUI):
    said = complaint(server, training(server, f"{FOLDER}/空 folder", "refused"))
    assert said.startswith("AthanorLoadDataset (node data) failed: The folder ") and said.endswith("It is empty.")


def test_all_problems_of_a_training_are_told_at_once(server: ComfyUI):
    """A linked value has passed no widget, so its range is checked by the node."""
    prompt = training(server, FOLDER, "..", rate=0.0, text_encoder_rate=0.0, epochs=["zero", 0])
    prompt["zero"] = node(server, "PrimitiveInt", value=0)
    said = complaint(server, prompt)
    assert said.startswith("AthanorTrainLora (node train) failed: ")
    assert "All learning rates are 0" in said and "epochs is 0; it must be from 1" in said and "Run name: '..' cannot be used" in said
    assert said.count("\n") == 2


@pytest.mark.parametrize("name", ["a/b", "two words", "../up", ""])
def test_an_embedding_needs_a_name_of_one_word(server: ComfyUI, name: str):
    prompt = training(server, FOLDER, "refused")
    del prompt["train"]
    prompt["embed"] = node(server, "AthanorTrainEmbedding", base_model=["base", 0], dataset=["bucket", 0], name=name)
    assert f"The embedding's name is {name!r}" in complaint(server, prompt)


def test_a_rule_that_cannot_be_read_is_told_with_its_line(server: ComfyUI):
    prompt = training(server, FOLDER, "refused")
    prompt["edit"] = node(server, "AthanorEditTags", dataset=["data", 0], rules="deduplicate\nfrobnicate: a")
    prompt["bucket"]["inputs"]["dataset"] = ["edit", 0]
    said = complaint(server, prompt)
    assert "AthanorEditTags (node edit)" in said and "frobnicate" in said and "2" in said


def test_a_dataset_without_buckets_is_told(server: ComfyUI):
    prompt = training(server, FOLDER, "refused")
    prompt["train"]["inputs"]["dataset"] = ["data", 0]
    assert "put a Bucket node between" in complaint(server, prompt)


def test_an_epoch_that_was_not_saved_is_told(server: ComfyUI, ended: dict[str, Any]):
    forget(server)
    prompt = whole_graph(server)
    kept = {name: prompt[name] for name in ("base", "data", "tags", "edit", "bucket", "train")}
    kept["save"] = node(server, "AthanorSaveEpoch", run=["train", 0], epochs="2, 9", filename="never")
    before = set(user_files(server))
    entry = server.wait(server.queue(kept), LIMIT_SEC)
    assert f"Epochs: 9 was not saved by {LORA_FOLDER}; saved are 1, 2, 3" in (failure(entry) or "")
    assert set(user_files(server)) == before
