"""A family to copy: a U-Net of diffusers on sixteen latent channels, told by one CLIP, trained as a rectified flow. docs/add-a-family.md leads through it.

No such model is known outside the tests; every method is real all the same, and the contract test runs them.
A family's file ends with `FAMILIES.register("its name")(ItsClass())` and has no underscore in front of its name; this one
does neither, so that it is not in the drop-downs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..formats.header import Header
from ..types import BaseModel
from ._clip import chunk_ids, clip_key, clip_states, clip_targets, count_chunks, other_clip_names
from ._flow import guided, integrate, schedule
from ._latents import conditioning_of, decoded, encoded, start_noise
from ._pipeline import component, missing_components, pipeline_class
from ._tokenizers import CLIP_TOKENIZER, load_tokenizer, missing_tokenizer
from ._unet import num_unet_targets, unet_targets
from ._weights import read_json
from ._whole import SavedPart, as_in_folder
from .base import BaseFacts, Conditioning, Framing, ModulePlaces, Part, Prompted, TextStack

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

_NUM_TRAIN_TIMES = 1000
_FOLDER = (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model"))


class Template:
    # Facts, which widgets, checks and metadata read without loading anything.
    name = "template"
    title = "Template"
    modelspec_implementation = "diffusers"
    latent_channels = 16
    vae_stride_px = 8
    native_px = 512
    bucket_step_px = 64
    side_step_px = 8
    large_text = False
    max_chunks = 3
    max_clip_skip = 12
    sampler_name = "Euler"
    text_parts: tuple[Part, ...] = ("text_encoder",)
    has_block_rows = False
    reads_negative_prompt = True
    saves_whole = False
    separate_encoders: tuple[str, ...] = ()

    # Recognition: from names, shapes and JSON files alone. Exactly one family may say yes to a model.

    def matches(self, header: Header) -> bool:
        """Single files of a family are told by a tensor that no other family has; this one comes in folders only."""
        return False

    def matches_folder(self, folder: Path) -> bool:
        if pipeline_class(folder, "unet") != "UNet2DConditionModel":
            return False
        return read_json(folder / "unet" / "config.json").get("in_channels") == self.latent_channels

    def facts_of_file(self, header: Header) -> BaseFacts:
        return BaseFacts(self.native_px, self.bucket_step_px, "flow")

    def facts_of_folder(self, folder: Path) -> BaseFacts:
        """What differs from model to model of the family."""
        own_px = int(read_json(folder / "unet" / "config.json")["sample_size"]) * self.vae_stride_px
        return BaseFacts(own_px, min(self.bucket_step_px, own_px), "flow")

    def reads_guidance(self, base: BaseModel) -> bool:
        return True

    def kohya_version(self, base: BaseModel) -> str:
        return "template"

    def modelspec_architecture(self, base: BaseModel) -> str:
        return "template"

    def missing_files(self, base: BaseModel) -> tuple[str, ...]:
        """All of them at once, each with its place: the person gets one message instead of five attempts."""
        return (*missing_components(Path(base.path), _FOLDER), *missing_tokenizer(base, CLIP_TOKENIZER))

    # Loading: on the CPU, frozen, in evaluation mode, without a second copy in memory. See _native.fill for single files.

    def t5_part(self, base: BaseModel) -> Part | None:
        return None

    def load_text(self, base: BaseModel, dtype: torch.dtype) -> TextStack:
        from transformers import CLIPTextModel

        encoder = component(CLIPTextModel, Path(base.path) / "text_encoder", dtype)
        return TextStack((load_tokenizer(base, CLIP_TOKENIZER),), (encoder,), base.clip_skip)

    def load_vae(self, base: BaseModel) -> nn.Module:
        import torch
        from diffusers import AutoencoderKL

        return component(AutoencoderKL, Path(base.path) / "vae", torch.float32)

    def load_denoiser(self, base: BaseModel, dtype: torch.dtype) -> nn.Module:
        from diffusers import UNet2DConditionModel

        return component(UNet2DConditionModel, Path(base.path) / "unet", dtype)

    # Pictures to latents and back. The scale belongs to the latents, so that all else works on a variance near 1.

    def encode_images(self, vae: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return encoded(vae, pixels)

    def decode_latents(self, vae: nn.Module, latents: torch.Tensor) -> list[Image.Image]:
        return decoded(vae, latents)

    # Words to conditioning: any tensors that `predict` understands, a row for each caption.

    def num_chunks(self, text: TextStack, captions: Sequence[str]) -> int:
        return count_chunks(text.tokenizers[0], captions)

    def encode_text(self, text: TextStack, captions: Sequence[str], num_chunks: int) -> Conditioning:
        tokenizer, encoder = text.tokenizers[0], text.parts()["text_encoder"]
        ids = chunk_ids(tokenizer, captions, num_chunks, tokenizer.eos_token_id)
        return {"states": clip_states(encoder, ids, text.clip_skip or 1, normed=True)[0]}

    def frame(self, conditioning: Conditioning, framings: Sequence[Framing]) -> Conditioning:
        """SDXL adds sizes and crops here; most denoisers are told nothing of them."""
        return conditioning

    # The denoiser. What it should answer follows from the prediction in the facts: trainer/objective/noise.py.

    def training_times(self, base: BaseModel, uniform: torch.Tensor, latent_size: tuple[int, int]) -> torch.Tensor:
        return uniform

    def predict(self, denoiser: nn.Module, noisy: torch.Tensor, times: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        return denoiser(noisy, times * _NUM_TRAIN_TIMES, conditioning["states"]).sample

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
        noise = start_noise(prompts, (self.latent_channels, size_px[1] // self.vae_stride_px, size_px[0] // self.vae_stride_px), denoiser.device)
        positive, negative = (conditioning_of(prompts, side, denoiser.device) for side in (False, True))
        velocity_at = guided(lambda state, times, words: self.predict(denoiser, state, times, words), positive, negative, guidance)
        return decoded(vae, integrate(noise, schedule(steps, 1.0), velocity_at))

    # Adapters: which layers, how many that must be, and the names of their tensors in files.

    def adapter_targets(self, part: Part) -> str:
        return unet_targets() if part == "denoiser" else clip_targets()

    def expected_targets(self, part: Part, module: nn.Module) -> int:
        return num_unet_targets(module) if part == "denoiser" else 6 * module.config.num_hidden_layers

    def export_key(self, part: Part, module_name: str) -> str:
        return "lora_unet_" + module_name.replace(".", "_") if part == "denoiser" else clip_key("lora_te", module_name)

    def other_names(self, part: Part, module_name: str) -> tuple[str, ...]:
        return () if part == "denoiser" else other_clip_names("clip_l", module_name)

    def saved_parts(self, base: BaseModel) -> tuple[SavedPart, ...]:
        """Of a family without files of its own the denoiser's under diffusers' names; see _whole.py for the others."""
        return (as_in_folder(base, "denoiser", "unet", ""), as_in_folder(base, "text_encoder", "text_encoder", "text_encoder"))

    def token_tables(self, text: TextStack) -> tuple[tuple[str, nn.Module, str], ...]:
        encoder = text.parts()["text_encoder"]
        return (("clip_l", getattr(encoder, "text_model", encoder).embeddings, "token_embedding"),)

    def weights_in(self, header: Header) -> Mapping[Part, ModulePlaces]:
        """For what reads and writes files of weights without loading the model; this family has no single files."""
        return {"denoiser": {}, "text_encoder": {}}
