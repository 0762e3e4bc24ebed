"""Stability's autoencoders out of single files, in Stability's names or in diffusers'; their shape told from the tensors' shapes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..formats.native import Place
from ._native import TensorFile, count_blocks, empty, fill
from ._parts import PartKind

if TYPE_CHECKING:
    import torch
    from torch import nn

_SD_LATENT_CHANNELS = 4
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_BLOCK = re.compile(r"(encoder|decoder)\.(?:down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d+)\.(.+)")

SD_VAE = PartKind(
    "VAE",
    "vae.safetensors",
    "vae",
    ("first_stage_model.", "vae.", ""),
    "decoder.conv_in.weight",
    lambda shape: len(shape) == 4 and shape[1] == _SD_LATENT_CHANNELS,
)


def load_sd_vae(file: TensorFile, scaling_factor: float, dtype: torch.dtype, shift_factor: float | None = None) -> nn.Module:
    """With the convolutions around the latents that SD1.5 and SDXL have and SD3 and FLUX do not. Raises AthanorError where a tensor is missing, as in files that hold the decoder alone."""
    from diffusers import AutoencoderKL

    native = "encoder.down.0.block.0.conv1.weight" in file.names
    level, layer, conv = ("encoder.down", "block", "conv1") if native else ("encoder.down_blocks", "resnets", "conv1")
    num_levels = count_blocks(file.names, level)
    widths = tuple(file.stored(f"{level}.{i}.{layer}.0.{conv}.weight").shape[0] for i in range(num_levels))
    module = empty(
        lambda: AutoencoderKL(
            block_out_channels=widths,
            down_block_types=("DownEncoderBlock2D",) * num_levels,
            up_block_types=("UpDecoderBlock2D",) * num_levels,
            layers_per_block=count_blocks(file.names, f"{level}.0.{layer}"),
            latent_channels=file.stored("decoder.conv_in.weight").shape[1],
            scaling_factor=scaling_factor,
            shift_factor=shift_factor,
            use_quant_conv="quant_conv.weight" in file.names,
            use_post_quant_conv="post_quant_conv.weight" in file.names,
        )
    )

    def locate(name: str) -> tuple[tuple[str, ...], Place]:
        part, _, leaf = name.rpartition(".")
        return (f"{native_vae_module(part, num_levels)}.{leaf}", name), Place("")

    return fill(module, file, locate, dtype, "VAE")


def decode_within_memory(vae: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """Pixels [B, 3, 8H, 8W] in -1..1 of unscaled latents [B, C, H, W]; piece by piece where the GPU's memory is not enough for the whole."""
    import torch

    try:
        return vae.decode(latents).sample
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
    vae.enable_tiling()
    try:
        return vae.decode(latents).sample
    finally:
        # Latents to train on are always encoded whole.
        vae.disable_tiling()


def native_vae_module(name: str, num_levels: int) -> str:
    """Stability's name of a module that diffusers calls `name`. The way up is counted from the other end."""
    middle = _MIDDLE.fullmatch(name)
    if middle is not None:
        side, kind, index, rest = middle.groups()
        return f"{side}.mid.attn_1.{_ATTENTION[rest]}" if kind == "attentions" else f"{side}.mid.block_{int(index) + 1}.{_resnet(rest)}"
    block = _BLOCK.fullmatch(name)
    if block is None:
        return name.replace("conv_norm_out", "norm_out")
    side, level, kind, index, rest = block.groups()
    place = f"encoder.down.{level}" if side == "encoder" else f"decoder.up.{num_levels - 1 - int(level)}"
    if kind == "resnets":
        return f"{place}.block.{index}.{_resnet(rest)}"
    return f"{place}.{kind.removesuffix('rs')}.{rest}"


def _resnet(name: str) -> str:
    return name.replace("conv_shortcut", "nin_shortcut")
