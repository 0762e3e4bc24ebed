"""Merge Epochs in a graph: the average of a training's epochs is compared, saved, and is what the sum of the files is."""

from __future__ import annotations

import pytest
import torch
from comfyui_server import ComfyUI, ServerError
from graphs import node, training
from safetensors.torch import load_file
from tiny import make_pictures

from athanor.trainer.runs.run import Run

pytestmark = pytest.mark.comfy
FOLDER, LIMIT_SEC = "6_merged", 300


def graph(server: ComfyUI, **options) -> dict:
    return {
        **training(server, FOLDER, "merged", epochs=2, save_precision="fp32"),
        "merge": node(server, "AthanorMergeEpochs", run=["train", 0], epochs="1, 2", precision="fp32", **options),
        "save": node(server, "AthanorSaveEpoch", run=["merge", 0], epochs="last", filename="both"),
        "xy": node(
            server, "AthanorXYPlotCompare", run=["merge", 0], base_model=["base", 0], prompts="subject 1", x_values="1", steps=2, width=64, height=64
        ),
    }


def changes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = {key.removesuffix(".lora_up.weight") for key in tensors if key.endswith(".lora_up.weight")}
    return {
        name: float(tensors[f"{name}.alpha"])
        / len(tensors[f"{name}.lora_down.weight"])
        * (tensors[f"{name}.lora_up.weight"].flatten(1) @ tensors[f"{name}.lora_down.weight"].flatten(1))
        for name in names
    }


def test_the_average_is_compared_and_saved(comfyui: ComfyUI):
    make_pictures(comfyui.input_folder / FOLDER)
    entry = comfyui.run(graph(comfyui), LIMIT_SEC)
    assert "rank 4, an exact sum" in entry["outputs"]["merge"]["text"][0]
    assert comfyui.files(entry, "xy")
    run = Run(comfyui.output_folder / "athanor" / "merged")
    first, second = (changes(load_file(epoch.path)) for epoch in run.epochs())
    saved = changes(load_file(comfyui.models_folder / "loras" / "both.safetensors"))
    assert saved.keys() == first.keys() and len(saved) > 10
    assert any(not torch.equal(first[name], second[name]) for name in first)
    for name, change in saved.items():
        assert torch.allclose(change, (first[name] + second[name]) / 2, atol=1e-6)
    with pytest.raises(ServerError, match="'nowhere' is part of no layer's name"):
        comfyui.run(graph(comfyui, block_weights="nowhere: 2"), LIMIT_SEC)
