"""Images as latents, and their masks: encoded once for each way in which an image is seen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..families.base import Family
from .cache import TensorCache, cache_key
from .views import View

if TYPE_CHECKING:
    import torch
    from torch import nn


def vae_fingerprint(vae: nn.Module) -> str:
    """Of what latents are made with: the encoder's weights and the numbers by which they are shifted and scaled.

    Equal for the same autoencoder in a checkpoint, in a folder and in a file of its own, and for those whose decoders alone differ.
    """
    digest = hashlib.sha256(repr((vae.config.scaling_factor, vae.config.get("shift_factor"))).encode("ascii"))
    for name, tensor in sorted(vae.state_dict().items()):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(f"{name}{tuple(tensor.shape)}".encode("ascii"))
            digest.update(tensor.detach().cpu().float().contiguous().numpy())
    return digest.hexdigest()


def store_latents(
    family: Family,
    vae: nn.Module,
    vae_id: str,
    views: Sequence[View],
    cache: TensorCache,
    device: torch.device,
    on_progress: Callable[[int, int], None],
) -> None:
    """Encodes the views; `vae_id` is the fingerprint of `vae`."""
    import torch

    try:
        for done, view in enumerate(views, start=1):
            pixels = image_tensor(view).unsqueeze(0).to(device)
            with torch.no_grad():
                mean, std = family.encode_images(vae, pixels)
            entry, group = {"mean": mean[0], "std": std[0]}, f"latents-{pixels.shape[3]}x{pixels.shape[2]}"
            cache.put(latents_key(vae_id, view, cache), entry, f"The latents of {view.sample.path}", group)
            on_progress(done, len(views))
    finally:
        cache.settle()


def missing_latents(vae_id: str, views: Sequence[View], cache: TensorCache) -> list[View]:
    return [view for view in views if latents_key(vae_id, view, cache) not in cache]


def load_latents(vae_id: str, views: Sequence[View], cache: TensorCache, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation, [B, C, H, W] each, of images of one bucket."""
    import torch

    rows = [cache[latents_key(vae_id, view, cache)] for view in views]
    return torch.stack([row["mean"] for row in rows]).to(device), torch.stack([row["std"] for row in rows]).to(device)


def latents_key(vae_id: str, view: View, cache: TensorCache) -> str:
    """The image's content, the autoencoder's fingerprint, and how the image is resized, cropped, mirrored and coloured."""
    sample = view.sample
    content = cache.digest(Path(sample.path), sample.fingerprint)
    return cache_key("latents", vae_id, content, sample.placement, view.resize, view.hue_shift, view.gamma)


def load_masks(views: Sequence[View], stride_px: int, unmasked_weight: float, cache: TensorCache) -> torch.Tensor | None:
    """[B, 1, H, W] in 0..1 on the CPU, ones for images without a mask; None where none of `views` has one. Made when first asked for."""
    import torch

    if not any(view.has_mask for view in views):
        return None
    masks = [_mask(view, stride_px, cache) for view in views]
    return unmasked_weight + (1 - unmasked_weight) * torch.stack(masks)


def _mask(view: View, stride_px: int, cache: TensorCache) -> torch.Tensor:
    """[1, H, W]: each number the mean of the mask's pixels there."""
    import numpy
    import torch

    sample = view.sample
    assert sample.placement is not None
    if not view.has_mask:
        width_px, height_px = sample.placement.bucket_px
        return torch.ones(1, height_px // stride_px, width_px // stride_px)
    source = sample.mask and Path(sample.mask).name
    key = cache_key("mask", sample.path, source, sample.fingerprint, sample.placement, stride_px)
    if key not in cache:
        pixels = torch.from_numpy(numpy.array(view.mask())).unsqueeze(0).float() / 255
        cache.put(key, {"mask": torch.nn.functional.avg_pool2d(pixels, stride_px)}, f"The mask of {sample.path}", "mask")
    return cache[key]["mask"]


def image_tensor(view: View) -> torch.Tensor:
    """The image in its bucket, [3, H, W] in -1..1."""
    import numpy
    import torch

    pixels = torch.from_numpy(numpy.array(view.picture()))
    return pixels.permute(2, 0, 1).float() / 127.5 - 1
