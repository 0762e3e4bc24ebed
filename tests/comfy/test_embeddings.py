"""Embeddings through the nodes of a real ComfyUI: several from a template file, one with a LoRA; drawn and saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from comfyui_server import ComfyUI, ServerError
from graphs import comparing, node, run_of, training
from PIL import Image
from safetensors.torch import load_file
from tiny import make_pictures

from athanor.trainer.settings import AdapterSettings

pytestmark = pytest.mark.comfy
FOLDER, LORA, WORD, LIMIT_SEC = "6_words", "pivotal", "my-dog", 600


@pytest.fixture(scope="module")
def server(start_comfyui: Callable[..., ComfyUI]) -> ComfyUI:
    started = start_comfyui()
    folder = make_pictures(started.input_folder / FOLDER)
    for i, path in enumerate(sorted(folder.glob("*.txt"))):
        path.write_text(f"{'my-cat' if i % 2 else 'my-dog'}, plain", encoding="utf-8")
    templates = started.models_folder / "textual_inversion_templates"
    templates.mkdir(parents=True, exist_ok=True)
    (templates / "我的.txt").write_text("[name] as drawn, [filewords]\n", encoding="utf-8")
    (started.models_folder / "embeddings").mkdir(exist_ok=True)
    torch.save({"string_to_param": {"*": torch.randn(2, 16)}, "name": "old", "step": 9}, started.models_folder / "embeddings" / "old.pt")
    prompt = training(started, FOLDER, LORA, epochs=2, other_embeddings="my-cat: vectors=2", embedding_rate=0.5)
    prompt["word"] = words(started, template_file="我的.txt", templates="own sentences", start_embedding="old.pt", initial_words="")
    (started.input_folder / "of a lora.toml").write_text('why = "A test."\n[adapter]\nrank = 3\ndropout = 0.1\n', encoding="utf-8")
    prompt["import"] = node(started, "AthanorImportSettings", file="of a lora.toml", over_widgets=True)
    prompt["word"]["inputs"]["settings"] = ["import", 0]
    prompt["save"] = node(started, "AthanorSaveEpoch", run=["train", 0], epochs="last", filename="both")
    started.run(prompt, LIMIT_SEC)
    return started


def words(server: ComfyUI, **more: Any) -> dict[str, Any]:
    chosen = {"name": WORD, "other_embeddings": "my-cat: vectors=3", "epochs": 1, "batch_size": 2, "precision": "fp32", **more}
    return node(server, "AthanorTrainEmbedding", base_model=["base", 0], dataset=["bucket", 0], **chosen)


def test_a_template_file_and_an_old_file_train_two_embeddings(server: ComfyUI):
    run = run_of(server, WORD)
    settings = run.train_job().embedding
    assert settings.sentences == "[name] as drawn, [filewords]" and settings.start_embedding.endswith("old.pt")
    (epoch,) = run.epochs()
    assert load_file(epoch.path)["emb_params"].shape == (2, 16) and load_file(dict(epoch.words)["my-cat"])["emb_params"].shape == (3, 16)
    assert {f"{WORD}-000001", f"{WORD}-my-cat-000001", f"{LORA}-my-cat-000002", "my-cat"} <= set(server.get("/embeddings"))


def test_what_a_file_says_of_an_adapter_is_told_and_a_varied_one_is_refused(server: ComfyUI):
    run = run_of(server, WORD)
    assert run.train_job().adapter == AdapterSettings()
    told = [event["message"] for event in run.events() if event["event"] == "warning"]
    assert "The file's adapter.rank = 3 and adapter.dropout = 0.1 do nothing for an embedding." in told
    prompt = training(server, FOLDER, "unused", epochs=1)
    del prompt["train"]
    prompt["vary"] = node(server, "AthanorVarySettings", setting="adapter.rank", values="16, 32")
    prompt["word"] = words(server, name="varied", settings=["vary", 0])
    with pytest.raises(ServerError, match=r"Vary Settings: adapter\.rank does nothing for an embedding, so that all runs would be the same"):
        server.run(prompt, LIMIT_SEC)


def test_both_files_of_a_pivotal_run_are_saved(server: ComfyUI):
    kept = load_file(server.models_folder / "embeddings" / "my-cat.safetensors")["emb_params"]
    assert torch.equal(kept, load_file(dict(run_of(server, LORA).epochs()[-1].words)["my-cat"])["emb_params"])
    assert (server.models_folder / "loras" / "both.safetensors").is_file()


def test_the_grid_of_a_pivotal_run_shows_both(server: ComfyUI):
    prompt = comparing(server, LORA, x_axis="prompt", x_values="a my-cat\na", y_axis="epoch", y_values="2")
    prompt["cells"] = node(server, "SaveImage", images=["xy", 1], filename_prefix="cells")
    files = server.files(server.run(prompt, LIMIT_SEC), "cells")
    # Without the epoch "a my-cat" is "a", as the base does not know the word.
    assert len({Image.open(file).tobytes() for file in files}) == 3


def test_a_name_that_another_embedding_has_is_told(server: ComfyUI):
    prompt = training(server, FOLDER, LORA)
    prompt["train"] = words(server, name="old")
    with pytest.raises(ServerError, match=r"There is an embedding old\.pt in .* already"):
        server.run(prompt, LIMIT_SEC)
