"""FLUX.1: what is recognised, what is read from files of every storage, what is drawn."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_flow import flux_models, flux_tensors, in_scaled_fp8, make_flux_file, make_flux_folder, make_schnell_split

from athanor.trainer.bases import describe_base
from athanor.trainer.checks.effects import effect_problems
from athanor.trainer.config import TrainJob
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import all_families, family
from athanor.trainer.families._native import TensorFile
from athanor.trainer.families.base import Prompted
from athanor.trainer.formats.header import Header
from athanor.trainer.formats.native import Place
from athanor.trainer.settings import CaptionSettings
from athanor.trainer.types import Dataset

FLUX = family("flux")


def header(prefix: str = "", **changes: tuple[int, ...]) -> Header:
    shapes = {
        "double_blocks.0.img_attn.qkv.weight": (9216, 3072),
        "img_in.weight": (3072, 64),
        "guidance_in.in_layer.weight": (3072, 256),
        "vector_in.in_layer.weight": (3072, 768),
    }
    return Header({prefix + key: shape for key, shape in {**shapes, **changes}.items() if shape}, {}, {})


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
def test_dev_and_schnell_are_told_apart_and_no_other_family_takes_them(prefix: str):
    for variant, changes in (("dev", {}), ("schnell", {"guidance_in.in_layer.weight": ()})):
        made = header(prefix, **changes)
        assert [each.name for each in all_families() if each.matches(made)] == ["flux"]
        assert FLUX.facts_of_file(made).variant == variant and FLUX.facts_of_file(made).prediction == "flow"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"distilled_guidance_layer.in_proj.weight": (5120, 64)}, "Chroma"),
        ({"double_stream_modulation_img.lin.weight": (1, 1)}, "FLUX.2"),
        ({"img_in.weight": (3072, 384)}, "filling or control"),
    ],
)
def test_relatives_are_refused_by_name(changes: dict, name: str):
    with pytest.raises(AthanorError, match=name):
        FLUX.matches(header(**changes))
    assert not FLUX.matches(Header({"double_blocks.0.img_attn.qkv.weight": (1, 1)}, {}, {}))


def test_each_missing_part_is_named_with_its_place(tmp_path):
    made = make_schnell_split(tmp_path)
    alone = describe_base(made.path)
    problems = FLUX.missing_files(alone)
    assert len(problems) == 3
    for problem, title, place in zip(
        problems, ("CLIP-L", "T5-XXL", "VAE"), ("models/text_encoders", "models/text_encoders", "models/vae"), strict=True
    ):
        assert title in problem and place in problem and made.path.name in problem
    whole = describe_base(made.path, text_encoders=made.text_encoders, vae=made.vae)
    assert FLUX.missing_files(whole) == () and whole.variant == "schnell"
    (tmp_path / "tokenizer_2" / "tokenizer.json").unlink()
    (problem,) = FLUX.missing_files(whole)
    assert "T5 tokenizer" in problem and str(tmp_path / "tokenizer_2") in problem


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2"])
def test_scales_are_multiplied_into_fp8_weights_and_fused_ones_are_cut(tmp_path, kind: str):
    models = flux_models(tmp_path)
    tensors = in_scaled_fp8(flux_tensors(models["transformer"], ""), kind)
    save_file(tensors, tmp_path / "fp8.safetensors")
    read = FLUX.load_denoiser(describe_base(tmp_path / "fp8.safetensors"), torch.float32)
    qkv = "double_blocks.1.txt_attn.qkv"
    expected = tensors[f"{qkv}.weight"].float() * tensors[f"{qkv}.scale_weight"]
    assert torch.equal(read.transformer_blocks[1].attn.add_k_proj.weight, expected[64:128])
    mlp = tensors["single_blocks.0.linear1.weight"].float() * tensors["single_blocks.0.linear1.scale_weight"]
    assert torch.equal(read.single_transformer_blocks[0].proj_mlp.weight, mlp[192:])
    step = {"float8_e4m3fn": 2**-4, "float8_e5m2": 2**-3}[kind]
    for name, value in models["transformer"].state_dict().items():
        assert (read.state_dict()[name] - value).abs().max() <= value.abs().max() * step, name


def test_comfyuis_own_quantised_layers_are_read_and_unknown_ones_refused(tmp_path):
    def layer(kind: str, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        mark = torch.tensor(list(json.dumps({"format": kind}).encode()), dtype=torch.uint8)
        return {"a.weight": torch.ones(4, 3).to(torch.float8_e4m3fn), "a.weight_scale": scale, "a.comfy_quant": mark}

    save_file(layer("float8_e4m3fn", torch.tensor([1.0, 2.0, 3.0, 4.0])), tmp_path / "rows.safetensors")
    rows = TensorFile(tmp_path / "rows.safetensors").rows("a.weight", Place("a", 1, 1, 2), torch.float32)
    assert rows.tolist() == [[3.0] * 3, [4.0] * 3]
    save_file(layer("nvfp4", torch.tensor(2.0)), tmp_path / "unknown.safetensors")
    with pytest.raises(AthanorError, match="nvfp4"):
        TensorFile(tmp_path / "unknown.safetensors").rows("a.weight", Place("a"), torch.float32)


def test_plain_fp8_and_half_precision_are_read_as_they_are(tmp_path):
    models = flux_models(tmp_path)
    for kind in (torch.float8_e4m3fn, torch.bfloat16, torch.float16):
        tensors = {name: value.to(kind) for name, value in flux_tensors(models["transformer"]).items()}
        path = tmp_path / f"{kind}.safetensors"
        save_file(tensors, path)
        read = FLUX.load_denoiser(describe_base(path), torch.bfloat16)
        assert {parameter.dtype for parameter in read.parameters()} == {torch.bfloat16}
        name = "model.diffusion_model.double_blocks.0.img_mlp.2.weight"
        assert torch.equal(read.transformer_blocks[0].ff.net[2].weight, tensors[name].to(torch.bfloat16))


def test_weights_of_the_files_own_dtype_are_not_copied(tmp_path):
    """Views of the mapped file: query and key of one fused layer lie in one storage."""
    made = make_flux_file(tmp_path)
    attention = FLUX.load_denoiser(describe_base(made.path), torch.float32).transformer_blocks[0].attn
    query, key = attention.to_q.weight, attention.to_k.weight
    assert key.data_ptr() - query.data_ptr() == query.numel() * query.element_size()


def test_a_cut_off_or_other_file_is_told(tmp_path):
    made = make_flux_file(tmp_path)
    tensors = load_file(made.path)
    del tensors["model.diffusion_model.single_blocks.1.linear2.weight"]
    save_file(tensors, tmp_path / "part.safetensors")
    with pytest.raises(AthanorError, match=r"lacks single_blocks\.1\.linear2\.weight"):
        FLUX.load_denoiser(describe_base(tmp_path / "part.safetensors"), torch.float32)


def test_times_follow_the_variant_and_the_size(tmp_path):
    """u = 0.5 is t = 0.5 before the shift; 128 x 128 latents are 4096 patches, μ = 1.15: e^1.15 / (e^1.15 + 1) = 0.7595109."""
    base, half = describe_base(make_flux_file(tmp_path).path), torch.tensor([0.5])
    assert FLUX.training_times(base, half, (128, 128)).item() == pytest.approx(0.7595109, abs=1e-6)
    assert FLUX.training_times(base, half, (32, 32)).item() == pytest.approx(math.exp(0.5) / (math.exp(0.5) + 1), abs=1e-6)
    assert FLUX.training_times(dataclasses.replace(base, variant="schnell"), half, (128, 128)).item() == 0.5


def test_t5_reads_512_tokens_for_dev_and_256_for_schnell(tmp_path):
    base = describe_base(make_flux_file(tmp_path).path)
    for variant, num_tokens in (("dev", 512), ("schnell", 256)):
        text = FLUX.load_text(dataclasses.replace(base, variant=variant), torch.float32)
        with torch.no_grad():
            made = FLUX.encode_text(text, ["a red circle", "x" * 600], 1)
        assert made["states"].shape == (2, num_tokens, 128) and made["pooled"].shape == (2, 64)


def test_pictures_equal_those_of_the_pipeline(tmp_path):
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

    base = describe_base(make_flux_folder(tmp_path).path)
    text, denoiser, vae = FLUX.load_text(base, torch.float32), FLUX.load_denoiser(base, torch.float32), FLUX.load_vae(base)
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096
    )
    pipeline = FluxPipeline(scheduler, vae, text.encoders[0], text.tokenizers[0], text.encoders[1], text.tokenizers[1], denoiser)
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        told = FLUX.encode_text(text, ["a red circle"], 1)
        (drawn,) = FLUX.sample(base, denoiser, vae, [Prompted(told, told, 5)], 3, 3.5, (64, 32))
    noise = torch.randn((16, 4, 8), generator=torch.Generator().manual_seed(5))[None]
    expected = pipeline(
        prompt_embeds=told["states"],
        pooled_prompt_embeds=told["pooled"],
        latents=pipeline._pack_latents(noise, 1, 16, 4, 8),
        num_inference_steps=3,
        guidance_scale=3.5,
        width=64,
        height=32,
        output_type="np",
    ).images[0]
    difference = torch.from_numpy(expected) - torch.tensor(list(drawn.getdata())).reshape(32, 64, 3) / 255
    assert drawn.size == (64, 32) and difference.abs().max() <= 1.01 / 255


def test_dev_is_told_the_guidance_and_schnell_is_not(tmp_path):
    for made, follows in ((make_flux_file(tmp_path / "dev"), True), (make_schnell_split(tmp_path / "schnell"), False)):
        base = describe_base(made.path, text_encoders=made.text_encoders, vae=made.vae)
        text, denoiser, vae = FLUX.load_text(base, torch.float32), FLUX.load_denoiser(base, torch.float32), FLUX.load_vae(base)
        with torch.no_grad():
            told = FLUX.encode_text(text, ["a red circle"], 1)
            pictures = [FLUX.sample(base, denoiser, vae, [Prompted(told, told, 5)], 2, guidance, (64, 64))[0].tobytes() for guidance in (1.0, 60.0)]
        assert (pictures[0] != pictures[1]) is follows


def test_a_length_of_captions_is_refused_since_t5_has_its_own(tmp_path):
    job = TrainJob("run", describe_base(make_flux_file(tmp_path).path), Dataset(()), captions=CaptionSettings(max_tokens="75"))
    told = [problem for problem in effect_problems(job) if "max_tokens" in problem]
    assert told == ["Captions: max_tokens is '75' but does nothing with FLUX.1, whose T5 has its own length; put it back to '225'."]
