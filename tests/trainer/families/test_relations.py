"""Near relations of the models that can be trained, told from their headers, and SD2's two predictions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import TinyBase, make_sd2_file, make_sdxl_file, make_sdxl_folder
from tiny_flow import make_flux_file, make_sd35_file

from athanor.trainer.bases import describe_base
from athanor.trainer.checks.validate import base_problems
from athanor.trainer.errors import AthanorError

IN = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> TinyBase:
    return make_sdxl_file(tmp_path_factory.mktemp("sdxl file"))


def changed(source: Path, target: Path, **tensors: torch.Tensor | None) -> Path:
    """A copy with other tensors; None takes one out, __ in a name stands for a dot."""
    held = load_file(source)
    for name, tensor in tensors.items():
        key = name.replace("__", ".")
        if tensor is None:
            del held[key]
        else:
            held[key] = tensor
    save_file(held, target)
    return target


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"edm_mean": torch.zeros(1)}, "EDM noise schedule"),
        ({"edm_vpred__sigma_max": torch.zeros(1)}, "EDM noise schedule"),
        ({"model__diffusion_model__label_emb__0__0__weight": torch.zeros(128, 2560)}, "the SDXL refiner"),
        ({IN.replace(".", "__"): torch.zeros(32, 9, 3, 3)}, "an inpainting model"),
        ({"model__diffusion_model__label_emb__0__0__weight": torch.zeros(128, 5632)}, "another text encoder \\(Kolors\\)"),
        ({"model__diffusion_model__label_emb__weight": torch.zeros(1000, 128)}, "told of classes"),
        ({"model__diffusion_model__out__2__weight": torch.zeros(8, 32, 3, 3)}, "answers with more than the noise"),
        ({"model__diffusion_model__middle_block__0__in_layers__2__weight": None}, "no middle"),
    ],
)
def test_near_relations_are_refused_by_name(sdxl, tmp_path, tensors, words):
    with pytest.raises(AthanorError, match=f"relative.safetensors.*{words}"):
        describe_base(changed(sdxl.path, tmp_path / "relative.safetensors", **tensors))


@pytest.mark.parametrize(("spread", "expected", "native_px"), [(0.02, "epsilon", 512), (0.2, "v", 768)])
def test_stable_diffusion_2_tells_its_prediction_by_one_tensor_as_in_comfyui(tmp_path, spread, expected, native_px):
    made = make_sd2_file(tmp_path, whole=True)
    key = "model__diffusion_model__output_blocks__11__1__transformer_blocks__0__norm1__bias"
    path = changed(made.path, tmp_path / "two.safetensors", **{key: torch.tensor([-spread, spread] * 16)})
    base = describe_base(path, (tmp_path / "tokenizer",))
    assert (base.family, base.prediction, base.native_px, base.zero_terminal_snr) == ("sd2", expected, native_px, False)
    assert not base_problems(base)


def test_relations_of_stable_diffusion_2_are_named(tmp_path):
    made = make_sd2_file(tmp_path)
    held = load_file(made.path)
    wide = {key: torch.zeros(value.shape[0], 1024) for key, value in held.items() if key.endswith("attn2.to_k.weight")}
    save_file({**held, **wide, IN: torch.zeros(32, 5, 3, 3)}, tmp_path / "depth.safetensors")
    save_file({**held, **wide, "model.diffusion_model.label_emb.0.0.weight": torch.zeros(128, 1536)}, tmp_path / "unclip.safetensors")
    for name in ("depth", "unclip"):
        with pytest.raises(AthanorError, match=r"is a relation of Stable Diffusion 2 \(depth or unCLIP\), not a checkpoint that can be trained upon"):
            describe_base(tmp_path / f"{name}.safetensors")


def relative_of(made: TinyBase, path: Path, **tensors: torch.Tensor | None) -> str:
    with pytest.raises(AthanorError) as told:
        describe_base(changed(made.path, path, **tensors))
    return str(told.value)


def test_relatives_of_flux_and_sd35_are_named(tmp_path):
    """Headers as ComfyUI's own classes of these models make them."""
    flux, sd35, path = make_flux_file(tmp_path), make_sd35_file(tmp_path), tmp_path / "relative.safetensors"
    inner = "model__diffusion_model__"
    for tensors in (
        {"vector_in__in_layer__weight": None},
        {"double_blocks__0__img_mlp__gate_proj__weight": torch.zeros(2, 2), "txt_norm__weight": torch.zeros(2)},
    ):
        assert "LongCat-Image, Ovis-Image" in relative_of(flux, path, **{inner + name: value for name, value in tensors.items()})
    assert "for filling or control (384 channels" in relative_of(flux, path, **{f"{inner}img_in__weight": torch.zeros(64, 384)})
    assert "filling, editing or control (33 channels" in relative_of(sd35, path, **{f"{inner}x_embedder__proj__weight": torch.zeros(64, 33, 2, 2)})
    for tensors in ({"y_embedder__mlp__0__weight": None}, {"context_processor__layers__0__attn__qkv__weight": torch.zeros(2, 2)}):
        assert "reads words in another way" in relative_of(sd35, path, **{inner + name: value for name, value in tensors.items()})


@pytest.mark.parametrize(
    "told",
    [{"_class_name": "EDMDPMSolverMultistepScheduler"}, {"_class_name": "FlowMatchEulerDiscreteScheduler"}, {"prediction_type": "sample"}],
)
def test_a_folder_of_another_noise_schedule_is_refused(tmp_path, told):
    made = make_sdxl_folder(tmp_path / "model")
    config = made.path / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text(encoding="utf-8")), **told}), encoding="utf-8")
    with pytest.raises(AthanorError, match=r"another noise schedule than Stable Diffusion's \(Playground v2\.5"):
        describe_base(made.path)


def test_a_unet_that_reads_no_words_is_told(sdxl, tmp_path):
    """As of the U-Nets of SDXL's small ControlNets."""
    held = {key: value for key, value in load_file(sdxl.path).items() if ".transformer_blocks." not in key}
    save_file(held, tmp_path / "deaf.safetensors")
    with pytest.raises(AthanorError, match="unknown layout"):
        describe_base(tmp_path / "deaf.safetensors")
