"""Tiny models of each family's architecture, for us and for ComfyUI, that adapters are put on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from comfyui_flow_side import FLUX, SD35_MEDIUM
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


CLIP_L = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}


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


def sd2_modules() -> Modules:
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=(1, 2),
        use_linear_projection=True,
    )
    return {"denoiser": unet, "text_encoder": clip(**CLIP_L)}


SD2 = {**SD15, "model_channels": 64, "num_heads": -1, "num_head_channels": 64, "use_linear_in_transformer": True}


def sdxl_modules() -> Modules:
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        block_out_channels=(32, 64, 64),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(1, 1, 1),
        cross_attention_dim=64,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=32 + 6 * 256,
    )
    return {"denoiser": unet, "text_encoder": clip(**CLIP_L), "text_encoder_2": clip(with_projection=True, **CLIP_L)}


SDXL = {
    **SD15, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 2], "transformer_depth": [0, 0, 1, 1, 2, 2], "transformer_depth_middle": 2,
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2], "context_dim": 64, "use_linear_in_transformer": True, "num_head_channels": 32,
    "num_heads": -1, "num_classes": "sequential", "adm_in_channels": 32 + 6 * 256,
}  # fmt: skip
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}


def t5() -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=99, feed_forward_proj="gated-gelu", tie_word_embeddings=False, **T5))


def flux_modules() -> Modules:
    from diffusers import FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(8, 12, 12),
    )
    return {"denoiser": transformer, "text_encoder": clip(**CLIP_L), "text_encoder_2": t5()}


def sd35_modules() -> Modules:
    from diffusers import SD3Transformer2DModel

    transformer = SD3Transformer2DModel(
        num_layers=2,
        attention_head_dim=64,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=128,
        pooled_projection_dim=64,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    clips = {"text_encoder": clip(with_projection=True, **CLIP_L), "text_encoder_2": clip(with_projection=True, **CLIP_L)}
    return {"denoiser": transformer, **clips, "text_encoder_3": t5()}


NARROW_FLUX = {
    **FLUX, "vec_in_dim": 32, "context_in_dim": 32, "hidden_size": 64, "num_heads": 2, "depth": 2, "depth_single_blocks": 2, "axes_dim": [8, 12, 12],
}  # fmt: skip
NARROW_SD35 = {
    **SD35_MEDIUM, "depth": 2, "adm_in_channels": 64, "num_patches": 256, "pos_embed_max_size": 16, "x_block_self_attn_layers": [0],
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 32, "out_features": 128}},
}  # fmt: skip
CLIPS = {"clip_l": CLIP_L, "clip_g": CLIP_L}
LAYOUTS = {
    "sd15": Layout(sd15_modules, {"family": "sd15", "denoiser": SD15, "clip_l": CLIP_L}, True),
    "sd2": Layout(sd2_modules, {"family": "sd2", "denoiser": SD2, "clip_h": CLIP_L}, True),
    "sdxl": Layout(sdxl_modules, {"family": "sdxl", "denoiser": SDXL, **CLIPS}, True),
    "flux": Layout(flux_modules, {"family": "flux", "denoiser": NARROW_FLUX, "clip_l": CLIP_L, "t5xxl": T5}, False),
    "sd35": Layout(sd35_modules, {"family": "sd35", "denoiser": NARROW_SD35, **CLIPS, "t5xxl": T5}, False),
}
