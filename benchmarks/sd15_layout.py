"""A checkpoint with every tensor of SD1.5 and random weights: what speed and memory need of a model, without downloading one.

`python benchmarks/sd15_layout.py FILE` writes one (2.1 GB) to look at; the other benchmarks make their own and delete it.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from athanor.trainer.families._vae import native_vae_module
from athanor.trainer.formats.unet_names import UNetLayout

_WITH_ATTENTION = frozenset({1, 2, 3})
"""Of the way up, counted from below."""


def write_checkpoint(file: Path) -> None:
    """In fp16, under the names of the original. Signals keep their size from layer to layer, so that nothing fades and nothing overflows."""
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, shape in sorted(_shapes().items()):
        if len(shape) < 2:
            tensors[name] = torch.full(shape, float(name.endswith("weight")), dtype=torch.float16)
            continue
        spread = 0.02 if "_embedding." in name else 1 / math.sqrt(math.prod(shape[1:]))
        tensors[name] = (torch.randn(shape, generator=generator) * spread).half()
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file)


def autoencoder(**more: float) -> AutoencoderKL:
    """Of SD1.5, and with another scale of SDXL."""
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        **more,
    )


def _shapes() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280, 1280),
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            cross_attention_dim=768,
            attention_head_dim=8,
        )
        vae = autoencoder()
        clip = CLIPTextModel(CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12))
    layout, found = UNetLayout(2, _WITH_ATTENTION), {}
    for name, value in unet.state_dict().items():
        layer, _, leaf = name.rpartition(".")
        found[f"model.diffusion_model.{layout.native(layer)}.{leaf}"] = tuple(value.shape)
    for name, value in vae.state_dict().items():
        layer, _, leaf = name.rpartition(".")
        flat = ".attentions." in layer and leaf == "weight" and value.ndim == 2
        found[f"first_stage_model.{native_vae_module(layer, 4)}.{leaf}"] = (*value.shape, 1, 1) if flat else tuple(value.shape)
    for name, value in clip.state_dict().items():
        found[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = tuple(value.shape)
    return found


if __name__ == "__main__":
    write_checkpoint(Path(sys.argv[1]))
