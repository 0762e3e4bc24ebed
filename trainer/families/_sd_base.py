"""Questions about files and folders that SD1.5, SD2 and SDXL answer alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..formats.header import Header, read_model_header
from ..types import BaseModel
from ._native import TensorFile
from ._parts import PartKind, broken_files, find_any, missing_part, open_part, text_paths, vae_paths
from ._pipeline import component, missing_components
from ._tokenizers import CLIP_TOKENIZER, missing_tokenizer
from ._unet import UNetShape, unet_prefix, unet_shape
from ._vae import SD_VAE, load_sd_vae
from ._weights import read_json
from .base import BaseFacts

if TYPE_CHECKING:
    import torch
    from torch import nn

LATENT_CHANNELS = 4


def shape_of_header(header: Header) -> UNetShape | None:
    """Of the U-Net in a file; None where there is none. Raises AthanorError for one that cannot be trained, saying what it is."""
    prefix = unet_prefix(header)
    if prefix is None or header.any_key("control_model.", "controlnet_", "input_hint_block."):
        return None
    shape = unet_shape(header.shapes, prefix)
    if f"{prefix}middle_block.0.in_layers.2.weight" not in header.shapes:
        raise AthanorError(
            "This file is a small relation of Stable Diffusion whose U-Net has no middle (SDXS, KOALA-700M), which cannot be trained; choose another."
        )
    if shape.in_channels == LATENT_CHANNELS and (shape.out_channels != LATENT_CHANNELS or f"{prefix}label_emb.weight" in header.shapes):
        raise AthanorError(
            "This file is a relation of Stable Diffusion whose U-Net answers with more than the noise, or is told of classes; it cannot be trained. Choose another."
        )
    return shape


def facts_of_folder(folder: Path, native_px: int, bucket_step_px: int) -> BaseFacts:
    """Of a diffusers folder with a U-Net. Raises AthanorError for a noise schedule that cannot be trained."""
    unet, scheduler = read_json(folder / "unet" / "config.json"), folder / "scheduler" / "scheduler_config.json"
    told = read_json(scheduler) if scheduler.is_file() else {}
    own_px = int(unet.get("sample_size") or native_px // 8) * 8
    # The U-Net halves its picture once a level but the last; a small model need not be held to the 64 px of the full one.
    smallest = 8 * 2 ** (len(unet["block_out_channels"]) - 1)
    step_px = bucket_step_px if own_px >= native_px else smallest
    name, target = str(told.get("_class_name", "")), told.get("prediction_type", "epsilon")
    if name.startswith(("EDM", "FlowMatch")) or target not in ("epsilon", "v_prediction"):
        raise AthanorError(
            f"{folder.name} has the scheduler {name or 'unknown'} with the prediction {target}, another noise schedule than Stable Diffusion's "
            "(Playground v2.5, CosXL, Lotus), which cannot be trained; choose another model."
        )
    prediction = "v" if target == "v_prediction" else "epsilon"
    return BaseFacts(own_px, step_px, prediction, zero_terminal_snr=bool(told.get("rescale_betas_zero_snr", False)))


def unet_folder_matches(folder: Path, num_text_encoders: int) -> dict | None:
    """The U-Net's configuration of a diffusers folder with so many text encoders and four latent channels; None for any other."""
    if not (folder / "model_index.json").is_file() or not (folder / "unet" / "config.json").is_file():
        return None
    index, unet = read_json(folder / "model_index.json"), read_json(folder / "unet" / "config.json")
    encoders = [key for key in index if key.startswith("text_encoder") and index[key] and index[key][0] is not None]
    fits = (
        unet.get("_class_name") == "UNet2DConditionModel"
        and {unet.get("in_channels"), unet.get("out_channels", 4)} == {4}
        and len(encoders) == num_text_encoders
    )
    return unet if fits and not unet.get("num_class_embeds") else None


def missing_sd_files(base: BaseModel, folder_parts: Sequence[tuple[str, str]], text_kinds: Sequence[Sequence[PartKind]]) -> tuple[str, ...]:
    """A sentence for each file, or part of a file, that is not there."""
    path = Path(base.path)
    if broken := broken_files(base):
        return broken
    if path.is_dir():
        missing = missing_components(path, folder_parts)
    else:
        wanted = [(kinds, text_paths(base)) for kinds in text_kinds] + [((SD_VAE,), vae_paths(base))]
        missing = tuple(missing_part(kinds[0], paths) for kinds, paths in wanted if find_any(kinds, paths) is None)
    return (*missing, *missing_tokenizer(base, CLIP_TOKENIZER))


def load_vae_of(base: BaseModel, scaling_factor: float) -> nn.Module:
    import torch
    from diffusers import AutoencoderKL

    if Path(base.path).is_dir() and not base.vae_path:
        return component(AutoencoderKL, Path(base.path) / "vae", torch.float32)
    return load_sd_vae(open_part(SD_VAE, vae_paths(base)), scaling_factor, torch.float32)


def load_unet_of(base: BaseModel, heads, native_px: int, dtype: torch.dtype) -> nn.Module:
    """`heads` as in `_unet.load_unet`."""
    from diffusers import UNet2DConditionModel

    from ._unet import load_unet

    path = Path(base.path)
    if path.is_dir():
        return component(UNet2DConditionModel, path / "unet", dtype)
    header = read_model_header(path)
    prefix = unet_prefix(header)
    assert prefix is not None, "recognised before"
    return load_unet(TensorFile(path, prefix), unet_shape(header.shapes, prefix), heads, native_px // 8, dtype)
