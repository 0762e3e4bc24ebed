"""A LoRA's tensors in the names that another program wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .fused import LayerTensors, fuse, places_of

if TYPE_CHECKING:
    import torch


def in_kohya_names(layers: Mapping[str, LayerTensors], module_names: list[str]) -> dict[str, torch.Tensor]:
    """A transformer's LoRA as sd-scripts writes it: fused layers under `lora_unet_`. `module_names` are all of the transformer's."""
    fused = fuse(layers, places_of(module_names))
    return {f"lora_unet_{module.replace('.', '_')}.{suffix}": tensor for module, tensors in fused.items() for suffix, tensor in tensors.items()}


def in_peft_names(layers: Mapping[str, LayerTensors], prefix: str) -> dict[str, torch.Tensor]:
    """As diffusers and peft write it: `lora_A` and `lora_B` and no alpha, whose scale goes into `lora_B`."""
    tensors = {}
    for name, held in layers.items():
        down, up = held["lora_down.weight"], held["lora_up.weight"]
        scale = float(held["alpha"]) / len(down) if "alpha" in held else 1.0
        tensors[f"{prefix}.{name}.lora_A.weight"] = down
        tensors[f"{prefix}.{name}.lora_B.weight"] = up * scale
    return tensors
