"""How images are varied, and where what is encoded of them is kept."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .field import setting

RESIZE_WORDS = {"linear": "bilinear", "cubic": "bicubic", "box": "area"}
"""Of sd-scripts, for the same as others."""


@dataclass(frozen=True)
class DataSettings:
    mirror: bool = setting(False, "Show every second time the mirror image. Not for faces that are known by a side, nor for text.")
    random_crop: bool = setting(False, "Cut another part out each time where an image is larger than its size, instead of its middle.")
    colors: bool = setting(False, "Change hue and brightness a little now and then. Not for styles that live by their colours.")
    variants: int = setting(
        8,
        "With random crop or colors: how many variants of each image are encoded beforehand and then drawn from. More take more space and time at the start. Usual: 4 to 16.",
        1,
        1000,
        advanced=True,
    )
    keep_latents: str = setting(
        "disk",
        "Where encoded images are kept: on disk for all later runs, or in memory for this one alone.",
        choices=("disk", "memory"),
        advanced=True,
    )
    resize: str = setting(
        "auto",
        "How images are resized to their size. auto: Lanczos where they shrink, bicubic where they grow. nearest keeps pixel art sharp.",
        choices=("auto", "lanczos", "bicubic", "bilinear", "area", "nearest"),
        advanced=True,
    )

    @property
    def has_variants(self) -> bool:
        return self.random_crop or self.colors


@dataclass(frozen=True)
class DataOverrides:
    """What a dataset file says for one of its folders; None where it says nothing. The fields are those of DataSettings."""

    mirror: bool | None = None
    random_crop: bool | None = None
    colors: bool | None = None
    resize: str | None = None

    def applied_to(self, settings: DataSettings) -> DataSettings:
        said = {item.name: value for item in dataclasses.fields(self) if (value := getattr(self, item.name)) is not None}
        return dataclasses.replace(settings, **said)
