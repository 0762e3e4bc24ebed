"""Sample pictures on the way: fixed seeds, saved with their parameters in the PNG."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .data.prompts import PromptBook
from .families import family as family_named
from .families.base import Family, Framing, Prompted
from .files import replace_atomically
from .sample_prompts import SamplePrompt
from .types import BaseModel

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn


def draw_samples(
    family: Family,
    base: BaseModel,
    denoiser: nn.Module,
    vae: nn.Module,
    book: PromptBook,
    prompts: Sequence[SamplePrompt],
    to_prompt: Callable[[str], str],
    common_px: tuple[int, int],
    autocast: torch.autocast,
) -> list[Image.Image]:
    """The picture of each prompt, of `common_px` where it names no size. `to_prompt` writes an embedding's name as its tokens."""
    import torch

    pictures = []
    for each in prompts:
        size_px = (each.width_px or common_px[0], each.height_px or common_px[1])
        with torch.no_grad(), autocast:
            framing = [Framing.whole(size_px)]
            wanted, unwanted = (book.conditioning([text], framing) for text in (to_prompt(each.prompt), each.negative_prompt))
            pictures += family.sample(base, denoiser, vae, [Prompted(wanted, unwanted, each.seed)], each.steps, each.guidance, size_px)
    return pictures


def save_picture(
    path: Path, image: Image.Image, prompt: str, negative_prompt: str, steps: int, seed: int, guidance: float, model: str, sampler: str
) -> None:
    """A PNG with its parameters as A1111 writes them, so that other programs can read them.

    `sampler` may be followed by further facts (", Schedule type: karras").
    """
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    negative = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    facts = f"Steps: {steps}, Sampler: {sampler}, CFG scale: {guidance}, Seed: {seed}, Size: {image.width}x{image.height}, Model: {_quoted(model)}"
    notes.add_itxt("parameters", f"{prompt}{negative}\n{facts}")
    replace_atomically(path, lambda temporary: image.save(temporary, format="PNG", pnginfo=notes))


def named_sampling(base: BaseModel, guidance: float) -> tuple[str, float]:
    """How a picture's parameters name the sampler of the base's family, and its classifier-free guidance (FLUX.1 dev has another kind)."""
    name = family_named(base.family).sampler_name
    if base.family == "flux":
        return (f"{name}, Distilled CFG Scale: {guidance:g}" if base.variant == "dev" else name), 1.0
    return name, guidance


def _quoted(value: str) -> str:
    """As A1111 quotes what holds its separators (modules/infotext_utils.py)."""
    return json.dumps(value, ensure_ascii=False) if any(sign in value for sign in ",:\n") else value
