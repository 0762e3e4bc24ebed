"""Merge Into Checkpoint and Extract LoRA in a real ComfyUI: the file is, to the bit, what stock Load LoRA makes of the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from comfyui_server import ComfyUI, ServerError
from graphs import node
from safetensors.torch import load_file, save_file
from sides import run_side

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
LIMIT_SEC, MODEL, CLIP = 600, 0.7, -0.4
BASE, TRAINED = "base.safetensors", "trained 模型.safetensors"


@pytest.fixture(scope="module")
def server(start_comfyui: Callable[..., ComfyUI], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    base = tmp_path_factory.mktemp("models")
    checkpoints = base / "models" / "checkpoints"
    checkpoints.mkdir(parents=True)
    run_side("comfyui_sdxl_side.py", "small", checkpoints / BASE, 0)
    draw = torch.Generator().manual_seed(1)
    tensors = load_file(checkpoints / BASE)
    # Of low rank, as a training's, in some layers of each kind.
    for key, tensor in tensors.items():
        if tensor.dim() > 1 and any(part in key for part in (".attn1.to_q.", ".in_layers.2.", "layers.3.mlp.fc1.")):
            change = torch.randn(len(tensor), 2, generator=draw) @ torch.randn(2, tensor[0].numel(), generator=draw)
            tensors[key] = (tensor.float() + 0.01 * change.reshape(tensor.shape)).half()
    save_file(tensors, checkpoints / TRAINED)
    server = start_comfyui(base)
    yield server
    server.stop()
    for path in checkpoints.glob("*"):
        path.unlink()


def test_a_lora_is_extracted_and_merged_again_as_stock_nodes_have_it(server: ComfyUI):
    prompt = {
        "base": node(server, "AthanorLoadBaseModel", model=BASE),
        "trained": node(server, "AthanorLoadBaseModel", model=TRAINED),
        "extract": node(server, "AthanorExtractLora", base_model=["base", 0], trained_model=["trained", 0], rank=4, conv_rank=4, name="found 提取"),
        "save": node(server, "AthanorSaveEpoch", run=["extract", 0], epochs="last"),
        "told": node(server, "PreviewAny", source=["extract", 2]),
        "merge": node(
            server,
            "AthanorMergeIntoCheckpoint",
            base_model=["base", 0],
            run=["extract", 0],
            strength_model=MODEL,
            strength_clip=CLIP,
            filename="merged",
        ),
    }
    outputs = server.run(prompt, LIMIT_SEC)["outputs"]
    lines = outputs["told"]["text"][0].splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["model", "text encoder 1"]
    # Two columns of the change are the training's, the others what rounding to fp16 left.
    assert all(float(line.split(": ")[1].split(" %")[0]) > 99 for line in lines[:2])
    merged, lora = server.models_folder / "checkpoints" / "merged.safetensors", server.models_folder / "loras" / "found 提取.safetensors"
    assert "checkpoints/merged.safetensors: " in outputs["merge"]["text"][0] and "fit nothing" not in outputs["merge"]["text"][0]
    told = run_side("comfyui_merge_side.py", server.models_folder / "checkpoints" / BASE, merged, MODEL, CLIP, lora)
    for line in told.splitlines():
        equal, all_of_them, patched = map(int, line.split())
        assert equal == all_of_them > patched > 0, told
    again = server.run({**prompt, "merge": {**prompt["merge"], "inputs": {**prompt["merge"]["inputs"], "filename": "merged "}}}, LIMIT_SEC)
    assert again["outputs"]["merge"]["text"] == outputs["merge"]["text"]
    with pytest.raises(ServerError, match=r"There is nothing to merge"):
        server.run({"base": prompt["base"], "merge": node(server, "AthanorMergeIntoCheckpoint", base_model=["base", 0])}, LIMIT_SEC)
