"""The full-size models of the families, without memory for their weights."""

from __future__ import annotations

_SD15_TYPES = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
_SDXL_TYPES = ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2, ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",)


def _clip(width: int, num_layers: int, gelu: str, projected: bool):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=num_layers,
        num_attention_heads=width // 64,
        hidden_act=gelu,
        projection_dim=width,
        vocab_size=49408,
    )
    return CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)


def sd15() -> dict:
    import torch
    from diffusers import UNet2DConditionModel

    down, up = _SD15_TYPES
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280, 1280), down_block_types=down, up_block_types=up, cross_attention_dim=768, attention_head_dim=8
        )
        return {"denoiser": unet, "text_encoder": _clip(768, 12, "quick_gelu", projected=False)}


def sdxl() -> dict:
    import torch
    from diffusers import UNet2DConditionModel

    down, up = _SDXL_TYPES
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280),
            down_block_types=down,
            up_block_types=up,
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        clips = {"text_encoder": _clip(768, 12, "quick_gelu", projected=False), "text_encoder_2": _clip(1280, 32, "gelu", projected=True)}
    return {"denoiser": unet, **clips}
