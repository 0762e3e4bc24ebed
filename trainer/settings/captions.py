"""What is done to captions each time they are trained: the names and the meaning are those of sd-scripts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .field import setting


@dataclass(frozen=True)
class CaptionSettings:
    shuffle: bool = setting(False, "Put the tags of a caption in another order each time.")
    keep_tokens: int = setting(0, "This many tags at the start stay where they are and are never left out. Usual: 1, for a trigger word.", 0, 255)
    dropout: float = setting(
        0.0, "Share of the times at which an image is trained without its caption. 0.05 to 0.1 makes the result obey less of the prompt.", 0.0, 1.0
    )
    tag_dropout: float = setting(
        0.0, "Share of the tags that are left out each time; those that are kept by keep tokens never are. 0.1 is usual.", 0.0, 1.0
    )
    wildcards: bool = setting(False, "In captions {red|blue} is one of both, drawn each time. Write {{ and }} for braces that stay.")
    prefix: str = setting("", "Put in front of every caption, with a blank between.")
    suffix: str = setting("", "Put behind every caption, with a blank between.")
    keep_tokens_separator: str = setting(
        "|||",
        "Where a caption has this, what stands before it stays where it is, instead of the number of keep tokens; a second one does so for the end.",
        advanced=True,
    )
    secondary_separator: str = setting(";;;", "Tags joined by this are moved and left out together; it becomes a comma in the end.", advanced=True)
    separator: str = setting(",", "What stands between two tags.", advanced=True)
    dropout_every_epochs: int = setting(0, "In every n-th epoch all images are trained without caption. Usual: 0, never.", 0, 100_000, advanced=True)
    tag_warmup: float = setting(
        0.0,
        "Over this many steps captions grow from a few tags to all. Under 1: a share of the run. Usual: 0.1 to 0.3; 0 is off.",
        0.0,
        1_000_000.0,
        advanced=True,
    )
    tag_warmup_start: int = setting(
        1, "How many tags captions have at the start of the tag warm-up, beside those that are kept. Usual: 1.", 0, 255, advanced=True
    )
    variants: int = setting(
        0,
        "Where the text encoders, or T5 alone, are not trained: how many variants of each caption are encoded beforehand. Usual: 0, from the number of images.",
        0,
        1024,
        advanced=True,
    )
    max_tokens: str = setting(
        "225",
        "Captions longer than this many tokens are cut off; shorter ones take no more room than they need.",
        choices=("75", "150", "225"),
        advanced=True,
    )
    clip_l_dropout: float = setting(
        0.0,
        "SD3.5: share of the times at which CLIP-L says nothing of an image, drawn for each encoder by itself. SD3 was made with 0.464.",
        0.0,
        1.0,
        step=0.001,
        advanced=True,
    )
    clip_g_dropout: float = setting(
        0.0, "SD3.5: share of the times at which CLIP-G says nothing of an image. Usual: 0.", 0.0, 1.0, step=0.001, advanced=True
    )
    t5_dropout: float = setting(
        0.0,
        "SD3.5: share of the times at which T5 says nothing of an image; the LoRA then works without T5 too. Usual: 0.",
        0.0,
        1.0,
        step=0.001,
        advanced=True,
    )

    @property
    def encoder_dropouts(self) -> dict[str, float]:
        """Of the encoders that are dropped at times, by the names of a family's `separate_encoders`."""
        rates = {"clip_l": self.clip_l_dropout, "clip_g": self.clip_g_dropout, "t5": self.t5_dropout}
        return {name: rate for name, rate in rates.items() if rate > 0}

    @property
    def is_random(self) -> bool:
        """Whether a caption differs from one time to the next, apart from being dropped whole."""
        return self.is_flexible or self.wildcards

    @property
    def is_flexible(self) -> bool:
        """Whether tags are moved or left out."""
        return self.shuffle or self.tag_dropout > 0 or self.tag_warmup > 0


@dataclass(frozen=True)
class CaptionOverrides:
    """What a dataset file says for one of its folders; None where it says nothing. The fields are those of CaptionSettings."""

    shuffle: bool | None = None
    keep_tokens: int | None = None
    dropout: float | None = None
    tag_dropout: float | None = None
    wildcards: bool | None = None
    keep_tokens_separator: str | None = None
    secondary_separator: str | None = None
    separator: str | None = None
    dropout_every_epochs: int | None = None
    tag_warmup: float | None = None
    tag_warmup_start: int | None = None

    def applied_to(self, settings: CaptionSettings) -> CaptionSettings:
        said = {item.name: value for item in dataclasses.fields(self) if (value := getattr(self, item.name)) is not None}
        return dataclasses.replace(settings, **said)
