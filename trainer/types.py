"""The values that travel between the nodes: small, frozen, without weights. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from .settings import CaptionOverrides, DataOverrides

Role = Literal["train", "validation", "regularization"]


@dataclass(frozen=True)
class Placement:
    """How an image comes into its bucket: resized to `resized_px`, cut at `crop_px`, mirrored. Made by the Bucket node.

    All pairs are (horizontal, vertical) in pixels; the image is measured after EXIF orientation.
    """

    bucket_px: tuple[int, int]
    resized_px: tuple[int, int]
    crop_px: tuple[int, int]
    """Left and top of the bucket's rectangle in the resized image; below 0 where it reaches beyond and is filled up."""
    border: str = ""
    """What it is filled up with: "edge" for the nearest pixels, or a colour such as "#ffffff"; "" where nothing is."""
    mirrored: bool = False
    """Whether left and right are swapped, after the cut."""


@dataclass(frozen=True, slots=True)
class TagScore:
    """How sure a tagger was of one tag."""

    tag: str
    """As it was written into the caption."""
    category: str
    """"general", "character", "copyright", "artist", "meta", "rating", "year", "quality" or "model"; "" where nobody says."""
    score: float
    """From 0 to 1."""


@dataclass(frozen=True)
class Sample:
    """One image of a dataset and everything that is known of it."""

    path: str
    """Absolute path of the image."""
    width_px: int
    height_px: int
    """Size after EXIF orientation."""
    fingerprint: str
    """Changes when the content of the file, or of its mask, changes: sizes and modification times in nanoseconds, or hashes."""
    caption: str | None = None
    """None where there is no caption file; "" where there is an empty one."""
    repeats: int = 1
    concept: str = ""
    """The rest of a `6_name` folder, or the folder's own name."""
    role: Role = "train"
    placement: Placement | None = None
    class_tokens: str = ""
    """What stands in for a missing caption: the name of its `6_name` folder, or what a dataset file says."""
    mask: str | None = None
    """Where the loss counts: absolute path of a picture of the image's size, or "alpha" for its own alpha channel."""
    captioning: CaptionOverrides | None = None
    """What its dataset file says about shuffling, dropout and so on, in place of the caption settings."""
    viewing: DataOverrides | None = None
    """What its dataset file says about mirroring, random crops, colours and resizing, in place of the data settings."""
    tag_scores: tuple[TagScore, ...] = field(default=(), compare=False, metadata={"in_job": False})
    """What a tagger thought of its tags. For people who edit them: no part of a job, and no reason to train again."""

    @property
    def num_bytes(self) -> int | None:
        """The image file's size as the fingerprint tells it; None where that is a hash."""
        told, dash, _ = self.fingerprint.partition("-")
        return int(told) if dash and told.isdecimal() else None

    @property
    def tags(self) -> tuple[str, ...]:
        """The caption split at its commas, blanks trimmed, empty ones dropped."""
        return tuple(tag for part in (self.caption or "").split(",") if (tag := part.strip()))

    def prompt(self, trigger: str) -> str:
        """What the image is trained with: its caption; without one, its class tokens, or the trigger."""
        return self.caption if self.caption is not None else self.class_tokens or trigger

    def with_tags(self, tags: tuple[str, ...]) -> Sample:
        return replace(self, caption=", ".join(tags))


@dataclass(frozen=True)
class Dataset:
    """Samples in natural order, and what the reader should be told about them.

    Every dataset node is a pure function of one: nothing is written beside the user's images.
    """

    samples: tuple[Sample, ...]
    trigger: str = ""
    notes: tuple[str, ...] = ()
    """One sentence each: files left out, captions that could not be read, images that are upscaled."""

    def with_role(self, role: Role) -> tuple[Sample, ...]:
        return tuple(sample for sample in self.samples if sample.role == role)

    @property
    def trained(self) -> tuple[Sample, ...]:
        """What steps are made of: the training images, then the regularization images."""
        return self.with_role("train") + self.with_role("regularization")

    def with_samples(self, samples: tuple[Sample, ...], *notes: str) -> Dataset:
        return replace(self, samples=samples, notes=self.notes + notes)


@dataclass(frozen=True)
class BaseModel:
    """A model to train upon: where its files are and what they are. Made by Load Base Model from headers alone."""

    name: str
    """File or folder name without its ending, for people."""
    family: str
    """A name of the family registry, like "sd15"."""
    path: str
    """Absolute path of the checkpoint file, of the diffusers folder, or of the denoiser's own file."""
    fingerprint: str
    """Of the content, not of the path: the same file elsewhere is the same base."""
    native_px: int
    """The side of the squared picture that the model was made for."""
    bucket_step_px: int
    """Sides of buckets are multiples of it."""
    tokenizer_folders: tuple[str, ...] = ()
    """Where to look for a tokenizer when none lies beside the model."""
    text_encoder_paths: tuple[str, ...] = ()
    """Files of the text encoders, in any order, where they are not in `path`."""
    vae_path: str = ""
    """File of the autoencoder, where it is not in `path` or is to replace the one in it."""
    prediction: Literal["epsilon", "v", "flow"] = "epsilon"
    zero_terminal_snr: bool = False
    variant: str = ""
    """Which of the family's models, where it has several."""
    clip_skip: int = 0
    """Which layer of CLIP is read, counted from the last, which is 1; 0 is the family's own."""
    may_download: bool = False
    """Whether a tokenizer that is nowhere may be fetched from the Hugging Face hub."""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of it, or its folder."""
        return (self.path, *self.text_encoder_paths, *((self.vae_path,) if self.vae_path else ()))

    @property
    def text_identity(self) -> str:
        """Equal where captions are encoded alike."""
        return f"{self.fingerprint}/{self.clip_skip}" if self.clip_skip else self.fingerprint
