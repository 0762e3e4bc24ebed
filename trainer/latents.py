"""Images as latents: encoded once, mean and standard deviation kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .cache import TensorCache, latents_key
from .dataset.crop import placed_image
from .families.base import Family
from .types import Sample

if TYPE_CHECKING:
    import torch
    from torch import nn


def store_latents(
    family: Family,
    vae: nn.Module,
    base_fingerprint: str,
    samples: Sequence[Sample],
    cache: TensorCache,
    device: torch.device,
    on_progress: Callable[[int, int], None],
) -> None:
    """Encodes the images that are not in the cache yet."""
    import torch

    for done, sample in enumerate(samples, start=1):
        pixels = image_tensor(sample).unsqueeze(0).to(device)
        with torch.no_grad():
            mean, std = family.encode_images(vae, pixels)
        cache.put(latents_key(base_fingerprint, sample), {"mean": mean[0], "std": std[0]}, f"The latents of {sample.path}")
        on_progress(done, len(samples))


def missing_latents(base_fingerprint: str, samples: Sequence[Sample], cache: TensorCache) -> list[Sample]:
    return [sample for sample in samples if latents_key(base_fingerprint, sample) not in cache]


def load_latents(base_fingerprint: str, samples: Sequence[Sample], cache: TensorCache, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation, [B, C, H, W] each, of images of one bucket."""
    import torch

    rows = [cache[latents_key(base_fingerprint, sample)] for sample in samples]
    return torch.stack([row["mean"] for row in rows]).to(device), torch.stack([row["std"] for row in rows]).to(device)


def image_tensor(sample: Sample) -> torch.Tensor:
    """The image in its bucket, [3, H, W] in -1..1."""
    import numpy
    import torch

    pixels = torch.from_numpy(numpy.array(placed_image(sample)))
    return pixels.permute(2, 0, 1).float() / 127.5 - 1
