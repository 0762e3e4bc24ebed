"""Merge Into Checkpoint beside the stock nodes Load LoRA and Save Checkpoint: the same bits, whatever family and precision."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from adapter_layouts import LAYOUTS
from comfyui_flow_side import NARROW
from comfyui_server import find_comfyui
from safetensors.torch import load_file, save_file
from sides import run_side
from tiny_families import CLIP_WIDTH, make_sdxl_file

from athanor.trainer.bases import describe_base
from athanor.trainer.families import family
from athanor.trainer.formats.header import read_header
from athanor.trainer.merging.additions import Addition
from athanor.trainer.merging.checkpoint import SaveFolders, merge_into_checkpoint
from athanor.trainer.types import BaseModel

pytestmark = [pytest.mark.comfy, pytest.mark.skipif(find_comfyui() is None, reason="no ComfyUI")]
MODEL, TEXT, RANK = 0.7, -0.4, 3
SMALL_T5 = NARROW["flux"]["t5xxl"]


def small_sdxl(folder: Path) -> tuple[dict, Path]:
    clip = {"hidden_size": CLIP_WIDTH, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 1}
    denoiser = {
        **LAYOUTS["sdxl"].comfyui["denoiser"],
        "num_head_channels": 64,
        "context_dim": 2 * CLIP_WIDTH,
        "adm_in_channels": CLIP_WIDTH + 6 * 256,
    }
    return {"family": "sdxl", "denoiser": denoiser, "clip_l": clip, "clip_g": clip}, make_sdxl_file(folder, "bfloat16", vocabulary=49408).path


def small_flow(name: str, folder: Path) -> tuple[dict, Path]:
    layout = {**NARROW[name], "t5xxl": SMALL_T5}
    (folder / "layout.json").write_text(json.dumps(layout), encoding="utf-8")
    run_side("comfyui_flow_side.py", "checkpoint", folder / "layout.json", folder / "base.safetensors")
    return layout, folder / "base.safetensors"


def random_lora(base: BaseModel, path: Path) -> int:
    """Of every layer that adapters are made for; returns of how many."""
    of, header, draw, tensors = family(base.family), read_header(Path(base.path)), torch.Generator().manual_seed(3), {}
    for part, places in of.weights_in(header).items():
        for module, (name, place) in places.items():
            rows, *others = header.shapes[name]
            if not others:
                continue
            key = of.export_key(part, module)
            tensors[f"{key}.lora_up.weight"] = torch.randn(rows * place.size // place.of, RANK, generator=draw) * 0.1
            tensors[f"{key}.lora_down.weight"] = torch.randn(RANK, math.prod(others), generator=draw) * 0.1
            tensors[f"{key}.alpha"] = torch.tensor(2.0)
    save_file(tensors, path)
    return len(tensors) // 3


@pytest.mark.parametrize(("name", "precision"), [("sdxl", "as it is"), ("flux", "as it is"), ("sd35 medium", "fp32")])
def test_the_bits_are_those_of_the_stock_nodes(name: str, precision: str, tmp_path: Path):
    """A base in bf16 is rounded once more, one in fp16 with a T5 in fp32 stays each as it is, and bf16 becomes fp32 unrounded."""
    layout, base_file = small_sdxl(tmp_path) if name == "sdxl" else small_flow(name, tmp_path)
    (tmp_path / "layout.json").write_text(json.dumps(layout), encoding="utf-8")
    base, lora = describe_base(base_file, (find_comfyui() / "comfy",)), tmp_path / "some lora.safetensors"
    num_layers = random_lora(base, lora)
    baked = merge_into_checkpoint(base, [Addition(lora, MODEL, TEXT)], SaveFolders(*[tmp_path / "merged"] * 3), "merged", precision)
    assert "left out" not in baked.report
    run_side("comfyui_merge_side.py", "save", tmp_path / "layout.json", base_file, lora, MODEL, TEXT, tmp_path / "stock.safetensors")
    ours, theirs, before = load_file(baked.files[0]), load_file(tmp_path / "stock.safetensors"), load_file(base_file)
    ours, before = ({key.replace("_norm.scale", "_norm.weight"): value for key, value in each.items()} for each in (ours, before))
    theirs = {key.replace("_norm.scale", "_norm.weight"): value for key, value in theirs.items()}
    shared = [key for key in ours if key in theirs]
    vae = sum(key.startswith(("first_stage_model.", "vae.")) for key in ours)
    assert len(shared) >= len(ours) - vae - 2, sorted(ours.keys() - theirs.keys())[:9]
    other = [key for key in shared if not torch.equal(ours[key].flatten(), theirs[key].to(ours[key].dtype).flatten())]
    assert other == []
    changed = sum(not torch.equal(ours[key].float(), before[key].float()) for key in shared)
    assert changed > num_layers // 4 > 10
