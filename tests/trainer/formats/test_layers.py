"""The same LoRA in the spelling of each program that writes some, read back to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable

import full_size
import pytest
import torch
from safetensors.torch import save_file

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import kind_of, plans_of
from athanor.trainer.families import family
from athanor.trainer.formats.layers import layers_of, read_tensors_of, unread_note
from athanor.trainer.formats.unet_names import SD1_LAYOUT, SDXL_LAYOUT

LAYOUTS = {"sd15": SD1_LAYOUT, "sdxl": SDXL_LAYOUT}
UNET = (
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0",
    "up_blocks.1.attentions.2.proj_in",
)
TEXT = ("encoder.layers.1.self_attn.k_proj", "encoder.layers.0.mlp.fc2")
Speller = Callable[[str, str, str], dict[str, str]]
"""From family, part and module to the keys of up, down and alpha; "" leaves one out."""
TE = {"sd15": {"text_encoder": "te"}, "sdxl": {"text_encoder": "te1", "text_encoder_2": "te2"}}
CLIP = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}


def _kohya(base: str) -> dict[str, str]:
    return {"up": f"{base}.lora_up.weight", "down": f"{base}.lora_down.weight", "alpha": f"{base}.alpha"}


def _peft(base: str) -> dict[str, str]:
    return {"up": f"{base}.lora_B.weight", "down": f"{base}.lora_A.weight", "alpha": ""}


def _flat(*parts: str) -> str:
    return "_".join(parts).replace(".", "_")


def sd_scripts(name: str, part: str, module: str) -> dict[str, str]:
    """networks.lora: diffusers' names for SD1.5, Stability's for SDXL."""
    if part != "denoiser":
        return _kohya(_flat("lora", TE[name][part], "text_model", module))
    return _kohya(_flat("lora_unet", SDXL_LAYOUT.native(module) if name == "sdxl" else module))


def onetrainer(name: str, part: str, module: str) -> dict[str, str]:
    """diffusers' names with underscores for both."""
    return _kohya(_flat("lora_unet", module)) if part == "denoiser" else sd_scripts(name, part, module)


def comfyui_trainer(name: str, part: str, module: str) -> dict[str, str]:
    """Its own module paths."""
    if part != "denoiser":
        return _kohya(f"text_encoders.{CLIP[part]}.transformer.text_model.{module}")
    return _kohya(f"diffusion_model.{LAYOUTS[name].native(module)}")


def diffusers(name: str, part: str, module: str) -> dict[str, str]:
    return _peft(f"unet.{module}" if part == "denoiser" else f"{part}.text_model.{module}")


def old_diffusers(name: str, part: str, module: str) -> dict[str, str]:
    """Attention processors of 2023."""
    if part != "denoiser":
        base = f"{part}.text_model.{module}.lora_linear_layer"
        return {"up": f"{base}.up.weight", "down": f"{base}.down.weight", "alpha": ""}
    where, _, leaf = module.removesuffix(".0").rpartition(".")
    base = f"unet.{where}.processor.{leaf}_lora" if leaf.startswith("to_") else f"unet.{module}.lora"
    return {"up": f"{base}.up.weight", "down": f"{base}.down.weight", "alpha": ""}


def peft(name: str, part: str, module: str) -> dict[str, str]:
    """One model alone, with the adapter's name in the keys."""
    if part != "denoiser":
        return {}
    base = f"base_model.model.{module}"
    return {"up": f"{base}.lora_B.default.weight", "down": f"{base}.lora_A.default.weight", "alpha": ""}


def newer_transformers(name: str, part: str, module: str) -> dict[str, str]:
    """sd-scripts and LyCORIS where CLIP has no text model of its own any more."""
    spelt = sd_scripts(name, part, module)
    return {what: key.replace("text_model_", "") for what, key in spelt.items()}


def lycoris(name: str, part: str, module: str) -> dict[str, str]:
    return _kohya(_flat("lycoris", module)) if part == "denoiser" else sd_scripts(name, part, module)


SPELLERS = (sd_scripts, newer_transformers, onetrainer, comfyui_trainer, diffusers, old_diffusers, peft, lycoris)


def made(part: str, module: str) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(len(part + module))
    return {"up": torch.randn(6, 4, generator=draw), "down": torch.randn(4, 5, generator=draw), "alpha": torch.tensor(2.0)}


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def model(request):
    return request.param, getattr(full_size, request.param)()


@pytest.mark.parametrize("speller", SPELLERS)
def test_every_spelling_is_read(model, speller: Speller, tmp_path):
    name, parts = model
    file, expected = {}, {}
    for part in parts:
        for module in UNET if part == "denoiser" else TEXT:
            keys, tensors = speller(name, part, module), made(part, module)
            file |= {key: tensors[what] for what, key in keys.items() if key}
            if keys:
                expected[part, module] = {what for what, key in keys.items() if key}
    save_file(file, tmp_path / "lora.safetensors")
    read, used = read_tensors_of(tmp_path / "lora.safetensors"), 0
    for part, module in parts.items():
        found = layers_of(read, family(name), part, [each for each, _ in module.named_modules()])
        wanted = {each: made(part, each) for (owner, each) in expected if owner == part}
        assert {each.removeprefix("text_model.") for each in found} == wanted.keys()
        for each, held in found.items():
            tensors = wanted[each.removeprefix("text_model.")]
            assert torch.equal(held["lora_up.weight"], tensors["up"]) and torch.equal(held["lora_down.weight"], tensors["down"])
            assert ("alpha" in held) == ("alpha" in expected[part, each.removeprefix("text_model.")])
            used += len(held)
    assert used == len(file), "nothing of the file is left over, and nothing is read twice"


@pytest.mark.parametrize("place", ["beside", "within"])
def test_the_alpha_that_peft_keeps_elsewhere_is_found(tmp_path, place):
    told = {"lora_alpha": 8.0, "alpha_pattern": {"attn2.to_out.0": 1.0}, "use_rslora": False}
    tensors = {key: made("denoiser", module)[what] for module in UNET for what, key in diffusers("sd15", "denoiser", module).items() if key}
    path = tmp_path / "adapter_model.safetensors"
    if place == "beside":
        save_file(tensors, path)
        (tmp_path / "adapter_config.json").write_text(json.dumps(told), encoding="utf-8")
    else:
        metadata = {"lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in told.items()})}
        save_file(tensors, path, metadata=metadata)
    found = layers_of(read_tensors_of(path), family("sd15"), "denoiser", UNET)
    assert {name: float(held["alpha"]) for name, held in found.items()} == {UNET[0]: 8.0, UNET[1]: 1.0, UNET[2]: 8.0}
    kind_name, kind = kind_of(found, "x")
    assert kind_name == "lora" and kind is adapter("lora")
    assert {plan.name: (plan.rank, plan.alpha) for plan in plans_of(kind, found)} == {UNET[0]: (4, 8.0), UNET[1]: (4, 1.0), UNET[2]: (4, 8.0)}


def test_of_rank_stabilised_ones_alpha_grows_by_the_root_of_the_rank(tmp_path):
    """alpha / sqrt(r) is (alpha · sqrt(r)) / r."""
    tensors = {key: made("denoiser", UNET[0])[what] for what, key in diffusers("sd15", "denoiser", UNET[0]).items() if key}
    metadata = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 3.0, "unet.use_rslora": True})}
    save_file(tensors, tmp_path / "x.safetensors", metadata=metadata)
    assert float(layers_of(read_tensors_of(tmp_path / "x.safetensors"), family("sd15"), "denoiser", UNET)[UNET[0]]["alpha"]) == 6.0


def test_another_models_lora_gives_nothing():
    names = [each for each, _ in full_size.sdxl()["denoiser"].named_modules()]
    flux = {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(1, 1)}
    assert layers_of(flux, family("sdxl"), "denoiser", names) == {}


@pytest.mark.parametrize(
    ("name", "part", "module", "base"),
    [
        ("sdxl", "text_encoder_2", "text_projection", "lora_te2_text_projection"),
        ("sdxl", "text_encoder_2", "text_projection", "text_encoders.clip_g.transformer.text_projection"),
        ("flux", "denoiser", "transformer_blocks.0.attn.to_out.0", "transformer_transformer_blocks_0_attn_to_out_0"),
        ("sd35", "text_encoder_3", "encoder.block.0.layer.0.SelfAttention.q", "text_encoder_3_encoder_block_0_layer_0_SelfAttention_q"),
        ("sd15", "text_encoder", "encoder.layers.0.mlp.fc1", "base_model.model.text_model.encoder.layers.0.mlp.fc1"),
        ("flux", "text_encoder_2", "encoder.block.0.layer.0.SelfAttention.q", "base_model.model.encoder.block.0.layer.0.SelfAttention.q"),
    ],
)
def test_rarer_spellings_are_read(name, part, module, base):
    found = layers_of({f"{base}.lora_A.weight": torch.ones(4, 5), f"{base}.lora_B.weight": torch.ones(6, 4)}, family(name), part, [module])
    assert found.keys() == {module} and found[module].keys() == {"lora_down.weight", "lora_up.weight"}


def test_one_encoders_own_file_is_not_taken_for_that_of_two():
    tensors = {"base_model.model.text_model.encoder.layers.0.mlp.fc1.lora_A.weight": torch.ones(4, 5)}
    assert layers_of(tensors, family("sdxl"), "text_encoder", ["encoder.layers.0.mlp.fc1"]) == {}


def test_norms_of_lycoris_are_whole_changes():
    tensors = {"lora_unet_down_blocks_0_resnets_0_norm1.w_norm": torch.ones(4), "lora_unet_down_blocks_0_resnets_0_norm1.b_norm": torch.ones(4)}
    found = layers_of(tensors, family("sd15"), "denoiser", ["down_blocks.0.resnets.0.norm1"])
    assert found["down_blocks.0.resnets.0.norm1"].keys() == {"diff", "diff_b"}


def test_what_is_not_read_is_told():
    names = {"denoiser": UNET}
    known = {key: torch.ones(1) for key in (f"unet.{UNET[0]}.lora_A.weight", "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha")}
    assert unread_note(known, family("sd15"), names, "x") == ""
    strange = {f"unet.{name}": torch.ones(1) for name in ("a.oft_R.weight", "b.lora_A.weight", "logit_scale", "c.weight")}
    assert unread_note({**known, **strange}, family("sd15"), names, "x.safetensors") == (
        "x.safetensors: of its 6 tensors these belong to no layer of this model and are not read: "
        "unet.a.oft_R.weight, unet.b.lora_A.weight, unet.c.weight and 1 more."
    )
    bundled = unread_note({**known, "bundle_emb.<fox>.clip_l": torch.ones(1), "bundle_emb.<fox>.clip_g": torch.ones(1)}, family("sd15"), names, "x")
    assert bundled == "x brings embeddings along (<fox>), which are not read; export them from their trainer as files of their own."
