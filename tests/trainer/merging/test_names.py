"""Files of one family that spell their layers differently are summed layer by layer, and the sum is read whole."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from athanor.trainer.families import family
from athanor.trainer.formats.fused import fuse, places_of
from athanor.trainer.formats.layers import layers_of
from athanor.trainer.merging.blocks import BlockWeights, read_block_weights
from athanor.trainer.merging.layers import Part, merge_layers
from athanor.trainer.merging.names import layer_name
from athanor.trainer.merging.resize import Limit

WIDTH = 6
CLIP_LAYER = "text_model.encoder.layers.0.self_attn.q_proj"
DOWN = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
UNET = (
    f"{DOWN}.to_q",
    f"{DOWN}.to_out.0",
    "down_blocks.0.resnets.1.time_emb_proj",
    "mid_block.attentions.0.proj_in",
    "up_blocks.0.attentions.2.proj_out",
)
FLUX = (
    *(f"transformer_blocks.0.attn.{name}" for name in ("to_q", "to_k", "to_v", "add_q_proj", "to_out.0")),
    *(f"single_transformer_blocks.0.{name}" for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", "proj_out")),
    "transformer_blocks.0.ff.net.0.proj",
)
SD3 = (
    "pos_embed.proj",
    *(f"transformer_blocks.{i}.{name}" for i in (0, 23) for name in ("attn.to_q", "attn.to_k", "ff.net.2", "norm1_context.linear")),
)
Layers = dict[str, dict[str, torch.Tensor]]


def random_layers(modules: tuple[str, ...], rank: int) -> Layers:
    draw = torch.Generator().manual_seed(rank)

    def rows(module: str) -> int:
        return 4 * WIDTH if "proj_mlp" in module else 2 * WIDTH if "norm" in module else WIDTH

    return {
        module: {
            "lora_up.weight": torch.randn(rows(module), rank, generator=draw),
            "lora_down.weight": torch.randn(rank, WIDTH, generator=draw),
            "alpha": torch.tensor(2.0),
        }
        for module in modules
    }


def flat(layers: Layers, spell) -> dict[str, torch.Tensor]:
    return {f"{spell(module)}.{suffix}": tensor for module, held in layers.items() for suffix, tensor in held.items()}


def spellings(of: str, layers: Layers) -> dict[str, dict[str, torch.Tensor]]:
    """The same LoRA as different trainers write it."""
    if of in ("sd15", "sdxl"):
        native = {module: layer for module, layer in zip(UNET, NATIVE, strict=True)}
        return {
            "diffusers": flat(layers, lambda module: f"unet.{module}"),
            "old diffusers": flat(layers, lambda module: "unet." + module.replace(".to_", ".processor.to_").replace("to_out.0", "to_out")),
            "kohya": flat(layers, lambda module: f"lora_unet_{module.replace('.', '_')}"),
            "kohya's SDXL": flat(layers, lambda module: f"lora_unet_{native[module].replace('.', '_')}"),
            "ComfyUI": flat(layers, lambda module: f"diffusion_model.{native[module]}"),
        }
    prefix = "transformer." if of == "flux" else "base_model.model."
    places = places_of([*layers, *(("transformer_blocks.0.attn2.to_q",) if of == "sd35" else ())])
    fused = fuse(layers, places)
    return {
        "diffusers": flat(layers, lambda module: prefix + module),
        "OneTrainer": flat(layers, lambda module: f"lora_transformer_{module.replace('.', '_')}"),
        "kohya": flat(fused, lambda module: f"lora_unet_{module.replace('.', '_')}"),
        "ComfyUI": flat(fused, lambda module: f"diffusion_model.{module}"),
    }


NATIVE = (
    "input_blocks.4.1.transformer_blocks.0.attn1.to_q",
    "input_blocks.4.1.transformer_blocks.0.attn1.to_out.0",
    "input_blocks.2.0.emb_layers.1",
    "middle_block.1.proj_in",
    "output_blocks.2.1.proj_out",
)
MODULES = {"sd15": UNET, "sdxl": UNET, "flux": FLUX, "sd35": SD3}


def change(held) -> torch.Tensor:
    return float(held["alpha"]) / len(held["lora_down.weight"]) * held["lora_up.weight"] @ held["lora_down.weight"]


@pytest.mark.parametrize("of", MODULES)
def test_a_sum_over_spellings_is_read_whole(of: str):
    modules = MODULES[of]
    one, other = random_layers(modules, 2), random_layers(modules, 3)
    for (first, a), (second, b) in product(spellings(of, one).items(), spellings(of, other).items()):
        merged = merge_layers([Part("a", a, 0.5), Part("b", b, -2.0)], BlockWeights(), Limit()).tensors
        found = layers_of(merged, family(of), "denoiser", modules)
        assert found.keys() >= set(modules), (first, second)
        for module in modules:
            expected = 0.5 * change(one[module]) - 2.0 * change(other[module])
            assert torch.allclose(change(found[module]), expected, atol=1e-4), (first, second, module)


def test_text_encoders_meet_in_all_their_names():
    def keys(*bases: str) -> set[str]:
        return {layer_name(base).key for base in bases}

    kohya = CLIP_LAYER.replace(".", "_")
    first = keys(f"lora_te_{kohya}", f"lora_te1_{kohya}", f"text_encoder.{CLIP_LAYER}", f"text_encoders.clip_l.transformer.{CLIP_LAYER}")
    assert first == keys(f"text_encoder.{CLIP_LAYER.removeprefix('text_model.')}") and len(first) == 1
    second = keys(f"lora_te2_{kohya}", f"text_encoder_2.{CLIP_LAYER}", f"text_encoders.clip_g.transformer.{CLIP_LAYER}")
    t5 = "encoder.block.0.layer.0.SelfAttention.q"
    third = keys(
        f"lora_te3_{t5.replace('.', '_')}", f"lora_te2_{t5.replace('.', '_')}", f"text_encoder_2.{t5}", f"text_encoders.t5xxl.transformer.{t5}"
    )
    assert len(second) == len(third) == 1 and len(first | second | third) == 3


def test_block_weights_know_a_layer_by_each_of_its_names():
    layers = random_layers(UNET, 2)
    held = spellings("sdxl", layers)["kohya's SDXL"]
    for rule in ("down_blocks_1: 0", "input_blocks_4: 0"):
        merged = merge_layers([Part("a", held, 1.0)], read_block_weights(rule), Limit()).tensors
        assert not any("input_blocks_4" in key for key in merged) and any("input_blocks_2" in key for key in merged)
