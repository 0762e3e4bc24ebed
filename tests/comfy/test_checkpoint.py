"""Train Checkpoint in a real ComfyUI, with the tiny base: trained, compared, saved, and told where something does not apply."""

from __future__ import annotations

from typing import Any

import pytest
from comfyui_server import ComfyUI, failure
from graphs import node, run_of, training
from PIL import Image
from safetensors.torch import load_file
from tiny import make_pictures

pytestmark = pytest.mark.comfy
FOLDER, NAME = "whole model pictures", "whole 模型"
LIMIT_SEC = 600


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    make_pictures(comfyui.input_folder / FOLDER)
    return comfyui


def graph(server: ComfyUI) -> dict[str, Any]:
    prompt = training(server, FOLDER, "unused")
    whole = {"name": NAME, "rate": 1e-3, "epochs": 2, "save_every_epochs": 1, "batch_size": 4, "precision": "fp32"}
    prompt["train"] = node(server, "AthanorTrainCheckpoint", base_model=["base", 0], dataset=["bucket", 0], **whole)
    return prompt


def test_a_checkpoint_is_trained_compared_and_saved(server: ComfyUI):
    prompt = graph(server)
    look = {"prompts": "subject", "x_axis": "seed", "x_values": "1", "y_axis": "epoch", "y_values": "all", "steps": 2}
    prompt["xy"] = node(server, "AthanorXYPlotCompare", run=["train", 0], base_model=["base", 0], **look)
    prompt["save"] = node(server, "AthanorSaveEpoch", run=["train", 0], epochs="last", filename="my 模型")
    entry = server.run(prompt, LIMIT_SEC)
    assert entry["outputs"]["save"]["text"] == ["my 模型.safetensors"]
    saved, run = server.models_folder / "checkpoints" / "my 模型.safetensors", run_of(server, NAME)
    epoch = load_file(run.epochs()[-1].path)
    assert {name: value.shape for name, value in load_file(saved).items()} == {name: value.shape for name, value in epoch.items()}
    assert any(name.startswith("first_stage_model.") for name in epoch)
    listed = server.get("/object_info/CheckpointLoaderSimple")["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"]
    names = listed[0] if isinstance(listed[0], list) else listed[1]["options"]
    assert {saved.name, run.epochs()[0].path.name} <= set(names)
    assert len(server.files(entry, "xy")) == 1
    # The same file as one of another trainer's.
    look |= {"y_values": "all", "width": 32, "height": 32}
    foreign = {
        "base": prompt["base"],
        "run": node(server, "AthanorLoadRun", run="(files of another trainer)", files=saved.name),
        "xy": node(server, "AthanorXYPlotCompare", run=["run", 0], base_model=["base", 0], **look),
        "cells": node(server, "SaveImage", images=["xy", 1], filename_prefix="foreign"),
    }
    bare, changed = (Image.open(file).tobytes() for file in server.files(server.run(foreign, LIMIT_SEC), "cells"))
    assert bare != changed


def test_where_a_checkpoint_does_not_apply_is_told(server: ComfyUI):
    prompt = graph(server)
    prompt["xy"] = node(server, "AthanorXYPlotCompare", run=["train", 0], base_model=["base", 0], prompts="subject", steps=2)
    said = failure(server.wait(server.queue(prompt), LIMIT_SEC)) or ""
    assert "Strengths: these epochs are whole models" in said
    prompt = graph(server)
    prompt["merge"] = node(server, "AthanorMergeEpochs", run=["train", 0])
    prompt["shown"] = node(server, "PreviewAny", source=["merge", 2])
    said = failure(server.wait(server.queue(prompt), LIMIT_SEC)) or ""
    assert "Merge Epochs merges LoRAs and embeddings" in said


def test_what_cannot_go_together_is_told_by_the_node(server: ComfyUI):
    prompt = graph(server)
    prompt["train"]["inputs"] |= {"fused_backward": True, "name": "never"}
    said = failure(server.wait(server.queue(prompt), LIMIT_SEC)) or ""
    assert "goes with the optimizer adafactor" in said and "set max grad norm to 0" in said
