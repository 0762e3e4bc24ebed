"""Stable Diffusion XL: CLIP-L and CLIP-G, sizes and crops told to the U-Net, four latent channels (Podell et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..formats.header import Header
from ..formats.unet_names import SDXL_LAYOUT
from ..objective.noise import discrete
from ..types import BaseModel
from . import FAMILIES
from ._clip import G_KINDS, L_KINDS, chunk_ids, clip_key, clip_pooled, clip_states, clip_targets, count_chunks, load_clip_model, other_clip_names
from ._parts import open_any, text_paths
from ._pipeline import component
from ._places import clip_places, unet_places
from ._sd_base import facts_of_folder, load_unet_of, load_vae_of, missing_sd_files, shape_of_header, unet_folder_matches
from ._tokenizers import CLIP_TOKENIZER, load_tokenizer
from ._unet import decoded, encoded, num_unet_targets, pictures, prediction_of, unet_targets
from ._whole import SavedPart, clip_part, open_clip_part, sd_vae_part, unet_part
from .base import BaseFacts, Conditioning, Framing, ModulePlaces, Part, Prompted, TextStack

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

_HEAD_WIDTH = 64
_G_PAD_ID = 0
"""OpenCLIP fills up with zeros, where CLIP-L has its end token."""
_LAYER = 2
"""The last layer but one of both encoders, without the final norm."""
_REFINER_LABEL_WIDTH = 2560
_SIZES_WIDTH = 6 * 256
"""Of what the U-Net is told of sizes and crops, beside CLIP-G's pooled output."""
_UNCLIP_CONTEXT = 1024
"""Of SD2's unCLIP models, whose U-Net is told of a picture beside the time."""
_FOLDER = (
    ("unet", "diffusion_pytorch_model"),
    ("vae", "diffusion_pytorch_model"),
    ("text_encoder", "model"),
    ("text_encoder_2", "model"),
)


class SDXL:
    name = "sdxl"
    title = "SDXL"
    modelspec_implementation = "https://github.com/Stability-AI/generative-models"
    latent_channels = 4
    vae_stride_px = 8
    native_px = 1024
    bucket_step_px = 64
    side_step_px = 8
    large_text = False
    max_chunks = 3
    max_clip_skip = 12
    sampler_name = "DDIM"
    text_parts: tuple[Part, ...] = ("text_encoder", "text_encoder_2")
    has_block_rows = False
    reads_negative_prompt = True
    saves_whole = True
    separate_encoders: tuple[str, ...] = ()

    def matches(self, header: Header) -> bool:
        shape = shape_of_header(header)
        if shape is None or not shape.label_width or not shape.linear or shape.context_width == _UNCLIP_CONTEXT:
            return False
        if shape.label_width == _REFINER_LABEL_WIDTH:
            raise AthanorError("This file is the SDXL refiner, which only finishes pictures of SDXL; choose an SDXL base checkpoint.")
        if shape.in_channels != self.latent_channels:
            return False
        if not 0 < shape.label_width - _SIZES_WIDTH < shape.context_width:
            raise AthanorError("This file is a relation of SDXL with another text encoder (Kolors), which cannot be trained; choose SDXL itself.")
        if any(name in header.shapes for name in ("edm_mean", "edm_vpred.sigma_max")):
            raise AthanorError(
                "This file is of the SDXL kind that was trained on the EDM noise schedule (Playground v2.5, CosXL), which cannot be trained; choose another SDXL checkpoint."
            )
        if shape.num_layers != SDXL_LAYOUT.num_layers or shape.layout != SDXL_LAYOUT:
            raise AthanorError(
                "This file is a small relation of SDXL with fewer layers a level (KOALA), which cannot be trained; choose SDXL itself."
            )
        return True

    def matches_folder(self, folder: Path) -> bool:
        unet = unet_folder_matches(folder, 2)
        return unet is not None and unet.get("addition_embed_type") == "text_time"

    def facts_of_file(self, header: Header) -> BaseFacts:
        return BaseFacts(self.native_px, self.bucket_step_px, *prediction_of(header))

    def facts_of_folder(self, folder: Path) -> BaseFacts:
        return facts_of_folder(folder, self.native_px, self.bucket_step_px)

    def reads_guidance(self, base: BaseModel) -> bool:
        return True

    def kohya_version(self, base: BaseModel) -> str:
        return "sdxl_base_v1-0"

    def modelspec_architecture(self, base: BaseModel) -> str:
        return "stable-diffusion-xl-v1-base"

    def missing_files(self, base: BaseModel) -> tuple[str, ...]:
        return missing_sd_files(base, _FOLDER, (L_KINDS, G_KINDS))

    def t5_part(self, base: BaseModel) -> Part | None:
        return None

    def load_text(self, base: BaseModel, dtype: torch.dtype) -> TextStack:
        """CLIP-L and CLIP-G, each with a tokenizer of its own, since an embedding adds words to it."""
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        path, tokenizers = Path(base.path), (load_tokenizer(base, CLIP_TOKENIZER), load_tokenizer(base, CLIP_TOKENIZER))
        if path.is_dir():
            first = component(CLIPTextModel, path / "text_encoder", dtype)
            second = component(CLIPTextModelWithProjection, path / "text_encoder_2", dtype)
        else:
            first = load_clip_model(open_any(L_KINDS, text_paths(base)), dtype, "quick_gelu", projected=False)
            second = load_clip_model(open_any(G_KINDS, text_paths(base)), dtype, "gelu", projected=True)
        return TextStack(tokenizers, (first, second), base.clip_skip)

    def load_vae(self, base: BaseModel) -> nn.Module:
        return load_vae_of(base, 0.13025)

    def load_denoiser(self, base: BaseModel, dtype: torch.dtype) -> nn.Module:
        return load_unet_of(base, lambda width: max(1, width // _HEAD_WIDTH), self.native_px, dtype)

    def encode_images(self, vae: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return encoded(vae, pixels)

    def decode_latents(self, vae: nn.Module, latents: torch.Tensor) -> list[Image.Image]:
        return decoded(vae, latents)

    def num_chunks(self, text: TextStack, captions: Sequence[str]) -> int:
        return count_chunks(text.tokenizers[0], captions)

    def encode_text(self, text: TextStack, captions: Sequence[str], num_chunks: int) -> Conditioning:
        """States of both encoders side by side, [B, T, D_L + D_G], and CLIP-G's pooled output of the first piece, [B, D_G]."""
        import torch

        encoders, (first, second) = text.parts(), text.tokenizers
        layer, end_id = text.clip_skip or _LAYER, second.eos_token_id
        states_l, _ = clip_states(encoders["text_encoder"], chunk_ids(first, captions, num_chunks, first.eos_token_id), layer, normed=False)
        ids = chunk_ids(second, captions, num_chunks, _G_PAD_ID)
        states_g, last = clip_states(encoders["text_encoder_2"], ids, layer, normed=False)
        return {"states": torch.cat([states_l, states_g], dim=-1), "pooled": clip_pooled(encoders["text_encoder_2"], ids, last, end_id)}

    def frame(self, conditioning: Conditioning, framings: Sequence[Framing]) -> Conditioning:
        """Adds "sizes" [B, 6]: height and width before the resizing, top and left of the crop, height and width shown (Podell et al. 2023, section 2.2)."""
        import torch

        rows = [[*reversed(framing.original_px), *reversed(framing.crop_px), *reversed(framing.shown_px)] for framing in framings]
        return {**conditioning, "sizes": torch.tensor(rows, dtype=torch.float32, device=conditioning["pooled"].device)}

    def training_times(self, base: BaseModel, uniform: torch.Tensor, latent_size: tuple[int, int]) -> torch.Tensor:
        """All alike (Ho et al. 2020, algorithm 1)."""
        return uniform

    def predict(self, denoiser: nn.Module, noisy: torch.Tensor, times: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        return _answer(denoiser, noisy, discrete(times), conditioning)

    def sample(
        self,
        base: BaseModel,
        denoiser: nn.Module,
        vae: nn.Module,
        prompts: Sequence[Prompted],
        steps: int,
        guidance: float,
        size_px: tuple[int, int],
    ) -> list[Image.Image]:
        def answer(noisy: torch.Tensor, time: torch.Tensor, told: Mapping[str, torch.Tensor]) -> torch.Tensor:
            return _answer(denoiser, noisy, time, told)

        return pictures(base, denoiser, vae, answer, prompts, steps, guidance, size_px)

    def adapter_targets(self, part: Part) -> str:
        """722 modules in the full U-Net, 72 and 192 in the text encoders."""
        return unet_targets() if part == "denoiser" else clip_targets()

    def expected_targets(self, part: Part, module: nn.Module) -> int:
        return num_unet_targets(module) if part == "denoiser" else 6 * module.config.num_hidden_layers

    def export_key(self, part: Part, module_name: str) -> str:
        """In the U-Net by Stability's names, as sd-scripts has it, so that A1111 and Forge take it too."""
        if part == "denoiser":
            return "lora_unet_" + (SDXL_LAYOUT.native(module_name).replace(".", "_") if module_name else "")
        return clip_key("lora_te1" if part == "text_encoder" else "lora_te2", module_name)

    def other_names(self, part: Part, module_name: str) -> tuple[str, ...]:
        return () if part == "denoiser" else other_clip_names("clip_l" if part == "text_encoder" else "clip_g", module_name)

    def saved_parts(self, base: BaseModel) -> tuple[SavedPart, ...]:
        first = clip_part(base, "text_encoder", L_KINDS, "conditioner.embedders.0.transformer.")
        return (unet_part(base), first, open_clip_part(base, "text_encoder_2", G_KINDS, "conditioner.embedders.1.model."), sd_vae_part(base))

    def token_tables(self, text: TextStack) -> tuple[tuple[str, nn.Module, str], ...]:
        names = (("clip_l", "text_encoder"), ("clip_g", "text_encoder_2"))
        encoders: Mapping[Part, nn.Module] = text.parts()
        return tuple((key, getattr(encoders[part], "text_model", encoders[part]).embeddings, "token_embedding") for key, part in names)

    def weights_in(self, header: Header) -> Mapping[Part, ModulePlaces]:
        clips = {"text_encoder": clip_places(header, L_KINDS), "text_encoder_2": clip_places(header, G_KINDS)}
        return {"denoiser": unet_places(header), **clips}


def _answer(denoiser: nn.Module, noisy: torch.Tensor, steps: torch.Tensor, conditioning: Mapping[str, torch.Tensor]) -> torch.Tensor:
    told = {"text_embeds": conditioning["pooled"], "time_ids": conditioning["sizes"]}
    return denoiser(noisy, steps, conditioning["states"], added_cond_kwargs=told).sample


FAMILIES.register("sdxl")(SDXL())
