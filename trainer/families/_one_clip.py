"""What SD1.5 and SD2 answer alike: a U-Net of four latent channels that reads one CLIP text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..objective.noise import discrete
from ..types import BaseModel
from ._clip import clip_key, count_chunks
from ._sd_base import facts_of_folder, load_vae_of
from ._unet import decoded, encoded, num_unet_targets, pictures
from .base import BaseFacts, Conditioning, Framing, Part, Prompted, TextStack

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

FOLDER_PARTS = (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model"))


class OneClip:
    modelspec_implementation = "diffusers"
    latent_channels = 4
    vae_stride_px = 8
    native_px = 512
    bucket_step_px = 64
    side_step_px = 8
    large_text = False
    max_chunks = 3
    max_clip_skip = 12
    sampler_name = "DDIM"
    text_parts: tuple[Part, ...] = ("text_encoder",)
    has_block_rows = False
    reads_negative_prompt = True
    saves_whole = True
    separate_encoders: tuple[str, ...] = ()

    def facts_of_folder(self, folder: Path) -> BaseFacts:
        return facts_of_folder(folder, self.native_px, self.bucket_step_px)

    def reads_guidance(self, base: BaseModel) -> bool:
        return True

    def t5_part(self, base: BaseModel) -> Part | None:
        return None

    def load_vae(self, base: BaseModel) -> nn.Module:
        return load_vae_of(base, 0.18215)

    def encode_images(self, vae: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return encoded(vae, pixels)

    def decode_latents(self, vae: nn.Module, latents: torch.Tensor) -> list[Image.Image]:
        return decoded(vae, latents)

    def num_chunks(self, text: TextStack, captions: Sequence[str]) -> int:
        return count_chunks(text.tokenizers[0], captions)

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

    def expected_targets(self, part: Part, module: nn.Module) -> int:
        return num_unet_targets(module) if part == "denoiser" else 6 * module.config.num_hidden_layers

    def export_key(self, part: Part, module_name: str) -> str:
        return "lora_unet_" + module_name.replace(".", "_") if part == "denoiser" else clip_key("lora_te", module_name)

    def token_tables(self, text: TextStack) -> tuple[tuple[str, nn.Module, str], ...]:
        encoder = text.parts()["text_encoder"]
        return (("emb_params", getattr(encoder, "text_model", encoder).embeddings, "token_embedding"),)
