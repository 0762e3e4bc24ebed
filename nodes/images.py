"""Pictures on their way to ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from . import host

if TYPE_CHECKING:
    import torch


MAX_BATCH_BYTES = 4 << 30
_PIXEL_BYTES = 12
"""Three channels of float32."""


def to_comfy(images: Sequence[Image.Image]) -> torch.Tensor:
    """[B, H, W, 3] in 0..1; smaller pictures are centred on black in the size of the largest."""
    import numpy
    import torch

    width, height = max(image.width for image in images), max(image.height for image in images)
    same = [image.convert("RGB") if image.size == (width, height) else ImageOps.pad(image.convert("RGB"), (width, height)) for image in images]
    return torch.from_numpy(numpy.stack([numpy.asarray(image) for image in same])).float() / 255


def batch_of(paths: Sequence[Path], max_bytes: int = MAX_BATCH_BYTES) -> torch.Tensor:
    """[B, H, W, 3] in 0..1 of pictures on the disk, read one by one; as `to_comfy`, but made smaller where they would take more than `max_bytes`."""
    import numpy
    import torch

    sizes = [size_px(path) for path in paths]
    width, height = max(size[0] for size in sizes), max(size[1] for size in sizes)
    scale = min(1.0, (max_bytes / (_PIXEL_BYTES * len(paths) * width * height)) ** 0.5)
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    batch = torch.empty((len(paths), height, width, 3))
    for i, path in enumerate(paths):
        image = open_rgb(path)
        if image.size != (width, height):
            if scale < 1:
                image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS)
            image = ImageOps.pad(image, (width, height))
        batch[i] = torch.from_numpy(numpy.array(image)).float() / 255
    return batch


def to_pictures(batches: Sequence[torch.Tensor]) -> list[Image.Image]:
    """Pictures of 8 bits, in L, RGB or RGBA, of every [B, H, W, C] in 0..1 with 1, 3 or 4 channels."""
    pictures = []
    for batch in batches:
        levels = (batch.detach().cpu().float().clamp(0, 1) * 255).round().byte().numpy()
        pictures += [Image.fromarray(each[..., 0] if each.shape[-1] == 1 else each) for each in levels]
    return pictures


def size_px(path: Path) -> tuple[int, int]:
    """Width and height, from the file's head."""
    with Image.open(path) as image:
        return image.size


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
