"""Pictures on their way to ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from . import host

if TYPE_CHECKING:
    import torch


def to_comfy(images: Sequence[Image.Image]) -> torch.Tensor:
    """[B, H, W, 3] in 0..1; smaller pictures are centred on black in the size of the largest."""
    import numpy
    import torch

    width, height = max(image.width for image in images), max(image.height for image in images)
    same = [image.convert("RGB") if image.size == (width, height) else ImageOps.pad(image.convert("RGB"), (width, height)) for image in images]
    return torch.from_numpy(numpy.stack([numpy.asarray(image) for image in same])).float() / 255


def to_pictures(batches: Sequence[torch.Tensor]) -> list[Image.Image]:
    """Pictures of 8 bits, in L, RGB or RGBA, of every [B, H, W, C] in 0..1 with 1, 3 or 4 channels."""
    pictures = []
    for batch in batches:
        levels = (batch.detach().cpu().float().clamp(0, 1) * 255).round().byte().numpy()
        pictures += [Image.fromarray(each[..., 0] if each.shape[-1] == 1 else each) for each in levels]
    return pictures


def open_rgb(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def shown(paths: Sequence[Path]) -> dict[str, list[dict[str, str]]]:
    """A node's `ui` that shows pictures lying below ComfyUI's output folder."""
    results = []
    for path in paths:
        relative = path.resolve().relative_to(host.output_folder().resolve())
        subfolder = "" if relative.parent == Path() else relative.parent.as_posix()
        results.append({"filename": relative.name, "subfolder": subfolder, "type": "output"})
    return {"images": results}
