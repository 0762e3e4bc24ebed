"""Stable Diffusion 2.x: one CLIP-H text encoder, four latent channels; those of 768 px predict v."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..formats.header import Header
from ..formats.unet_names import SD1_LAYOUT
from ..types import BaseModel
from . import FAMILIES
from ._clip import H_KINDS, chunk_ids, clip_key, clip_states, clip_targets, load_clip_model, other_clip_names
from ._native import TensorFile
from ._one_clip import FOLDER_PARTS, OneClip
from ._parts import open_any, text_paths
from ._pipeline import component
from ._places import clip_places, unet_places
from ._sd_base import load_unet_of, missing_sd_files, shape_of_header, unet_folder_matches
from ._tokenizers import CLIP_TOKENIZER, load_tokenizer
from ._unet import prediction_of, unet_prefix, unet_targets
from ._whole import SavedPart, open_clip_part, sd_vae_part, unet_part
from .base import BaseFacts, Conditioning, ModulePlaces, Part, TextStack

if TYPE_CHECKING:
    import torch
    from torch import nn

_HEAD_WIDTH = 64
_PAD_ID = 0
_LAYER = 2
_OTHER_WIDTHS = (768, 2048)
"""Of what SD1.5 and SDXL read."""
_V_PX = 768
_TELLING = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
_V_SPREAD = 0.09
"""ComfyUI's mark between both kinds, which nothing in the files' names tells apart."""


class SD2(OneClip):
    name = "sd2"
    title = "SD2"

    def matches(self, header: Header) -> bool:
        shape = shape_of_header(header)
        fits = shape is not None and shape.in_channels == self.latent_channels and not shape.label_width and shape.linear
        return fits and shape.context_width not in _OTHER_WIDTHS

    def matches_folder(self, folder: Path) -> bool:
        unet = unet_folder_matches(folder, 1)
        # unCLIP has a class embedding, SDXL's refiner an addition.
        return unet is not None and bool(unet.get("use_linear_projection")) and not (unet.get("class_embed_type") or unet.get("addition_embed_type"))

    def facts_of_file(self, header: Header) -> BaseFacts:
        """By one small tensor where the names do not tell the prediction, as ComfyUI does it."""
        prediction, zero_terminal = prediction_of(header)
        if prediction == "v" or _spread(header) > _V_SPREAD:
            return BaseFacts(_V_PX, self.bucket_step_px, "v", zero_terminal_snr=zero_terminal)
        return BaseFacts(self.native_px, self.bucket_step_px, "epsilon", zero_terminal_snr=zero_terminal)

    def kohya_version(self, base: BaseModel) -> str:
        return "sd_v2_v" if base.prediction == "v" else "sd_v2"

    def modelspec_architecture(self, base: BaseModel) -> str:
        return "stable-diffusion-v2-768-v" if base.prediction == "v" else "stable-diffusion-v2-512"

    def missing_files(self, base: BaseModel) -> tuple[str, ...]:
        return missing_sd_files(base, FOLDER_PARTS, (H_KINDS,))

    def load_text(self, base: BaseModel, dtype: torch.dtype) -> TextStack:
        """Of CLIP-H the last layer but one is read; diffusers folders come without the last one."""
        from transformers import CLIPTextModel

        tokenizer, path, layer = load_tokenizer(base, CLIP_TOKENIZER), Path(base.path), base.clip_skip or _LAYER
        if path.is_dir():
            return TextStack((tokenizer,), (component(CLIPTextModel, path / "text_encoder", dtype),), max(1, layer - 1))
        return TextStack((tokenizer,), (load_clip_model(open_any(H_KINDS, text_paths(base)), dtype, "gelu", projected=False),), layer)

    def load_denoiser(self, base: BaseModel, dtype: torch.dtype) -> nn.Module:
        return load_unet_of(base, lambda width: max(1, width // _HEAD_WIDTH), self.native_px, dtype)

    def encode_text(self, text: TextStack, captions: Sequence[str], num_chunks: int) -> Conditioning:
        tokenizer, encoder = text.tokenizers[0], text.parts()["text_encoder"]
        ids = chunk_ids(tokenizer, captions, num_chunks, _PAD_ID)
        return {"states": clip_states(encoder, ids, text.clip_skip, normed=True)[0]}

    def adapter_targets(self, part: Part) -> str:
        """192 modules in the full U-Net, 144 in the text encoder, of which a diffusers folder has 138."""
        return unet_targets() if part == "denoiser" else clip_targets()

    def other_names(self, part: Part, module_name: str) -> tuple[str, ...]:
        if part == "denoiser":
            return (SD1_LAYOUT.native(module_name),)
        return clip_key("lora_te1", module_name), *other_clip_names("clip_h", module_name)

    def saved_parts(self, base: BaseModel) -> tuple[SavedPart, ...]:
        return (unet_part(base), open_clip_part(base, "text_encoder", H_KINDS, "cond_stage_model.model."), sd_vae_part(base))

    def weights_in(self, header: Header) -> Mapping[Part, ModulePlaces]:
        return {"denoiser": unet_places(header), "text_encoder": clip_places(header, H_KINDS)}


def _spread(header: Header) -> float:
    """The standard deviation of the tensor that tells; 0 where it is not there."""
    prefix = unet_prefix(header)
    if header.path is None or prefix is None or prefix + _TELLING not in header.shapes:
        return 0.0
    return float(TensorFile(header.path, prefix).stored(_TELLING).float().std(unbiased=False))


FAMILIES.register("sd2")(SD2())
