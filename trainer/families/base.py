"""What a model family must be: facts as attributes, verbs as methods.

Nothing heavy is imported here or at the head of a family's file: the host reads the facts and `matches` without torch.

Shapes: B images, C latent channels, H x W latent rows and columns, T tokens, D width of the text encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..formats.header import Header
from ..formats.native import Place
from ..objective.noise import Prediction
from ..types import BaseModel, Sample

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from ._whole import SavedPart

Conditioning = Mapping[str, "torch.Tensor"]
"""What the denoiser is told beside the noisy latents; each tensor has B as its first dimension."""

Part = Literal["denoiser", "text_encoder", "text_encoder_2", "text_encoder_3"]
"""Named as diffusers names a pipeline's components."""
TEXT_PARTS: tuple[Part, ...] = ("text_encoder", "text_encoder_2", "text_encoder_3")
PARTS: tuple[Part, ...] = ("denoiser", *TEXT_PARTS)
ModulePlaces = dict[str, tuple[str, Place]]
"""By a module's name: the name of the tensor that has its weight, and which of its rows."""


@dataclass
class TextStack:
    """A family's tokenizers and text encoders, in the family's own order: the first is the part "text_encoder" and so on."""

    tokenizers: tuple
    encoders: tuple[nn.Module | None, ...]
    """None for one that the family can do without and that the base lacks."""
    clip_skip: int = 0
    """Which layer of CLIP is read, counted from the last, which is 1; 0 is the family's own."""

    def parts(self) -> dict[Part, nn.Module]:
        """The encoders that are there, by the name of their part."""
        return {part: encoder for part, encoder in zip(TEXT_PARTS, self.encoders, strict=False) if encoder is not None}

    def with_part(self, part: Part, encoder: Any) -> TextStack:
        """With `encoder`, or what is called like one, in the place of `part`."""
        return replace(self, encoders=tuple(encoder if name == part else each for name, each in zip(TEXT_PARTS, self.encoders, strict=False)))

    def only(self, part: Part) -> TextStack:
        """Without the other encoders."""
        return replace(self, encoders=tuple(each if name == part else None for name, each in zip(TEXT_PARTS, self.encoders, strict=False)))


@dataclass(frozen=True)
class BaseFacts:
    """What a family tells of a model from its header or its JSON files."""

    native_px: int
    bucket_step_px: int
    prediction: Prediction
    zero_terminal_snr: bool = False
    variant: str = ""
    """Which of the family's models, where it has several: "medium", "schnell"…"""


@dataclass(frozen=True)
class Framing:
    """What the latents show of a picture. Pairs are (horizontal, vertical) in px."""

    original_px: tuple[int, int]
    """Size of the picture before it was resized."""
    crop_px: tuple[int, int]
    """Left and top of what is shown in the resized picture."""
    shown_px: tuple[int, int]

    @classmethod
    def of(cls, sample: Sample) -> Framing:
        """Of an image in its bucket, as it was really resized and cropped."""
        assert sample.placement is not None, "validated before: every sample has its bucket"
        placed = sample.placement
        left, top = placed.crop_px
        if placed.mirrored:
            left = placed.resized_px[0] - placed.bucket_px[0] - left
        return cls((sample.width_px, sample.height_px), (max(0, left), max(0, top)), placed.bucket_px)

    @classmethod
    def whole(cls, size_px: tuple[int, int]) -> Framing:
        """Of a picture that is drawn: all of it, in its own size."""
        return cls(size_px, (0, 0), size_px)


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
    modelspec_implementation: str
    """Whose code the LoRA's names are of, as the model spec wants it."""
    latent_channels: int
    vae_stride_px: int
    native_px: int
    bucket_step_px: int
    side_step_px: int
    """Sides of pictures must be multiples of it."""
    large_text: bool
    """Whether the text encoders are so large that a run in bf16 loads them in bf16: T5 takes 19 GB in fp32."""
    max_chunks: int
    """How many pieces of 75 tokens a caption may fill."""
    max_clip_skip: int
    """0 where no other layer of CLIP can be read."""
    sampler_name: str
    """As A1111 calls the sampler that `sample` is."""
    text_parts: tuple[Part, ...]
    """The text encoders that the text encoder's learning rate trains: all but T5."""
    has_block_rows: bool
    """Whether the denoiser is a transformer, rows of equal blocks that can wait in the computer's memory, and not a U-Net."""
    reads_negative_prompt: bool
    """Whether pictures are drawn away from a negative prompt."""
    saves_whole: bool
    """Whether a trained model is saved with all its parts in one checkpoint; otherwise the denoiser's file is, and each trained text encoder's."""
    separate_encoders: tuple[str, ...]
    """Those that can be dropped one by one: `encode_text` names tensors after them, as "clip_l" and "clip_l_pooled", and `frame` joins these."""

    def matches(self, header: Header) -> bool:
        """True for a checkpoint or a denoiser's file of this family, judged from names and shapes alone.

        Raises AthanorError for a near relation that cannot be trained, saying what it is.
        """
        ...

    def matches_folder(self, folder: Path) -> bool:
        """True for a diffusers folder of this family, judged from its JSON files alone."""
        ...

    def facts_of_file(self, header: Header) -> BaseFacts:
        """Of a file that `matches`."""
        ...

    def facts_of_folder(self, folder: Path) -> BaseFacts:
        """Of a folder that `matches_folder`."""
        ...

    def reads_guidance(self, base: BaseModel) -> bool:
        """Whether `sample` makes another picture of another guidance."""
        ...

    def kohya_version(self, base: BaseModel) -> str:
        """`ss_base_model_version` of sd-scripts."""
        ...

    def modelspec_architecture(self, base: BaseModel) -> str: ...

    def missing_files(self, base: BaseModel) -> tuple[str, ...]:
        """A sentence for each file that a training needs and that is not there."""
        ...

    def t5_part(self, base: BaseModel) -> Part | None:
        """Which of the text encoders is T5, which has a learning rate of its own; None where the base has none."""
        ...

    def load_text(self, base: BaseModel, dtype: torch.dtype) -> TextStack:
        """On the CPU, frozen, in evaluation mode, as the other two."""
        ...

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

    def frame(self, conditioning: Conditioning, framings: Sequence[Framing]) -> Conditioning:
        """What the denoiser is told: of separate encoders' outputs one whole, and of each picture's size and crop where it is told of those."""
        ...

    def training_times(self, base: BaseModel, uniform: torch.Tensor, latent_size: tuple[int, int]) -> torch.Tensor:
        """At which times [B] the family is trained if nobody chooses: from `uniform` [B] in 0..1, for latents of (rows, columns)."""
        ...

    def predict(self, denoiser: nn.Module, noisy: torch.Tensor, times: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The denoiser's answer to `noisy` [B, C, H, W] at `times` [B] in 0..1 (0 is clean); trainer/objective/noise.py tells what it should be."""
        ...

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
        """One picture a prompt, each from a generator of its own seed, so that a batch draws what single calls would."""
        ...

    def adapter_targets(self, part: Part) -> str:
        """A regular expression that a module's whole name must match to get an adapter."""
        ...

    def expected_targets(self, part: Part, module: nn.Module) -> int:
        """How many modules that must be, counted from the configuration: a rename in a library must not pass unseen."""
        ...

    def export_key(self, part: Part, module_name: str) -> str:
        """The name under which the stock LoRA loader of ComfyUI knows the module. Of the name "" the part's prefix."""
        ...

    def other_names(self, part: Part, module_name: str) -> tuple[str, ...]:
        """Further names under which files of other programs keep the module's LoRA; dots and underscores are alike to the reader."""
        ...

    def saved_parts(self, base: BaseModel) -> tuple[SavedPart, ...]:
        """What a trained model is saved as. Opens the base's headers."""
        ...

    def token_tables(self, text: TextStack) -> tuple[tuple[str, nn.Module, str], ...]:
        """For each encoder that embeddings are trained for, in the order of `text`: its key in the file, the module that holds the table, its attribute."""
        ...

    def weights_in(self, header: Header) -> Mapping[Part, ModulePlaces]:
        """Where a file keeps the weights of the modules that adapters are made for, of each part that is in it. It need not be a file of this family."""
        ...
