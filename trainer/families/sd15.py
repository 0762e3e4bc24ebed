"""Stable Diffusion 1.x: one CLIP-L text encoder, four latent channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..formats.header import Header
from ..formats.unet_names import SD1_LAYOUT
from ..noise import discrete
from ..types import BaseModel
from . import FAMILIES
from ._clip import L_KINDS, chunk_ids, clip_key, clip_states, clip_targets, count_chunks, load_clip_model, other_clip_names
from ._parts import open_any, text_paths
from ._pipeline import component
from ._sd_base import facts_of_folder, load_unet_of, load_vae_of, missing_sd_files, shape_of_header, unet_folder_matches
from ._tokenizers import CLIP_TOKENIZER, load_tokenizer
from ._unet import decoded, encoded, num_unet_targets, pictures, prediction_of, unet_targets
from .base import BaseFacts, Conditioning, Framing, Part, Prompted, TextStack

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

_NUM_HEADS = 8
_H_WIDTH = 1024
"""Of CLIP-H, which SD2 reads."""
_FOLDER = (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model"))


class SD15:
    name = "sd15"
    title = "SD1.5"
    modelspec_implementation = "diffusers"
    latent_channels = 4
    vae_stride_px = 8
    native_px = 512
    bucket_step_px = 64
    side_step_px = 8
    large_text = False
    max_chunks = 3
    max_clip_skip = 12
    text_parts: tuple[Part, ...] = ("text_encoder",)
    separate_encoders: tuple[str, ...] = ()

    def matches(self, header: Header) -> bool:
        shape = shape_of_header(header)
        return (
            shape is not None
            and shape.in_channels == self.latent_channels
            and not shape.label_width
            and not shape.linear
            and shape.context_width != _H_WIDTH
        )

    def matches_folder(self, folder: Path) -> bool:
        unet = unet_folder_matches(folder, 1)
        return unet is not None and unet.get("cross_attention_dim") != _H_WIDTH and not unet.get("use_linear_projection")

    def facts_of_file(self, header: Header) -> BaseFacts:
        return BaseFacts(self.native_px, self.bucket_step_px, *prediction_of(header))

    def facts_of_folder(self, folder: Path) -> BaseFacts:
        return facts_of_folder(folder, self.native_px, self.bucket_step_px)

    def kohya_version(self, base: BaseModel) -> str:
        return "sd_v1"

    def modelspec_architecture(self, base: BaseModel) -> str:
        return "stable-diffusion-v1"

    def missing_files(self, base: BaseModel) -> tuple[str, ...]:
        return missing_sd_files(base, _FOLDER, (L_KINDS,))

    def t5_part(self, base: BaseModel) -> Part | None:
        return None

    def load_text(self, base: BaseModel, dtype: torch.dtype) -> TextStack:
        from transformers import CLIPTextModel

        tokenizer, path = load_tokenizer(base, CLIP_TOKENIZER), Path(base.path)
        if path.is_dir():
            encoder = component(CLIPTextModel, path / "text_encoder", dtype)
        else:
            encoder = load_clip_model(open_any(L_KINDS, text_paths(base)), dtype, "quick_gelu", projected=False)
        return TextStack((tokenizer,), (encoder,), base.clip_skip)

    def load_vae(self, base: BaseModel) -> nn.Module:
        return load_vae_of(base, 0.18215)

    def load_denoiser(self, base: BaseModel, dtype: torch.dtype) -> nn.Module:
        return load_unet_of(base, lambda width: _NUM_HEADS, self.native_px, dtype)

    def encode_images(self, vae: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return encoded(vae, pixels)

    def decode_latents(self, vae: nn.Module, latents: torch.Tensor) -> list[Image.Image]:
        return decoded(vae, latents)

    def num_chunks(self, text: TextStack, captions: Sequence[str]) -> int:
        return count_chunks(text.tokenizers[0], captions)

    def encode_text(self, text: TextStack, captions: Sequence[str], num_chunks: int) -> Conditioning:
        tokenizer, encoder = text.tokenizers[0], text.parts()["text_encoder"]
        ids = chunk_ids(tokenizer, captions, num_chunks, tokenizer.eos_token_id)
        return {"states": clip_states(encoder, ids, text.clip_skip or 1, normed=True)[0]}

    def frame(self, conditioning: Conditioning, framings: Sequence[Framing]) -> Conditioning:
        return conditioning

    def training_times(self, base: BaseModel, uniform: torch.Tensor, latent_size: tuple[int, int]) -> torch.Tensor:
        return uniform

    def predict(self, denoiser: nn.Module, noisy: torch.Tensor, times: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        return denoiser(noisy, discrete(times), conditioning["states"]).sample

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
            return denoiser(noisy, time, told["states"]).sample

        return pictures(base, denoiser, vae, answer, prompts, steps, guidance, size_px)

    def adapter_targets(self, part: Part) -> str:
        """192 modules in the full U-Net, 72 in the text encoder."""
        return unet_targets() if part == "denoiser" else clip_targets()

    def expected_targets(self, part: Part, module: nn.Module) -> int:
        return num_unet_targets(module) if part == "denoiser" else 6 * module.config.num_hidden_layers

    def export_key(self, part: Part, module_name: str) -> str:
        return "lora_unet_" + module_name.replace(".", "_") if part == "denoiser" else clip_key("lora_te", module_name)

    def other_names(self, part: Part, module_name: str) -> tuple[str, ...]:
        if part == "denoiser":
            return (SD1_LAYOUT.native(module_name),)
        return clip_key("lora_te1", module_name), *other_clip_names("clip_l", module_name)

    def token_tables(self, text: TextStack) -> tuple[tuple[str, nn.Module, str], ...]:
        encoder = text.parts()["text_encoder"]
        return (("emb_params", getattr(encoder, "text_model", encoder).embeddings, "token_embedding"),)


FAMILIES.register("sd15")(SD15())
