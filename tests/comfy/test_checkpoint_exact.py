"""Trained models out of their files, loaded by ComfyUI's own loaders: the same weights, and the same answers as ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adapter_layouts import LAYOUTS
from comfyui_checkpoint_side import PROMPT
from comfyui_flow_side import NARROW
from comfyui_server import find_comfyui
from safetensors.torch import load_file, save_file
from sides import run_side
from tiny_families import CLIP_WIDTH, make_sdxl_file

from athanor.trainer.bases import describe_base
from athanor.trainer.families import family
from athanor.trainer.families.base import Framing
from athanor.trainer.trainees.checkpoint_file import save_checkpoint
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


@pytest.mark.parametrize(("name", "least"), [("flux", 60), ("sd35 medium", 80), ("sd35 large", 80)])
def test_load_diffusion_model_takes_a_trained_transformer(name, least, tmp_path):
    layout, layout_file, base_file, path = (
        {**NARROW[name], "t5xxl": NARROW["flux"]["t5xxl"]},
        *(tmp_path / each for each in ("layout.json", "base.safetensors", "trained.safetensors")),
    )
    layout_file.write_text(json.dumps(layout), encoding="utf-8")
    run_side("comfyui_flow_side.py", "checkpoint", layout_file, base_file)
    base, of = describe_base(base_file, (find_comfyui() / "comfy",)), family(layout["family"])
    trained_file(base, path, ("denoiser",), "fp32")
    generator = torch.Generator().manual_seed(3)
    given = {
        "latents": torch.randn(2, 16, 12, 8, generator=generator),
        "times": torch.tensor([0.37, 0.91]),
        "states": torch.randn(2, 24, layout["denoiser"].get("context_in_dim", 4096), generator=generator),
        "pooled": torch.randn(2, 768 if base.family == "flux" else 2048, generator=generator),
    }
    save_file(given, tmp_path / "in.safetensors")
    said = json.loads(run_side("comfyui_checkpoint_side.py", "denoiser", path, tmp_path / "in.safetensors", tmp_path / "out.safetensors"))
    assert said["missing"] == said["different"] == [] and said["compared"] > least
    with torch.no_grad():
        told = {key: given[key] for key in ("states", "pooled")}
        ours, before = (
            of.predict(of.load_denoiser(describe_base(each), torch.float32), given["latents"], given["times"], told) for each in (path, base_file)
        )
    assert far(ours, load_file(tmp_path / "out.safetensors")["velocity"]) < CLOSE and far(ours, before) > 1e-2


def test_load_checkpoint_takes_a_trained_sdxl(tmp_path):
    """A small one, of which ComfyUI is told the sizes; how it reads the file is its own."""
    clip = {"hidden_size": CLIP_WIDTH, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 1}
    denoiser = {
        **LAYOUTS["sdxl"].comfyui["denoiser"],
        "num_head_channels": 64,
        "context_dim": 2 * CLIP_WIDTH,
        "adm_in_channels": CLIP_WIDTH + 6 * 256,
    }
    layout, path = {"denoiser": denoiser, "clip_l": clip, "clip_g": clip}, tmp_path / "trained.safetensors"
    base_file, tokenizers = make_sdxl_file(tmp_path, vocabulary=49408).path, (find_comfyui() / "comfy",)
    (tmp_path / "layout.json").write_text(json.dumps(layout), encoding="utf-8")
    trained_file(describe_base(base_file, tokenizers), path, ("denoiser", "text_encoder", "text_encoder_2"), "fp32")
    base, of, generator = describe_base(path, tokenizers), family("sdxl"), torch.Generator().manual_seed(1)
    states, pooled = torch.randn(2, 77, 2 * CLIP_WIDTH, generator=generator), torch.randn(2, CLIP_WIDTH, generator=generator)
    times, latents = torch.tensor([100, 900]), torch.randn(2, 4, 16, 16, generator=generator)
    with torch.no_grad():
        text = of.encode_text(of.load_text(base, torch.float32), [PROMPT], 1)
        unet = of.load_denoiser(base, torch.float32)
        told = of.frame({"states": states, "pooled": pooled}, [Framing.whole((512, 512))] * 2)
        noise = of.predict(unet, latents, (times + 0.5) / 1000, told)
        sizes = unet.add_time_proj(told["sizes"].flatten()).reshape(2, -1)
    save_file({"latents": latents, "times": times, "context": states, "told": torch.cat([pooled, sizes], dim=1)}, tmp_path / "in.safetensors")
    said = json.loads(
        run_side("comfyui_checkpoint_side.py", "whole", path, tmp_path / "in.safetensors", tmp_path / "out.safetensors", tmp_path / "layout.json")
    )
    assert said["different"] == [] and said["compared"] > 300
    # Its autoencoder is of another size than the one that ComfyUI knows, and is left out there.
    assert all(key.startswith("first_stage_model.") for key in said["missing"])
    theirs, before, after = load_file(tmp_path / "out.safetensors"), load_file(base_file), load_file(path)
    assert far(text["states"], theirs["states"]) < CLOSE and far(text["pooled"], theirs["pooled"]) < CLOSE and far(noise, theirs["noise"]) < CLOSE
    assert {key for key in before if key.startswith("first_stage_model.")} <= {key for key in before if torch.equal(before[key], after[key])}


def test_load_checkpoint_takes_a_trained_sdxl_of_true_widths(tmp_path, thorough):
    """Vega's depths, 3 GB, found out by ComfyUI itself."""
    base_file, path = tmp_path / "base.safetensors", tmp_path / "trained.safetensors"
    run_side("comfyui_sdxl_side.py", "checkpoint", base_file, "vega")
    trained_file(describe_base(base_file, (find_comfyui() / "comfy",)), path, ("denoiser",), "fp16")
    generator = torch.Generator().manual_seed(1)
    given = {
        "latents": torch.randn(1, 4, 16, 16, generator=generator),
        "times": torch.tensor([500]),
        "context": torch.randn(1, 77, 2048, generator=generator),
    }
    save_file({**given, "told": torch.randn(1, 2816, generator=generator)}, tmp_path / "in.safetensors")
    said = json.loads(run_side("comfyui_checkpoint_side.py", "whole", path, tmp_path / "in.safetensors", tmp_path / "out.safetensors"))
    assert said["missing"] == said["different"] == [] and said["compared"] > 1000
