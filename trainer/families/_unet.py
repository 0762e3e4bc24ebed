"""Stability's U-Nets out of single files, their shape told from the tensors' shapes; and what SD1.5, SD2 and SDXL share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..formats.header import Header
from ..formats.native import Place
from ..formats.unet_names import UNetLayout
from ..objective.noise import Prediction
from ..types import BaseModel
from ._native import TensorFile, count_blocks, empty, fill
from ._vae import decode_within_memory

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from .base import Prompted

UNET_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
_SCHEDULER = Path(__file__).parent / "configs" / "sd15" / "scheduler"
_LATENT_CHANNELS, _STRIDE_PX = 4, 8
_TIME_WIDTH = 256
"""Of each of SDXL's size and crop numbers."""
Shapes = Mapping[str, tuple[int, ...]]


def unet_prefix(header: Header) -> str | None:
    """Where a file has its U-Net; None where it has none."""
    return next((prefix for prefix in UNET_PREFIXES if f"{prefix}input_blocks.0.0.weight" in header.shapes), None)


@dataclass(frozen=True)
class UNetShape:
    """Levels from the largest picture to the smallest; depths are numbers of transformer blocks behind each ResNet."""

    in_channels: int
    out_channels: int
    widths: tuple[int, ...]
    num_layers: int
    down_depths: tuple[tuple[int, ...], ...]
    middle_depth: int
    """-1 where the middle is a ResNet alone."""
    up_depths: tuple[tuple[int, ...], ...]
    """From the smallest picture to the largest."""
    context_width: int
    linear: bool
    """Whether the transformers are entered through a linear layer, or through a convolution of one pixel."""
    label_width: int
    """0 where no vector comes beside the time."""

    @property
    def layout(self) -> UNetLayout:
        return UNetLayout(self.num_layers, frozenset(level for level, depths in enumerate(self.up_depths) if any(depths)))


def unet_shape(shapes: Shapes, prefix: str) -> UNetShape:
    """Raises AthanorError where the names do not make a U-Net of SD's kind."""
    names = {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}
    try:
        return _shape_of(names)
    except (KeyError, IndexError, ValueError, StopIteration) as error:
        raise AthanorError(
            f"The U-Net in this file has an unknown layout ({str(error) or 'nothing reads words'}); choose the whole checkpoint of SD1.5, SD2 or SDXL."
        ) from None


def _shape_of(shapes: dict[str, tuple[int, ...]]) -> UNetShape:
    def depth(block: str) -> int:
        return count_blocks(shapes, f"{block}.transformer_blocks")

    levels: list[list[int]] = [[]]
    widths: list[int] = []
    for number in range(1, count_blocks(shapes, "input_blocks")):
        if f"input_blocks.{number}.0.op.weight" in shapes:
            levels.append([])
            continue
        width = shapes[f"input_blocks.{number}.0.out_layers.3.weight"][0]
        if not levels[-1]:
            widths.append(width)
        levels[-1].append(depth(f"input_blocks.{number}.1"))
    num_layers = len(levels[0])
    ups = [depth(f"output_blocks.{number}.1") for number in range(count_blocks(shapes, "output_blocks"))]
    if any(len(level) != num_layers for level in levels) or len(ups) != len(levels) * (num_layers + 1):
        raise ValueError("levels of unequal depth")
    key = next(name for name in shapes if name.endswith(".transformer_blocks.0.attn2.to_k.weight"))
    entry = key.split(".transformer_blocks.")[0] + ".proj_in.weight"
    return UNetShape(
        in_channels=shapes["input_blocks.0.0.weight"][1],
        out_channels=shapes["out.2.weight"][0],
        widths=tuple(widths),
        num_layers=num_layers,
        down_depths=tuple(map(tuple, levels)),
        middle_depth=depth("middle_block.1") if "middle_block.2.in_layers.2.weight" in shapes else -1,
        up_depths=tuple(tuple(ups[i : i + num_layers + 1]) for i in range(0, len(ups), num_layers + 1)),
        context_width=shapes[key][1],
        linear=len(shapes[entry]) == 2,
        label_width=shapes["label_emb.0.0.weight"][1] if "label_emb.0.0.weight" in shapes else 0,
    )


def prediction_of(header: Header) -> tuple[Prediction, bool]:
    """What the U-Net of a file predicts, and whether its last time is noise alone: as ComfyUI, by the tensors `v_pred` and `ztsnr`.

    Also by the model spec's `prediction_type`, which ComfyUI does not read.
    """
    if "v_pred" in header.shapes:
        return "v", "ztsnr" in header.shapes
    return ("v" if header.metadata.get("modelspec.prediction_type") == "v" else "epsilon"), "ztsnr" in header.shapes


def load_unet(file: TensorFile, shape: UNetShape, heads: Callable[[int], int], sample_size: int, dtype: torch.dtype) -> nn.Module:
    """diffusers' U-Net; `heads` tells how many heads a level of that width has."""
    from diffusers import UNet2DConditionModel

    def kinds(depths: Sequence[tuple[int, ...]], plain: str) -> tuple[str, ...]:
        return tuple(f"CrossAttn{plain}" if any(each) else plain for each in depths)

    def blocks(depths: tuple[int, ...]) -> int | tuple[int, ...]:
        return max(depths[0], 1) if len(set(depths)) == 1 else depths

    module = empty(
        lambda: UNet2DConditionModel(
            sample_size=sample_size,
            in_channels=shape.in_channels,
            out_channels=shape.out_channels,
            block_out_channels=shape.widths,
            layers_per_block=shape.num_layers,
            down_block_types=kinds(shape.down_depths, "DownBlock2D"),
            mid_block_type="UNetMidBlock2D" if shape.middle_depth < 0 else "UNetMidBlock2DCrossAttn",
            up_block_types=kinds(shape.up_depths, "UpBlock2D"),
            transformer_layers_per_block=tuple(map(blocks, shape.down_depths)),  # type: ignore[arg-type]
            reverse_transformer_layers_per_block=tuple(map(blocks, shape.up_depths)),  # type: ignore[arg-type]
            attention_head_dim=tuple(map(heads, shape.widths)),
            cross_attention_dim=shape.context_width,
            use_linear_projection=shape.linear,
            addition_embed_type="text_time" if shape.label_width else None,
            addition_time_embed_dim=_TIME_WIDTH if shape.label_width else None,
            projection_class_embeddings_input_dim=shape.label_width or None,
        )
    )
    layout = shape.layout

    def locate(name: str) -> tuple[tuple[str, ...], Place]:
        layer, _, leaf = name.rpartition(".")
        return (f"{layout.native(layer)}.{leaf}",), Place("")

    return fill(module, file, locate, dtype, "U-Net")


def unet_targets() -> str:
    """The modules that sd-scripts' networks.lora trains: attention and MLP, and the ways in and out of each transformer."""
    block = r"transformer_blocks\.\d+\.(?:attn[12]\.to_(?:q|k|v|out\.0)|ff\.net\.(?:0\.proj|2))"
    return rf".*\.attentions\.\d+\.(?:proj_in|proj_out|{block})"


def num_unet_targets(denoiser: nn.Module) -> int:
    """Two a transformer and ten a block of it, counted from the configuration."""
    config = denoiser.config
    depths = _list_of(config.transformer_layers_per_block, config.down_block_types)
    reverse = config.get("reverse_transformer_layers_per_block")
    up_depths = _list_of(reverse, config.up_block_types) if reverse else depths[::-1]
    down = sum(_targets(depth, config.layers_per_block) for kind, depth in zip(config.down_block_types, depths, strict=True) if "CrossAttn" in kind)
    up = sum(
        _targets(depth, config.layers_per_block + 1) for kind, depth in zip(config.up_block_types, up_depths, strict=True) if "CrossAttn" in kind
    )
    return down + up + (_targets(depths[-1], 1) if "CrossAttn" in config.mid_block_type else 0)


def _list_of(depths: int | Sequence, kinds: Sequence[str]) -> list:
    return [depths] * len(kinds) if isinstance(depths, int) else list(depths)


def _targets(depth: int | Sequence[int], num: int) -> int:
    each = [depth] * num if isinstance(depth, int) else list(depth)[:num]
    return sum(2 + 10 * one for one in each if one)


def draw(
    base: BaseModel,
    predict: Callable[[torch.Tensor, torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor],
    prompts: Sequence[Prompted],
    steps: int,
    guidance: float,
    shape: tuple[int, int, int],
    device: torch.device,
) -> torch.Tensor:
    """Latents [B, C, H, W] by DDIM (Song et al. 2021) with classifier-free guidance (Ho and Salimans 2022, equation 6).

    `predict` takes noisy latents, a time in 0..999 and the conditioning. With zero terminal SNR the steps end at the last
    time, and the picture starts from noise alone (Lin et al. 2024, section 3.3).
    """
    import torch
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_pretrained(str(_SCHEDULER), local_files_only=True)
    kind = {"epsilon": "epsilon", "v": "v_prediction"}[base.prediction]
    changes = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if base.zero_terminal_snr else {}
    scheduler = DDIMScheduler.from_config(scheduler.config, prediction_type=kind, **changes)
    scheduler.set_timesteps(steps)
    latents = torch.stack([torch.randn(shape, generator=torch.Generator("cpu").manual_seed(prompt.seed)) for prompt in prompts]).to(device)
    positive = {name: torch.cat([prompt.positive[name] for prompt in prompts]).to(device) for name in prompts[0].positive}
    negative = {name: torch.cat([prompt.negative[name] for prompt in prompts]).to(device) for name in prompts[0].negative}
    for time in scheduler.timesteps:
        predicted = predict(latents, time, positive).float()
        if guidance != 1.0:
            without = predict(latents, time, negative).float()
            predicted = without + guidance * (predicted - without)
        latents = scheduler.step(predicted, time, latents).prev_sample
    return latents


def pictures(
    base: BaseModel,
    denoiser: nn.Module,
    vae: nn.Module,
    predict: Callable[[torch.Tensor, torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor],
    prompts: Sequence[Prompted],
    steps: int,
    guidance: float,
    size_px: tuple[int, int],
) -> list[Image.Image]:
    """Of Stability's latents, four channels at an eighth of the size; `predict` as in `draw`."""
    shape = (_LATENT_CHANNELS, size_px[1] // _STRIDE_PX, size_px[0] // _STRIDE_PX)
    return decoded(vae, draw(base, predict, prompts, steps, guidance, shape, denoiser.device))


def decoded(vae: nn.Module, latents: torch.Tensor) -> list[Image.Image]:
    from PIL import Image

    pixels = decode_within_memory(vae, latents.float() / vae.config.scaling_factor)
    arrays = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in arrays]


def encoded(vae: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the scaled latents, [B, C, H, W] each."""
    posterior = vae.encode(pixels).latent_dist
    return posterior.mean * vae.config.scaling_factor, posterior.std * vae.config.scaling_factor
