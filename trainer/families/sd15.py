"""Stable Diffusion 1.x: one CLIP-L text encoder, four latent channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..formats.header import Header
from ..formats.unet_names import SD1_LAYOUT
from ..types import BaseModel
from . import FAMILIES
from ._clip import L_KINDS, chunk_ids, clip_key, clip_states, clip_targets, load_clip_model, other_clip_names
from ._one_clip import FOLDER_PARTS, OneClip
from ._parts import open_any, text_paths
from ._pipeline import component
from ._places import clip_places, unet_places
from ._sd_base import load_unet_of, missing_sd_files, shape_of_header, unet_folder_matches
from ._tokenizers import CLIP_TOKENIZER, load_tokenizer
from ._unet import prediction_of, unet_targets
from ._whole import SavedPart, clip_part, sd_vae_part, unet_part
from .base import BaseFacts, Conditioning, ModulePlaces, Part, TextStack

if TYPE_CHECKING:
    import torch
    from torch import nn

_NUM_HEADS = 8
_H_WIDTH = 1024
"""Of CLIP-H, which SD2 reads."""
_XL_WIDTH = 2048
"""Of SDXL's two encoders."""


class SD15(OneClip):
    name = "sd15"
    title = "SD1.5"

    def matches(self, header: Header) -> bool:
        shape = shape_of_header(header)
        return (
            shape is not None
            and shape.in_channels == self.latent_channels
            and not shape.label_width
            and not shape.linear
            and shape.context_width not in (_H_WIDTH, _XL_WIDTH)
        )

    def matches_folder(self, folder: Path) -> bool:
        unet = unet_folder_matches(folder, 1)
        return unet is not None and unet.get("cross_attention_dim") != _H_WIDTH and not unet.get("use_linear_projection")

    def facts_of_file(self, header: Header) -> BaseFacts:
        return BaseFacts(self.native_px, self.bucket_step_px, *prediction_of(header))

    def kohya_version(self, base: BaseModel) -> str:
        return "sd_v1"

    def modelspec_architecture(self, base: BaseModel) -> str:
        return "stable-diffusion-v1"

    def missing_files(self, base: BaseModel) -> tuple[str, ...]:
        return missing_sd_files(base, FOLDER_PARTS, (L_KINDS,))

    def load_text(self, base: BaseModel, dtype: torch.dtype) -> TextStack:
        from transformers import CLIPTextModel

        tokenizer, path = load_tokenizer(base, CLIP_TOKENIZER), Path(base.path)
        if path.is_dir():
            encoder = component(CLIPTextModel, path / "text_encoder", dtype)
        else:
            encoder = load_clip_model(open_any(L_KINDS, text_paths(base)), dtype, "quick_gelu", projected=False)
        return TextStack((tokenizer,), (encoder,), base.clip_skip)

    def load_denoiser(self, base: BaseModel, dtype: torch.dtype) -> nn.Module:
        return load_unet_of(base, lambda width: _NUM_HEADS, self.native_px, dtype)

    def encode_text(self, text: TextStack, captions: Sequence[str], num_chunks: int) -> Conditioning:
        tokenizer, encoder = text.tokenizers[0], text.parts()["text_encoder"]
        ids = chunk_ids(tokenizer, captions, num_chunks, tokenizer.eos_token_id)
        return {"states": clip_states(encoder, ids, text.clip_skip or 1, normed=True)[0]}

    def adapter_targets(self, part: Part) -> str:
        """192 modules in the full U-Net, 72 in the text encoder."""
        return unet_targets() if part == "denoiser" else clip_targets()

    def other_names(self, part: Part, module_name: str) -> tuple[str, ...]:
        if part == "denoiser":
            return (SD1_LAYOUT.native(module_name),)
        return clip_key("lora_te1", module_name), *other_clip_names("clip_l", module_name)

    def saved_parts(self, base: BaseModel) -> tuple[SavedPart, ...]:
        return (unet_part(base), clip_part(base, "text_encoder", L_KINDS, "cond_stage_model.transformer."), sd_vae_part(base))

    def weights_in(self, header: Header) -> Mapping[Part, ModulePlaces]:
        return {"denoiser": unet_places(header), "text_encoder": clip_places(header, L_KINDS)}


FAMILIES.register("sd15")(SD15())
