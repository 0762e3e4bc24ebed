"""How the frozen base is kept in memory: in the precision of the arithmetic, or smaller and unfolded layer by layer when it is needed.

diffusers' layer-wise casting keeps the unfolded weights for the backward pass, so that nothing is won without gradient
checkpointing; here the backward pass unfolds them anew.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..files import told_bytes

if TYPE_CHECKING:
    import torch
    from torch import nn

_DRAWING_BYTES = 3 << 30
"""For a picture that is drawn and decoded, beside the base on a GPU."""
_LARGEST = {"fp8": 448.0, "int8": 127.0}
_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "nf4": 0.53}
"""A weight. NF4's scales are numbers too (Dettmers et al. 2023, section 3)."""


@dataclass(frozen=True)
class Room:
    """What a base has to fit into; `free_bytes` is None where memory is not counted (Apple)."""

    free_bytes: int | None
    has_nf4: bool
    on_gpu: bool = True


def nf4_problem() -> str | None:
    """A sentence where NF4 cannot be had."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return "The base precision is nf4, which needs bitsandbytes; install it into ComfyUI's Python with pip install bitsandbytes, or choose fp8."
    return None


def room_on(device: torch.device, packs: bool = True) -> Room:
    """Without `packs` nf4 is no choice: what goes onto the weights needs them unpacked."""
    import psutil
    import torch

    if device.type == "cuda":
        return Room(torch.cuda.mem_get_info(device)[0], packs and nf4_problem() is None)
    return Room(psutil.virtual_memory().available if device.type == "cpu" else None, False, on_gpu=False)


def step_bytes(num_weights: int, precision: str, num_px: int) -> int:
    """What a step takes of a GPU beside its frozen base, with full gradient checkpointing and an adapter of rank 16.

    `num_px`: of all pictures of the batch. A plane over what `benchmarks/memory.py` counts for SD1.5, SDXL, SD3.5 and FLUX
    from 512 to 1536 px in bf16, and half a GiB for what the allocator loses between its blocks.
    """
    billions, megapixels = num_weights / 1e9, num_px / 2**20
    width = 2 if precision == "fp32" else 1
    return int((0.8 + 0.075 * billions + width * (0.75 + 0.157 * billions) * megapixels) * 2**30)


def chosen_storage(wanted: str, precision: str, num_weights: int, room: Room, trained_px: int = 0) -> str:
    """`wanted`, or for "auto" the first of `precision`, fp8 and nf4 that fits.

    `trained_px`: pixels of the largest batch that is trained; 0 where pictures are only drawn.

    Raises AthanorError where it does not fit, telling what would.
    """
    if room.free_bytes is None:
        return precision if wanted == "auto" else wanted
    choices = [each for each in (precision, "fp8", "nf4") if each != "nf4" or room.has_nf4]
    # The CPU trains small models too, and what it lacks it can put onto the disk: there the base alone is counted.
    beside = 0 if not room.on_gpu else step_bytes(num_weights, precision, trained_px) if trained_px else _DRAWING_BYTES
    fitting = [each for each in choices if num_weights * _BYTES[each] + beside <= room.free_bytes]
    if wanted == "auto" and fitting:
        return fitting[0]
    smallest = min(choices, key=lambda each: _BYTES[each])
    # What a large batch takes is a guess on the safe side, which refuses nobody.
    if wanted == "auto" and num_weights * _BYTES[smallest] + min(beside, _DRAWING_BYTES) <= room.free_bytes:
        return smallest
    # With room for the base, if not for all of the rest, it is worth a try where it was asked for.
    if wanted != "auto" and num_weights * _BYTES[wanted] <= room.free_bytes:
        return wanted
    needed = {each: f"{told_bytes(num_weights * _BYTES[each] + beside)} as {each}" for each in {*choices, *([wanted] if wanted != "auto" else [])}}
    advice = (
        f"choose base precision {fitting[0]}"
        if fitting
        else f"close other programs{' that use the GPU' if room.on_gpu else ''}, or choose a smaller base; even {smallest} is too large"
    )
    raise AthanorError(
        f"The base does not fit: it needs {', '.join(needed[each] for each in sorted(needed, key=lambda name: -_BYTES[name]))}, and {told_bytes(room.free_bytes)} are free; {advice}."
    )


def hold(module: nn.Module, storage: str, precision: str) -> nn.Module:
    """Keeps the weights of linear layers and convolutions in `storage`; everything else stays in `precision`, as loaded."""
    import torch
    from torch import nn

    if storage == precision:
        return module
    if storage == "nf4":
        return _as_nf4(module, {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision])
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float8_e4m3fn, "int8": torch.int8}[storage]
    linear, conv = _held_classes()
    for layer in module.modules():
        if type(layer) not in (nn.Linear, nn.Conv2d):
            continue
        weight = layer.weight.data
        scale = None
        if storage in _LARGEST:
            # A scale for each output, since eight bits hold few exponents or none.
            scale = weight.float().flatten(1).abs().amax(dim=1).clamp(min=1e-12) / _LARGEST[storage]
            weight = weight.float() / scale.view(-1, *[1] * (weight.dim() - 1))
            weight = weight.round() if storage == "int8" else weight
        stored = weight.to(kind)
        # As bytes, so that no library takes the storage for the precision of what it puts beside the layer.
        layer.weight = nn.Parameter(stored if scale is None else stored.view(torch.uint8), requires_grad=False)
        layer.register_buffer("weight_scale", scale, persistent=False)
        layer.weight_kind = kind  # type: ignore[assignment]
        layer.__class__ = linear if type(layer) is nn.Linear else conv
    return module


_NF4_BLOCK = 64


def _as_nf4(module: nn.Module, compute: torch.dtype) -> nn.Module:
    import bitsandbytes
    import torch
    from torch import nn

    class Linear4bit(bitsandbytes.nn.Linear4bit):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # What comes out has the format of autocast, as that of a plain layer has; bitsandbytes gives back the format that came in.
            return super().forward(x.to(torch.get_autocast_dtype(x.device.type)) if torch.is_autocast_enabled(x.device.type) else x)

    for name, child in list(module.named_modules()):
        # bitsandbytes packs rows in blocks, and cannot compute with split ones on every CPU.
        if type(child) is not nn.Linear or child.in_features % _NF4_BLOCK:
            continue
        replaced = Linear4bit(
            child.in_features,
            child.out_features,
            child.bias is not None,
            compute_dtype=compute,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        replaced.weight = bitsandbytes.nn.Params4bit(child.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True)
        replaced.bias = child.bias
        # Its other form for processors knows no gradients.
        replaced.support_avx512bf16_for_cpu = False
        parent, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(parent), leaf, replaced)
    # peft asks the model, not the layer, whether it is quantised.
    module.is_loaded_in_4bit = True  # type: ignore[assignment]
    return module


def _held_classes() -> tuple[type, type]:
    import torch
    from torch import nn

    class HeldLinear(nn.Linear):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return unfolding(self, given, lambda weight, bias, x: nn.functional.linear(x, weight, bias))

    class HeldConv2d(nn.Conv2d):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return unfolding(self, given, lambda weight, bias, x: self._conv_forward(x, weight, bias))

    def unfolding(layer, given: torch.Tensor, apply) -> torch.Tensor:
        kind = given.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else given.dtype
        weight = plain_weight(layer).to(dtype)
        place = weight.data_ptr()

        def pack(tensor: torch.Tensor):
            return (tensor.size(), tensor.stride()) if tensor.data_ptr() == place and tensor.dtype == dtype else tensor

        def unpack(saved) -> torch.Tensor:
            if isinstance(saved, torch.Tensor):
                return saved
            size, stride = saved
            return plain_weight(layer).to(dtype).as_strided(size, stride)

        bias = None if layer.bias is None else layer.bias.to(dtype)
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return apply(weight, bias, given.to(dtype))

    return HeldLinear, HeldConv2d


def plain_weight(layer: nn.Module) -> torch.Tensor:
    """The weight of a held or plain layer; a scaled one in fp32."""
    scale = getattr(layer, "weight_scale", None)
    if scale is None:
        return layer.weight
    return layer.weight.view(layer.weight_kind).float() * scale.view(-1, *[1] * (layer.weight.dim() - 1))
