"""Trained models out of their files, loaded by ComfyUI's own loaders: the same weights, and the same answers as ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from comfyui_checkpoint_side import PROMPT
from comfyui_flow_side import FLUX
from comfyui_server import find_comfyui
from safetensors.torch import load_file, save_file
from sides import run_side

from athanor.trainer.bases import describe_base
from athanor.trainer.checkpoint_file import save_checkpoint
from athanor.trainer.families import family
from athanor.trainer.families.base import Framing
from athanor.trainer.types import BaseModel

pytestmark = [pytest.mark.comfy, pytest.mark.skipif(find_comfyui() is None, reason="no ComfyUI")]
CLOSE = 1e-5


def far(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).norm() / second.norm())


def trained_file(base: BaseModel, path: Path, parts: tuple[str, ...], precision: str) -> None:
    """Every weight of `parts` moved a little, as by a training."""
    torch.manual_seed(5)
    of = family(base.family)
    modules = {"denoiser": of.load_denoiser(base, torch.float32), **(of.load_text(base, torch.float32).parts() if len(parts) > 1 else {})}
    trained = {part: dict(modules[part].named_parameters()) for part in parts}
    with torch.no_grad():
        for tensors in trained.values():
            for tensor in tensors.values():
                tensor.add_(torch.randn_like(tensor) * 0.01)
    save_checkpoint(path, of, base, trained, {part: list(modules[part].state_dict()) for part in parts}, {"modelspec.title": "exact"}, precision)


def whole_model(tmp_path: Path, task: tuple[str, ...], parts: tuple[str, ...], context: int) -> dict[str, object]:
    """What the file of a trained model is, as ComfyUI sees it, after its answers were found to be ours."""
    base_file, path, inputs, out = (tmp_path / name for name in ("base.safetensors", "trained 模型.safetensors", "in.safetensors", "out.safetensors"))
    run_side("comfyui_sdxl_side.py", task[0], base_file, *task[1:])
    tokenizers = (find_comfyui() / "comfy",)
    trained_file(describe_base(base_file, tokenizers), path, parts, "fp16")
    base = describe_base(path, tokenizers)
    of, generator = family(base.family), torch.Generator().manual_seed(1)
    given = {
        "latents": torch.randn(2, 4, 16, 16, generator=generator),
        "times": torch.tensor([100, 900]),
        "context": torch.randn(2, 77, context, generator=generator),
    }
    save_file(given, inputs)
    said = json.loads(run_side("comfyui_checkpoint_side.py", "whole", path, inputs, out))
    theirs = load_file(out)
    with torch.no_grad():
        text = of.frame(of.encode_text(of.load_text(base, torch.float32), [PROMPT], 1), [Framing.whole((512, 512))])
        assert far(text["states"], theirs["states"]) < CLOSE
        noise = of.load_denoiser(base, torch.float32)(given["latents"], given["times"], given["context"]).sample
        assert far(noise, theirs["noise"]) < CLOSE
    before, after = load_file(base_file), load_file(path)
    assert before.keys() == after.keys()
    same = {key for key in before if torch.equal(before[key], after[key])}
    assert {key for key in before if key.startswith("first_stage_model.")} <= same
    return said


def test_load_checkpoint_takes_a_trained_sd15(tmp_path):
    said = whole_model(tmp_path, ("small", "0"), ("denoiser", "text_encoder"), 768)
    assert said["missing"] == said["different"] == [] and said["compared"] > 400


def test_load_checkpoint_takes_a_trained_sd2(tmp_path, thorough):
    said = whole_model(tmp_path, ("two",), ("denoiser", "text_encoder"), 1024)
    assert said["missing"] == said["different"] == [] and said["compared"] > 500


def test_load_diffusion_model_takes_a_trained_flux(tmp_path):
    layout = {
        "family": "flux", "dtype": "float16", "t5_tokens": 512,
        "denoiser": {**FLUX, "context_in_dim": 64, "hidden_size": 256, "num_heads": 2, "depth": 2, "depth_single_blocks": 2},
        "clip_l": {"num_hidden_layers": 2}, "t5xxl": {"d_model": 64, "d_ff": 96, "num_heads": 4, "d_kv": 16, "num_layers": 2},
    }  # fmt: skip
    (tmp_path / "layout.json").write_text(json.dumps(layout), encoding="utf-8")
    run_side("comfyui_flow_side.py", "checkpoint", tmp_path / "layout.json", tmp_path / "base.safetensors")
    base, path = describe_base(tmp_path / "base.safetensors", (find_comfyui() / "comfy",)), tmp_path / "trained.safetensors"
    trained_file(base, path, ("denoiser",), "fp32")
    generator = torch.Generator().manual_seed(3)
    given = {
        "latents": torch.randn(2, 16, 12, 8, generator=generator),
        "times": torch.tensor([0.37, 0.91]),
        "states": torch.randn(2, 24, 64, generator=generator),
        "pooled": torch.randn(2, 768, generator=generator),
    }
    save_file(given, tmp_path / "in.safetensors")
    said = json.loads(run_side("comfyui_checkpoint_side.py", "denoiser", path, tmp_path / "in.safetensors", tmp_path / "out.safetensors"))
    assert said["missing"] == said["different"] == [] and said["compared"] > 60
    with torch.no_grad():
        ours = family("flux").predict(
            family("flux").load_denoiser(describe_base(path), torch.float32),
            given["latents"],
            given["times"],
            {k: given[k] for k in ("states", "pooled")},
        )
    assert far(ours, load_file(tmp_path / "out.safetensors")["velocity"]) < CLOSE
