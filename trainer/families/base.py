"""What a model family must be: facts as attributes, verbs as methods.

Nothing heavy is imported here or at the head of a family's file: the host reads the facts and `matches` without torch.

Shapes: B images, C latent channels, H x W latent rows and columns, T tokens, D width of the text encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from ..formats.header import Header
from ..types import BaseModel

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

Conditioning = Mapping[str, "torch.Tensor"]
"""What the denoiser is told beside the noisy latents; each tensor has B as its first dimension."""

Part = Literal["denoiser", "text_encoder"]
PARTS: tuple[Part, ...] = ("denoiser", "text_encoder")


@dataclass
class TextStack:
    """A family's tokenizers and text encoders, in the family's own order."""

    tokenizers: tuple
    encoders: tuple[nn.Module, ...]


@dataclass(frozen=True)
class Prompted:
    """What to draw: one conditioning for the prompt and one for the negative prompt, both with B = 1."""

    positive: Conditioning
    negative: Conditioning
    seed: int


class Family(Protocol):
    name: str
    title: str
    """For people."""
    kohya_version: str
    """`ss_base_model_version` of sd-scripts."""
    modelspec_architecture: str
    latent_channels: int
    vae_stride_px: int
    native_px: int
    bucket_step_px: int
    max_chunks: int
    """How many pieces of 75 tokens a caption may fill."""

    def matches(self, header: Header) -> bool:
        """True for a checkpoint file of this family, judged from names and shapes alone."""
        ...

    def matches_folder(self, folder: Path) -> bool:
        """True for a diffusers folder of this family, judged from its JSON files alone."""
        ...

    def sizes_px(self, path: Path) -> tuple[int, int]:
        """Native side and bucket step of this very model."""
        ...

    def missing_files(self, base: BaseModel) -> tuple[str, ...]:
        """A sentence for each file that a training needs and that is not there."""
        ...

    def load_text(self, base: BaseModel, dtype: torch.dtype) -> TextStack: ...

    def load_vae(self, base: BaseModel) -> nn.Module:
        """Always fp32: half precision overflows in some VAEs."""
        ...

    def load_denoiser(self, base: BaseModel, dtype: torch.dtype) -> nn.Module: ...

    def encode_images(self, vae: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the scaled latents, [B, C, H, W] each, of pixels [B, 3, 8H, 8W] in -1..1."""
        ...

    def decode_latents(self, vae: nn.Module, latents: torch.Tensor) -> list[Image.Image]: ...

    def num_chunks(self, text: TextStack, captions: Sequence[str]) -> int:
        """Pieces of 75 tokens that the longest caption fills, at least 1; may be over `max_chunks`."""
        ...

    def encode_text(self, text: TextStack, captions: Sequence[str], num_chunks: int) -> Conditioning: ...

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Noisy latents [B, C, H, W] at `times` [B] in 0..1 (0 is clean)."""
        ...

    def target(self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """What `predict` should give."""
        ...

    def predict(self, denoiser: nn.Module, noisy: torch.Tensor, times: torch.Tensor, conditioning: Conditioning) -> torch.Tensor: ...

    def sample(
        self, denoiser: nn.Module, vae: nn.Module, prompts: Sequence[Prompted], steps: int, guidance: float, size_px: tuple[int, int]
    ) -> list[Image.Image]:
        """One picture a prompt, each from a generator of its own seed, so that a batch draws what single calls would."""
        ...

    def adapter_targets(self, part: Part) -> str:
        """A regular expression that a module's whole name must match to get an adapter."""
        ...

    def expected_targets(self, part: Part, module: nn.Module) -> int:
        """How many modules that must be, counted from the configuration: a rename in a library must not pass unseen."""
        ...

    def export_key(self, part: Part, module_name: str) -> str:
        """The name under which the stock LoRA loader of ComfyUI knows the module."""
        ...

    def token_tables(self, text: TextStack) -> tuple[tuple[str, nn.Module, str], ...]:
        """For each encoder that embeddings are trained for: its key in the file, the module that holds the table, its attribute."""
        ...
