"""What is measured, and which way is better. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..errors import AthanorError

BASELINE = 0
"""The epoch number of the base alone."""


@dataclass(frozen=True)
class Measure:
    name: str
    """In files, and in `best by …`."""
    title: str
    better: Literal["lower", "higher", ""]
    """"" where neither is: it warns, but does not choose."""
    meaning: str
    least: float = -1.0
    most: float = 1.0
    """What a mean of it can be; by themselves, those of a cosine."""


MEASURES: tuple[Measure, ...] = (
    Measure(
        "validation loss",
        "loss on the held-out images",
        "lower",
        "the same noise for every epoch; rises when training images are learned by heart",
        0.0,
        math.inf,
    ),
    Measure("likeness", "likeness to the held-out images", "higher", "of the pictures drawn for their captions, 1 is the same"),
    Measure("tag recall", "tags of the caption found in the picture", "higher", "share, by the tagger", 0.0),
    Measure("caption likeness", "likeness of picture and caption (CLIP)", "higher", "cosine of CLIP's image and text"),
    Measure("diversity", "difference between seeds", "", "of pictures of one caption; falls when an epoch knows one picture only", 0.0, 2.0),
    Measure("copying", "likeness to the nearest training image", "", "above what held-out images have: pictures are copied"),
    Measure("weight norm", "mean norm of a layer's change", "", "from the file alone; grows as long as it trains", 0.0, math.inf),
)


def measure(name: str) -> Measure:
    """Raises AthanorError for an unknown name, listing those there are."""
    for each in MEASURES:
        if each.name == name.strip().lower().replace("_", " "):
            return each
    raise AthanorError(f"There is no score {name!r}; there are {', '.join(each.name for each in MEASURES)}.")


def choosing() -> tuple[Measure, ...]:
    """Those by which an epoch can be chosen."""
    return tuple(each for each in MEASURES if each.better)
