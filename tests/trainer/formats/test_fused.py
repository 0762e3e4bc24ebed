"""LoRAs in every spelling of FLUX.1 and SD3.5: the change of the weights stays the same, to the bit where it can."""

from __future__ import annotations

import functools

import full_size
import pytest
import torch

from athanor.trainer.errors import AthanorError
from athanor.trainer.families import family
from athanor.trainer.formats.fused import cut, fuse, places_of
from athanor.trainer.formats.layers import layers_of
from athanor.trainer.formats.native import Place
from athanor.trainer.formats.spelling import in_kohya_names, in_peft_names

WIDTH = 8
WIDE = {"proj_mlp": 4 * WIDTH}


@functools.cache
def names_of(model: str) -> list[str]:
    return [name for name, _ in full_size.MAKERS[model]()["denoiser"].named_modules()]


def targets_of(model: str) -> list[str]:
    import re

    expression = family(model.split()[0]).adapter_targets("denoiser")
    return [name for name in names_of(model) if re.fullmatch(expression, name)]


def lora(rows: int, rank: int, alpha: float, seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "lora_down.weight": torch.randn(rank, WIDTH, generator=draw),
        "lora_up.weight": torch.randn(rows, rank, generator=draw),
        "alpha": torch.tensor(alpha),
    }


def change(tensors) -> torch.Tensor:
    down = tensors["lora_down.weight"]
    scale = float(tensors["alpha"]) / len(down) if "alpha" in tensors else 1.0
    return scale * tensors["lora_up.weight"] @ down


def layers_for(model: str, alpha: float = 2.0) -> dict[str, dict[str, torch.Tensor]]:
    return {name: lora(WIDE.get(name.rsplit(".", 1)[-1], WIDTH), 4, alpha, i) for i, name in enumerate(targets_of(model))}


@pytest.mark.parametrize(("model", "num_fused"), [("flux dev", 304), ("sd35 medium", 24 * 10 - 3 + 13 * 2), ("sd35 large", 38 * 10 - 3)])
def test_kohya_names_hold_the_same_change_and_come_back_to_the_bit(model: str, num_fused: int):
    """304 fused layers of FLUX as in sd-scripts; of SD3.5 ten a block, three fewer in the last, two more with a second attention."""
    layers = layers_for(model)
    tensors = in_kohya_names(layers, names_of(model))
    assert len(tensors) == 3 * num_fused and all(key.startswith("lora_unet_") for key in tensors)
    back = layers_of(tensors, family(model.split()[0]), "denoiser", names_of(model))
    assert back.keys() == layers.keys()
    for name, held in layers.items():
        assert all(torch.equal(back[name][suffix], tensor) for suffix, tensor in held.items()), name


def test_the_fused_change_is_that_of_each_part():
    layers = layers_for("flux dev")
    tensors = in_kohya_names(layers, names_of("flux dev"))
    key = "lora_unet_single_blocks_37_linear1"
    assert tensors[f"{key}.lora_down.weight"].shape == (16, WIDTH) and float(tensors[f"{key}.alpha"]) == 8.0
    whole = change({suffix: tensors[f"{key}.{suffix}"] for suffix in ("lora_down.weight", "lora_up.weight", "alpha")})
    block = "single_transformer_blocks.37"
    expected = torch.cat([change(layers[f"{block}.{name}"]) for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")])
    assert torch.allclose(whole, expected, atol=1e-6)


def test_parts_of_other_scales_or_absent_ones_are_fused_exactly():
    places = {name: Place("qkv", i, 1, 3) for i, name in enumerate("qkv")}
    layers = {"q": lora(WIDTH, 2, 1.0, 0), "v": lora(WIDTH, 4, 6.0, 1)}
    fused = fuse(layers, places)["qkv"]
    assert fused["lora_down.weight"].shape == (6, WIDTH)
    expected = torch.cat([change(layers["q"]), torch.zeros(WIDTH, WIDTH), change(layers["v"])])
    assert torch.allclose(change(fused), expected, atol=1e-6)


def test_a_trained_fused_layer_is_cut_into_parts_that_share_its_down():
    """As sd-scripts trains it: one matrix up for query, key and value."""
    names = names_of("flux dev")
    given = {f"lora_unet_double_blocks_3_txt_attn_qkv.{suffix}": tensor for suffix, tensor in lora(3 * WIDTH, 4, 2.0, 0).items()}
    given |= {f"diffusion_model.final_layer.adaLN_modulation.1.{suffix}": tensor for suffix, tensor in lora(2 * WIDTH, 4, 2.0, 1).items()}
    found = layers_of(given, family("flux"), "denoiser", names)
    block = "transformer_blocks.3.attn"
    assert found.keys() == {f"{block}.add_q_proj", f"{block}.add_k_proj", f"{block}.add_v_proj", "norm_out.linear"}
    whole = change({key.split("qkv.", 1)[1]: tensor for key, tensor in given.items() if "qkv" in key})
    assert torch.equal(torch.cat([change(found[f"{block}.add_{letter}_proj"]) for letter in "qkv"]), whole)
    shift_scale = change({key.split("modulation.1.", 1)[1]: tensor for key, tensor in given.items() if "final" in key})
    assert torch.equal(change(found["norm_out.linear"]), torch.cat(shift_scale.chunk(2)[::-1]))


@pytest.mark.parametrize(
    "base",
    [
        "transformer.{dotted}",
        "base_model.model.{dotted}",
        "{dotted}",
        "lora_transformer_{underscored}",
        "lycoris_{underscored}",
    ],
)
@pytest.mark.parametrize(
    "pair", [("lora_A.weight", "lora_B.weight"), ("lora_A.default.weight", "lora_B.default.weight"), ("lora_down.weight", "lora_up.weight")]
)
def test_the_spellings_of_other_trainers_are_read(base: str, pair: tuple[str, str]):
    name = "single_transformer_blocks.7.proj_mlp"
    held = lora(4 * WIDTH, 4, 2.0, 0)
    key = base.format(dotted=name, underscored=name.replace(".", "_"))
    given = {f"{key}.{suffix}": held[ours] for suffix, ours in zip(pair, ("lora_down.weight", "lora_up.weight"), strict=True)}
    found = layers_of(given, family("flux"), "denoiser", names_of("flux dev"))
    assert list(found) == [name] and all(torch.equal(found[name][suffix], held[suffix]) for suffix in found[name])


@pytest.mark.parametrize("number", [2, 3])
def test_t5_is_read_as_the_second_encoder_and_as_the_third(number: int):
    name = "encoder.block.4.layer.0.SelfAttention.q"
    given = {f"lora_te{number}_{name.replace('.', '_')}.{suffix}": tensor for suffix, tensor in lora(WIDTH, 4, 2.0, 0).items()}
    assert list(layers_of(given, family("flux"), "text_encoder_2", [name])) == [name]


def test_peft_names_carry_the_scale_in_b():
    layers = {"a.b": lora(WIDTH, 4, 2.0, 0)}
    tensors = in_peft_names(layers, "transformer")
    assert tensors.keys() == {"transformer.a.b.lora_A.weight", "transformer.a.b.lora_B.weight"}
    assert torch.equal(tensors["transformer.a.b.lora_B.weight"] @ tensors["transformer.a.b.lora_A.weight"], change(layers["a.b"]))


def test_what_cannot_be_cut_is_refused_and_other_models_have_no_places():
    with pytest.raises(AthanorError, match="lokr_w1"):
        cut({"lokr_w1": torch.zeros(2, 2)}, Place("qkv", 0, 1, 3))
    assert places_of(["down_blocks.0.attentions.0.proj_in"]) == {}
    assert set(places_of(names_of("sd35 medium"))) == {name for name in places_of(names_of("sd35 medium")) if name in names_of("sd35 medium")}
