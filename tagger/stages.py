"""`preprocess.json`, with which exported taggers say what they want to see, as `Preprocessing`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from PIL import ImageColor

from .errors import TaggerError
from .preprocess import Preprocessing, Resample, Triple

PREPROCESS_FILE = "preprocess.json"

_BY_NUMBER: dict[int, Resample] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_WITHOUT_EFFECT = ("convert_rgb", "to_tensor", "maybe_to_tensor")


def read_preprocessing(file: Path) -> Preprocessing:
    """The stages of `file`, in the form of the imgutils library: `resize`, `pad_to_size`, `center_crop`, `to_tensor`, `normalize`.

    Raises TaggerError that names a stage which is not understood: guessed pixels would give wrong tags.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
        stages = data.get("stages") or data["test"]
        return _from_stages(stages)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TaggerError(f"{file} cannot be followed ({type(error).__name__}: {error}). Download it again, or use another tagger.") from error


def _from_stages(stages: Sequence[Mapping]) -> Preprocessing:
    made = Preprocessing(side_px=0, fit="stretch", channels="RGB", scale=1 / 255)
    is_stretched = False
    for stage in stages:
        kind = stage["type"]
        if kind == "resize":
            made = replace(made, side_px=_side(stage["size"]), resample=_resample(stage.get("interpolation", "bilinear")))
            is_stretched = not isinstance(stage["size"], int) and len(stage["size"]) == 2
        elif kind == "pad_to_size":
            colour = ImageColor.getrgb(str(stage.get("background_color", "white")))[:3]
            resample = _resample(stage.get("interpolation", "bilinear"))
            made = replace(made, side_px=_side(stage["size"]), fit="resize-then-pad", pad_colour=colour, resample=resample)
            is_stretched = True
        elif kind == "center_crop":
            if not is_stretched or _side(stage["size"]) != made.side_px:
                raise ValueError("it cuts off a part of the picture (`center_crop`), which is not supported")
        elif kind == "normalize":
            made = replace(made, mean=_triple(stage["mean"]), std=_triple(stage["std"]))
        elif kind not in _WITHOUT_EFFECT:
            raise ValueError(f"its stage {kind!r} is unknown")
    if not is_stretched:
        raise ValueError("it does not make a square of the picture")
    return made


def _side(size: int | Sequence[int]) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise ValueError(f"{list(size)} is not a square")
    return int(sides.pop())


def _resample(value: str | int) -> Resample:
    name = _BY_NUMBER[value] if isinstance(value, int) else value.lower()
    if name not in get_args(Resample):
        raise ValueError(f"the interpolation {value!r} is unknown")
    return name


def _triple(value: float | Sequence[float]) -> Triple:
    numbers = [float(value)] if isinstance(value, (int, float)) else [float(number) for number in value]
    if len(numbers) == 1:
        numbers *= 3
    red, green, blue = numbers
    return red, green, blue
