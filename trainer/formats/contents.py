"""What a file is that is not the wanted one, told from its header."""

from __future__ import annotations

import re

from .header import Header

_PREFIX = r"^(?:model\.diffusion_model\.|diffusion_model\.)?"
_UNET, _TRANSFORMER = "a U-Net in diffusers' names without its folder", "a transformer in diffusers' names without its folder"
_KINDS: tuple[tuple[str, str], ...] = (
    (r"^lllite_", "a ControlNet (LLLite)"),
    (r"\.lora_|lora_[AB]\b|\.hada_|\.lokr_|\.on_input$|\.oft_|\.vera_|\.diff(?:_b)?$|\.[wb]_norm$|\.[ab][12]\.weight$", "a LoRA"),
    (r"^(?:emb_params|clip_[lg]|string_to_param|\*|<[^>]+>)$", "an embedding"),
    (r"^(?:control_model\.|controlnet_|input_hint_block\.)", "a ControlNet"),
    (r"motion_modules\.", "an AnimateDiff motion module"),
    (r"^redux_(?:up|down)\.", "a FLUX Redux adapter"),
    (r"^image_proj\.|(?:^|\.)ip_adapter", "an IP-Adapter"),
    (r"^pulid_", "a PuLID adapter"),
    (r"^adapter\.(?:body|conv_in)|^body\.\d+\.in_conv\.", "a T2I-Adapter"),
    (r"^\d+\.linear\.\d+\.", "a hypernetwork"),
    (r"^(?:taesd_)?(?:encoder|decoder)?\.?(?:layers\.)?\d+\.conv\.\d+\.weight$", "a small VAE for previews (TAESD)"),
    (r"^model\.\d+\.conv\.weight$", "a model that finds things in pictures (YOLO)"),
    (r"^vision_model\.", "a CLIP vision model"),
    (r"^(?:model\.1\.sub\.|body\.0\.(?:rdb1\.|weight$)|RRDB_trunk\.|layers\.0\.residual_group\.|conv_first\.)", "an upscaler"),
    (r"^(?:image_encoder|prompt_encoder|mask_decoder)\.", "a segmentation model"),
    (r"^(?:model\.layers\.\d+\.self_attn|lm_head)\.", "a language model"),
    (_PREFIX + r"transformer_blocks\.0\.img_mod\.", "a Qwen-Image model"),
    (_PREFIX + r"blocks\.0\.cross_attn\.(?:q|kv)_linear\.", "a PixArt model"),
    (_PREFIX + r"(?:net\.)?blocks\.(?:0\.cross_attn\.q_proj|block0\.)", "a Cosmos model"),
    (_PREFIX + r"blocks\.0\.cross_attn\.", "a Wan video model"),
    (_PREFIX + r"adaln_single\.", "a model of PixArt's or LTX-Video's kind"),
    (_PREFIX + r"(?:joint_layers|double_layers)\.0\.", "an AuraFlow model"),
    (_PREFIX + r"(?:mlp_t5|blocks\.0\.attn1\.Wqkv)\.", "a HunyuanDiT model"),
    (_PREFIX + r"t5_yproj\.", "a Mochi video model"),
    (_PREFIX + r"caption_projection\.0\.linear\.", "a HiDream model"),
    (_PREFIX + r"time_caption_embed\.", "an OmniGen2 model"),
    (_PREFIX + r"visual_transformer_blocks\.", "a Kandinsky model"),
    (r"txt_in\.individual_token_refiner\.", "a HunyuanVideo model"),
    (_PREFIX + r"double_blocks\.0\.img_mod\.linear\.", "a HunyuanVideo model"),
    (_PREFIX + r"double_blocks\.", "a model of FLUX's kind"),
    (_PREFIX + r"joint_blocks\.", "a model of SD3's kind"),
    (_PREFIX + r"down_blocks\.0\.\d+\.channelwise\.", "a Stable Cascade model"),
    (_PREFIX + r"cap_embedder\.", "a model of Lumina's kind"),
    (_PREFIX + r"down_blocks\.0\.resnets\.", _UNET),
    (_PREFIX + r"(?:single_)?transformer_blocks\.0\.attn\.", _TRANSFORMER),
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
    if header.any_key("text_model.", "encoder.block.", "encoder.layers.", "cond_stage_model.", "transformer.resblocks."):
        return "a text encoder"
    return "a model of an unknown kind" if header.shapes else "a file without weights"


def in_diffusers_names(header: Header) -> bool:
    """Whether the file is a denoiser as diffusers names its layers, without the folder that tells its sizes."""
    return describe_contents(header) in (_UNET, _TRANSFORMER)


def _describe_unet(header: Header, entry: tuple[int, ...]) -> str:
    if any(".time_stack." in key for key in header.shapes):
        return "a Stable Video Diffusion model"
    if len(entry) == 4 and entry[1] in _CHANNELS:
        return _CHANNELS[entry[1]]
    contexts = {shape[1] for key, shape in header.shapes.items() if key.endswith(".attn2.to_k.weight")}
    return "a relation of Stable Diffusion 2 (depth or unCLIP)" if contexts == {1024} else "a checkpoint of another model family"


def packed_as(header: Header) -> str:
    """The name of a storage that keeps weights packed and cannot be trained upon; "" for plain ones and fp8."""
    if any(key.endswith((".absmax", ".quant_map")) for key in header.shapes):
        return "NF4 or FP4 of bitsandbytes"
    if any(key.endswith((".qweight", ".wscales")) for key in header.shapes):
        return "4 bits of Nunchaku or GPTQ"
    return ""


_TRANSFORMERS = (
    ("flux", r"double_blocks[._]|single_blocks[._]\d|single_transformer_blocks[._]"),
    ("sd35", r"joint_blocks[._]|transformer_blocks[._]\d+[._]attn2?[._](?:add_|to_add)"),
)
_CONTEXTS = {768: "sd15", 1024: "sd2", 2048: "sdxl"}


def lora_family(header: Header) -> str:
    """The family that a LoRA was made for, told from names and widths; "" where they do not tell."""
    for name, expression in _TRANSFORMERS:
        if any(re.search(expression, key) for key in header.shapes):
            return name
    for key, shape in header.shapes.items():
        if re.search(r"attn2[._]to_[kv]", key) and re.search(r"lora_down|lora_A|lora\.down", key) and len(shape) > 1:
            return _CONTEXTS.get(shape[1], "")
    return ""
