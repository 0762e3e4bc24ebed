"""The full-size models of the families, without memory for their weights."""

from __future__ import annotations

from collections.abc import Callable

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


def sd2() -> dict:
    import torch
    from diffusers import UNet2DConditionModel

    down, up = _SD15_TYPES
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280, 1280),
            down_block_types=down,
            up_block_types=up,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
        )
        return {"denoiser": unet, "text_encoder": _clip(1024, 24, "gelu", projected=False)}


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


def _t5():
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, vocab_size=32128, feed_forward_proj="gated-gelu"))


def flux(guidance: bool) -> dict:
    import torch
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        denoiser = FluxTransformer2DModel(guidance_embeds=guidance)
        return {"denoiser": denoiser, "text_encoder": _clip(768, 12, "quick_gelu", projected=False), "text_encoder_2": _t5()}


def sd35(num_blocks: int, dual_blocks: tuple[int, ...], max_side: int) -> dict:
    import torch
    from diffusers import SD3Transformer2DModel

    with torch.device("meta"):
        denoiser = SD3Transformer2DModel(
            num_layers=num_blocks,
            num_attention_heads=num_blocks,
            caption_projection_dim=64 * num_blocks,
            pos_embed_max_size=max_side,
            dual_attention_layers=dual_blocks,
            qk_norm="rms_norm",
        )
        clips = {"text_encoder": _clip(768, 12, "quick_gelu", projected=False), "text_encoder_2": _clip(1280, 32, "gelu", projected=True)}
        return {"denoiser": denoiser, **clips, "text_encoder_3": _t5()}


MAKERS: dict[str, Callable[[], dict]] = {
    "sd15": sd15,
    "sdxl": sdxl,
    "flux dev": lambda: flux(guidance=True),
    "flux schnell": lambda: flux(guidance=False),
    "sd35 medium": lambda: sd35(24, tuple(range(13)), 384),
    "sd35 large": lambda: sd35(38, (), 192),
}
