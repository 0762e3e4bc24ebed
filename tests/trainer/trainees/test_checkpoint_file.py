"""Trained models as files: what was trained is in them, everything else is the base's to the bit."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_families import MAKERS as UNET_MAKERS
from tiny_families import make_sd15_file, make_sdxl_file
from tiny_flow import FLOW_MAKERS

from athanor.trainer.bases import describe_base
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import family
from athanor.trainer.runs.files_beside import files_beside
from athanor.trainer.trainees.checkpoint_file import planned_bytes, save_checkpoint, take_checkpoint
from athanor.trainer.types import BaseModel

MAKERS = {key: maker for key, maker in {**UNET_MAKERS, **FLOW_MAKERS}.items() if key[0] != "template"}
EACH = [pytest.param(key, id="-".join(key)) for key in MAKERS]


@pytest.fixture(scope="module")
def base_of(tmp_path_factory):
    made: dict[tuple[str, str], BaseModel] = {}

    def base(key: tuple[str, str]) -> BaseModel:
        if key not in made:
            tiny = MAKERS[key](tmp_path_factory.mktemp("base") / "model 模型")
            folder = tiny.path if tiny.path.is_dir() else tiny.path.parent
            made[key] = describe_base(tiny.path, (folder,), tiny.text_encoders, tiny.vae)
        return made[key]

    return base


def modules_of(base: BaseModel) -> dict[str, torch.nn.Module]:
    of = family(base.family)
    return {"denoiser": of.load_denoiser(base, torch.float32), **of.load_text(base, torch.float32).parts()}


def moved(modules: dict[str, torch.nn.Module], parts: set[str]) -> dict[str, dict[str, torch.Tensor]]:
    """Every weight of `parts` with some noise on it, as a training leaves it."""
    torch.manual_seed(1)
    trained = {part: dict(module.named_parameters()) for part, module in modules.items() if part in parts}
    with torch.no_grad():
        for tensors in trained.values():
            for tensor in tensors.values():
                tensor.add_(torch.randn_like(tensor) * 0.01)
    return trained


def saved(path: Path, base: BaseModel, parts: set[str], precision: str = "fp32") -> dict[str, torch.nn.Module]:
    modules = modules_of(base)
    names = {part: list(module.state_dict()) for part, module in modules.items()}
    digest = save_checkpoint(path, family(base.family), base, moved(modules, parts), names, {"modelspec.title": "狐"}, precision)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    return modules


def same_state(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("key", EACH)
def test_everything_trained_comes_back_from_the_file(key, base_of, tmp_path):
    base, path = base_of(key), tmp_path / "my 模型-000001.safetensors"
    modules, of = saved(path, base, set(modules_of(base))), family(base.family)
    fresh = modules_of(base)
    take_checkpoint(path, of, base, {part: dict(module.named_parameters()) for part, module in fresh.items()})
    assert all(same_state(fresh[part], modules[part]) for part in modules)
    again = describe_base(path, (Path(base.path), Path(base.path).parent))
    assert again.family == base.family
    assert same_state(of.load_denoiser(again, torch.float32), modules["denoiser"])
    assert bool(files_beside(path)) is not of.saves_whole
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"modelspec.title": "狐"}
    if of.saves_whole:
        assert all(same_state(m, modules[part]) for part, m in of.load_text(with_tokenizer(again, base), torch.float32).parts().items())
        assert same_state(of.load_vae(again), of.load_vae(base))


def with_tokenizer(again: BaseModel, base: BaseModel) -> BaseModel:
    path = Path(base.path)
    return dataclasses.replace(again, tokenizer_folders=(str((path if path.is_dir() else path.parent) / "tokenizer"),))


@pytest.mark.parametrize("make", [make_sd15_file, make_sdxl_file])
@pytest.mark.parametrize("parts", [{"denoiser"}, {"text_encoder"}])
def test_what_was_not_trained_is_copied_bit_for_bit(make, parts, tmp_path):
    source = make(tmp_path / "base").path
    tensors = load_file(source)
    half = {name: tensor.half() for name, tensor in tensors.items()}
    extra = {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]} if make is make_sd15_file else {}
    save_file({**half, **extra, "model_ema.decay": torch.ones(1), "alphas_cumprod": torch.rand(10)}, source)
    base = describe_base(source, (source.parent,))
    saved(tmp_path / "out.safetensors", base, parts, "bf16")
    before, after = load_file(source), load_file(tmp_path / "out.safetensors")
    assert before.keys() - after.keys() == {"model_ema.decay"} and after.keys() <= before.keys()
    prefix = {"denoiser": ("model.diffusion_model.",), "text_encoder": ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.")}
    (part,) = parts
    of_part = [name for name in after if name.startswith(prefix[part]) and after[name].is_floating_point()]
    others = [name for name in after if name not in of_part]
    assert of_part and others
    assert all(after[name].dtype == torch.bfloat16 for name in of_part)
    assert all(torch.equal(after[name], before[name]) and after[name].dtype == before[name].dtype for name in others)


@pytest.mark.parametrize("key", [("sd15", "file"), ("sdxl", "file"), ("sd2", "file")])
def test_an_untouched_model_is_written_as_its_base(key, base_of, tmp_path):
    """Names, shapes, order of fused rows, sides of the projection: all as the authors have it."""
    base, path = base_of(key), tmp_path / "same.safetensors"
    modules = modules_of(base)
    trained = {part: dict(module.named_parameters()) for part, module in modules.items()}
    save_checkpoint(path, family(base.family), base, trained, {part: list(m.state_dict()) for part, m in modules.items()}, {}, "fp32")
    before, after = load_file(base.path), load_file(path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name].float(), after[name].float()) for name in before)


def test_one_trained_matrix_of_a_fused_layer_leaves_the_others_alone(base_of, tmp_path):
    base, path = base_of(("flux", "file")), tmp_path / "one.safetensors"
    modules = modules_of(base)
    name = "transformer_blocks.0.attn.to_k.weight"
    weight = dict(modules["denoiser"].named_parameters())[name]
    with torch.no_grad():
        weight.add_(1.0)
    save_checkpoint(path, family("flux"), base, {"denoiser": {name: weight}}, {"denoiser": list(modules["denoiser"].state_dict())}, {}, "fp32")
    loaded = family("flux").load_denoiser(describe_base(path), torch.float32).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in modules["denoiser"].state_dict().items())
    assert not files_beside(path)


def test_a_model_that_predicts_v_says_so(base_of, tmp_path):
    base = describe_base(Path(base_of(("sdxl", "file")).path), prediction="v")
    saved(tmp_path / "v.safetensors", base, {"denoiser"})
    assert describe_base(tmp_path / "v.safetensors").prediction == "v"
    assert describe_base(Path(base.path)).prediction == "epsilon"


def test_a_file_of_another_model_is_refused(base_of, tmp_path):
    saved(tmp_path / "a.safetensors", base_of(("sd15", "file")), {"denoiser"})
    base = base_of(("sdxl", "file"))
    with pytest.raises(AthanorError, match="no checkpoint of this training"):
        take_checkpoint(tmp_path / "a.safetensors", family("sdxl"), base, {"denoiser": dict(modules_of(base)["denoiser"].named_parameters())})


@pytest.mark.parametrize("key", [("sd15", "file"), ("sdxl", "split"), ("flux", "schnell fp8 split"), ("sd35", "folder")])
def test_its_size_is_known_before(key, base_of, tmp_path):
    base, path = base_of(key), tmp_path / "m-000001.safetensors"
    parts = set(modules_of(base))
    saved(path, base, parts, "fp16")
    real = path.stat().st_size + sum(file.stat().st_size for file in files_beside(path))
    # The headers are not counted, which are nothing beside a real model.
    assert real * 0.7 < planned_bytes(family(base.family), base, parts, "fp16") <= real * 1.1
