"""Tiny models of each family's architecture, for us and for ComfyUI, that adapters are put on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

Modules = Mapping[str, nn.Module]


@dataclass(frozen=True)
class Layout:
    """A tiny model of a family's architecture, and the same for ComfyUI."""

    modules: Callable[[], Modules]
    comfyui: dict[str, Any]
    has_convolutions: bool


def clip(with_projection: bool = False, **sizes: int) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(vocab_size=99, projection_dim=sizes["hidden_size"], **sizes)
    return (CLIPTextModelWithProjection if with_projection else CLIPTextModel)(config)


CLIP_L = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def sd15_modules() -> Modules:
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
    )
    return {"denoiser": unet, "text_encoder": clip(**CLIP_L)}


SD15 = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1], "channel_mult": [1, 2], "num_heads": 8,
    "use_spatial_transformer": True, "transformer_depth": [1, 0], "transformer_depth_middle": 1, "transformer_depth_output": [1, 1, 0, 0],
    "context_dim": 32, "use_linear_in_transformer": False, "adm_in_channels": None, "legacy": False, "use_temporal_attention": False,
    "use_temporal_resblock": False,
}  # fmt: skip
LAYOUTS = {"sd15": Layout(sd15_modules, {"family": "sd15", "denoiser": SD15, "clip_l": CLIP_L}, True)}
