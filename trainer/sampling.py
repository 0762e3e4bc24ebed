"""Sample pictures on the way: fixed seeds, saved with their parameters in the PNG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .families.base import Family, Framing, Prompted
from .files import replace_atomically
from .prompts import PromptBook
from .settings import SampleSettings
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
    settings: SampleSettings,
    to_prompt: Callable[[str], str],
    size_px: tuple[int, int],
    autocast: torch.autocast,
) -> list[tuple[str, int, Image.Image]]:
    """Prompt, seed and picture of each line of `settings`. `to_prompt` writes an embedding's name as its tokens."""
    import torch

    pictures = []
    for i, line in enumerate(settings.lines):
        seed = (settings.seed + i) % 2**32
        with torch.no_grad(), autocast:
            framing = [Framing.whole(size_px)]
            prompted = Prompted(book.conditioning([to_prompt(line)], framing), book.conditioning([settings.negative_prompt], framing), seed)
            pictures.append((line, seed, family.sample(base, denoiser, vae, [prompted], settings.steps, settings.guidance, size_px)[0]))
    return pictures


def save_picture(
    path: Path, image: Image.Image, prompt: str, negative_prompt: str, steps: int, seed: int, guidance: float, model: str, sampler: str = "DDIM"
) -> None:
    """A PNG with its parameters as A1111 writes them, so that other programs can read them."""
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    negative = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    facts = f"Steps: {steps}, Sampler: {sampler}, CFG scale: {guidance}, Seed: {seed}, Size: {image.width}x{image.height}, Model: {model}"
    notes.add_itxt("parameters", f"{prompt}{negative}\n{facts}")
    replace_atomically(path, lambda temporary: image.save(temporary, format="PNG", pnginfo=notes))
