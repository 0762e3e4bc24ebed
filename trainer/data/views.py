"""How an image is seen at one time: which part of it, mirrored or not, with which colours. All known beforehand, so that it can be encoded."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from PIL import Image

from ..dataset.crop import RESAMPLING, placed_image, placed_mask
from ..families.base import Framing
from ..seeds import stable_seed
from ..settings import DataSettings
from ..types import Placement, Sample

_COLOR_SHARE = 0.33
_HUE_SHIFT = 8
_GAMMA = 0.05


@dataclass(frozen=True)
class View:
    sample: Sample
    """With the placement of this view: its crop, and whether it is mirrored."""
    hue_shift: int = 0
    """In 1/256 of the circle."""
    gamma: float = 1.0
    """Exponent of the colours in 0..1."""
    resize: str = "auto"
    """A key of `RESAMPLING`; auto is what suits the image best."""

    @property
    def framing(self) -> Framing:
        return Framing.of(self.sample)

    @property
    def has_mask(self) -> bool:
        """Whether the loss counts in a part of it only: it has a mask, or a border that is no part of the image."""
        return self.sample.mask is not None or bool(self.sample.placement and self.sample.placement.border)

    def mirrored(self) -> View:
        assert self.sample.placement is not None
        placement = replace(self.sample.placement, mirrored=not self.sample.placement.mirrored)
        return replace(self, sample=replace(self.sample, placement=placement))

    def picture(self) -> Image.Image:
        """RGB of the size of its bucket."""
        picture = placed_image(self.sample, RESAMPLING[self.resize])
        if self.hue_shift:
            hue, saturation, value = picture.convert("HSV").split()
            picture = Image.merge("HSV", (hue.point(lambda h: (h + self.hue_shift) % 256), saturation, value)).convert("RGB")
        if self.gamma != 1.0:
            picture = picture.point([round(255 * (i / 255) ** self.gamma) for i in range(256)] * 3)
        return picture

    def mask(self) -> Image.Image:
        """Where the loss counts: L of the size of its bucket, white where it does."""
        return placed_mask(self.sample)


def all_views(sample: Sample, settings: DataSettings) -> tuple[View, ...]:
    """Every view that `view_at` can choose, without repetition."""
    settings = data_settings_of(sample, settings)
    variants = [_variant(sample, settings, number) for number in range(_num_variants(settings))]
    mirrored = [view.mirrored() for view in variants] if settings.mirror else []
    return tuple(dict.fromkeys((*variants, *mirrored)))


def plain_view(sample: Sample, settings: DataSettings) -> View:
    """As held-out images are seen."""
    return View(sample, resize=data_settings_of(sample, settings).resize)


def view_at(sample: Sample, settings: DataSettings, seed: int, batch: int, row: int) -> View:
    """How `sample` is seen in that row of that batch of the run."""
    settings = data_settings_of(sample, settings)
    draw = stable_seed(seed, "view", batch, row)
    view = _variant(sample, settings, (draw >> 1) % _num_variants(settings))
    return view.mirrored() if settings.mirror and draw & 1 else view


def data_settings_of(sample: Sample, settings: DataSettings) -> DataSettings:
    return sample.viewing.applied_to(settings) if sample.viewing else settings


def _num_variants(settings: DataSettings) -> int:
    return settings.variants if settings.has_variants else 1


def _variant(sample: Sample, settings: DataSettings, number: int) -> View:
    """The same for an image in every run, whatever its seed, so that runs share what is encoded."""
    draw = random.Random(stable_seed("variant", sample.fingerprint, number))
    if settings.random_crop and sample.placement is not None:
        sample = replace(sample, placement=_other_crop(sample.placement, draw))
    view = View(sample, resize=settings.resize)
    # As sd-scripts: every third time either the hue or the brightness.
    if settings.colors and draw.random() <= _COLOR_SHARE:
        shift, exponent = draw.uniform(-_HUE_SHIFT, _HUE_SHIFT), draw.uniform(1 - _GAMMA, 1 + _GAMMA)
        # Hue is counted to 180 there.
        return replace(view, hue_shift=round(shift * 256 / 180)) if draw.random() > 0.5 else replace(view, gamma=round(exponent, 4))
    return view


def _other_crop(placement: Placement, draw: random.Random) -> Placement:
    """What is padded stays as it is."""
    sides = zip(placement.crop_px, placement.resized_px, placement.bucket_px, strict=True)
    left, top = (draw.randint(0, whole - part) if whole > part else start for start, whole, part in sides)
    return replace(placement, crop_px=(left, top))
