"""ComfyUI's models on the GPU, and their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.lora
import comfy.model_management
import comfy.quant_ops

if TYPE_CHECKING:
    import torch


def free_memory() -> None:
    """Makes room for the worker: every model that ComfyUI holds on the GPU goes."""
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is what a full GPU raises."""
    return isinstance(error, comfy.model_management.OOM_EXCEPTION) or "out of memory" in str(error).lower()


def compute_device() -> str:
    """Where ComfyUI computes."""
    return str(comfy.model_management.get_torch_device())


def baked_weight(patches: list, key: str, device: torch.device) -> torch.Tensor:
    """The weight of `key` with everything that a graph has put upon it, in fp32; `patches` as `get_key_patches` gives them."""
    (weight, convert), *changes = patches
    plain = convert(comfy.model_management.cast_to_device(weight, device, None, copy=True), inplace=True)
    if isinstance(plain, comfy.quant_ops.QuantizedTensor):
        plain = plain.dequantize()
    return comfy.lora.calculate_weight(changes, plain.float(), key)
