"""A LoRA's tensors in the names that another program wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..families.base import Part
from .fused import LayerTensors, fuse, places_of

if TYPE_CHECKING:
    import torch


def spelt(names: str, part: Part, layers: Mapping[str, LayerTensors], module_names: Iterable[str]) -> dict[str, torch.Tensor] | None:
    """One part's LoRA in "kohya" or "diffusers" names; None where those that the family exports are already what is asked for.

    `module_names` are all of the part's, which tell what kind of model it is.
    """
    module_names = list(module_names)
    transformer = part == "denoiser" and bool(places_of(module_names))
    if names == "kohya":
        return in_kohya_names(layers, module_names) if transformer else None
    if names == "diffusers":
        if part == "denoiser":
            return in_peft_names(layers, "transformer" if transformer else "unet")
        # Files say text_model, whether or not this version of transformers has it.
        whole = {name if ".block." in name else "text_model." + name.removeprefix("text_model."): held for name, held in layers.items()}
        return in_peft_names(whole, part)
    return None


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
