"""What a file is that is not the wanted one, told from its header."""

from __future__ import annotations

import re

from .header import Header

_PREFIX = r"^(?:model\.diffusion_model\.|diffusion_model\.)?"
_KINDS: tuple[tuple[str, str], ...] = (
    (r"\.lora_|lora_[AB]\b|\.hada_|\.lokr_|\.on_input$|\.oft_blocks$", "a LoRA"),
    (r"^(?:emb_params|clip_[lg]|string_to_param|<[^>]+>)$", "an embedding"),
    (r"^(?:control_model\.|controlnet_|input_hint_block\.)", "a ControlNet"),
    (r"^(?:image_proj\.|ip_adapter\.)", "an IP-Adapter"),
    (r"^vision_model\.", "a CLIP vision model"),
    (r"^(?:model\.1\.sub\.|body\.0\.rdb1\.|RRDB_trunk\.|layers\.0\.residual_group\.)", "an upscaler"),
    (_PREFIX + r"transformer_blocks\.0\.img_mod\.", "a Qwen-Image model"),
    (_PREFIX + r"blocks\.0\.cross_attn\.", "a Wan video model"),
    (_PREFIX + r"double_blocks\.0\.img_mod\.linear\.", "a HunyuanVideo model"),
    (_PREFIX + r"double_blocks\.", "a model of FLUX's kind"),
    (_PREFIX + r"joint_blocks\.", "a model of SD3's kind"),
    (_PREFIX + r"down_blocks\.0\.\d+\.channelwise\.", "a Stable Cascade model"),
    (_PREFIX + r"cap_embedder\.", "a model of Lumina's kind"),
    (_PREFIX + r"down_blocks\.0\.resnets\.", "a U-Net in diffusers' names without its folder"),
)
_CHANNELS = {8: "an instruct-pix2pix model", 9: "an inpainting model"}


def describe_contents(header: Header) -> str:
    """In a few words, for the middle of a sentence."""
    for expression, what in _KINDS:
        if any(re.search(expression, key) for key in header.shapes):
            return what
    entry = next((shape for key, shape in header.shapes.items() if re.search(_PREFIX + r"input_blocks\.0\.0\.weight$", key)), None)
    if entry is not None:
        return _describe_unet(header, entry)
    if header.any_key("model.diffusion_model.", "diffusion_model."):
        return "a checkpoint of another model family"
    if header.any_key("decoder.", "first_stage_model."):
        return "a VAE"
    if header.any_key("text_model.", "encoder.block.", "cond_stage_model.", "transformer.resblocks."):
        return "a text encoder"
    return "a diffusion model of another family" if header.shapes else "an empty file"


def _describe_unet(header: Header, entry: tuple[int, ...]) -> str:
    if len(entry) == 4 and entry[1] in _CHANNELS:
        return _CHANNELS[entry[1]]
    if any(key.endswith("time_stack.0.norm1.weight") or ".time_stack." in key for key in header.shapes):
        return "a Stable Video Diffusion model"
    contexts = {shape[1] for key, shape in header.shapes.items() if key.endswith(".attn2.to_k.weight")}
    return "a Stable Diffusion 2 model" if contexts == {1024} else "a checkpoint of another model family"
