"""LoRA on linear and convolution layers: W + alpha / rank * up @ down (Hu et al. 2021, equation 3), by peft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import AthanorError
from . import ADAPTERS
from .base import KeyOf

if TYPE_CHECKING:
    import torch
    from torch import nn

_PEFT_NAME = "default"


class Lora:
    def attach(self, module: nn.Module, targets: str, rank: int, alpha: float, seed: int) -> tuple[str, ...]:
        import torch
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0, bias="none")  # type: ignore[arg-type]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(config, module, adapter_name=_PEFT_NAME)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_("lora_" in name)
            if "lora_" in name:
                parameter.data = parameter.data.float()
        return tuple(_layers(module))

    def parameters(self, module: nn.Module) -> dict[str, torch.Tensor]:
        found = {}
        for name, layer in _layers(module).items():
            found[f"{name}.lora_down"] = layer.lora_A[_PEFT_NAME].weight
            found[f"{name}.lora_up"] = layer.lora_B[_PEFT_NAME].weight
        return found

    def export(self, module: nn.Module, key_of: KeyOf) -> dict[str, torch.Tensor]:
        import torch

        tensors = {}
        for name, layer in _layers(module).items():
            key = key_of(name)
            tensors[f"{key}.lora_down.weight"] = layer.lora_A[_PEFT_NAME].weight.detach().float().cpu().clone().contiguous()
            tensors[f"{key}.lora_up.weight"] = layer.lora_B[_PEFT_NAME].weight.detach().float().cpu().clone().contiguous()
            # Loaders take a missing alpha for a scale of 1, whatever the rank.
            tensors[f"{key}.alpha"] = torch.tensor(float(layer.lora_alpha[_PEFT_NAME]))
        return tensors

    def load(self, module: nn.Module, tensors: Mapping[str, torch.Tensor], key_of: KeyOf) -> int:
        import torch

        taken = 0
        for name, layer in _layers(module).items():
            key = key_of(name)
            try:
                down, up, alpha = (tensors[f"{key}.{part}"] for part in ("lora_down.weight", "lora_up.weight", "alpha"))
            except KeyError as error:
                raise AthanorError(f"The LoRA lacks the tensor {error.args[0]}; it was made for another base or with other settings.") from None
            for current, wanted in ((layer.lora_A[_PEFT_NAME].weight, down), (layer.lora_B[_PEFT_NAME].weight, up)):
                if current.shape != wanted.shape:
                    raise AthanorError(f"The LoRA's {key} has the shape {tuple(wanted.shape)}, the base wants {tuple(current.shape)}.")
                with torch.no_grad():
                    current.copy_(wanted)
            layer.lora_alpha[_PEFT_NAME] = float(alpha)
            layer.set_scale(_PEFT_NAME, 1.0)
            taken += 3
        return taken

    def set_strength(self, module: nn.Module, strength: float) -> None:
        for layer in _layers(module).values():
            layer.set_scale(_PEFT_NAME, strength)


def _layers(module: nn.Module) -> dict[str, nn.Module]:
    """The adapted layers by name, in the order of their names."""
    from peft.tuners.lora import LoraLayer

    return {name: layer for name, layer in sorted(module.named_modules()) if isinstance(layer, LoraLayer)}


ADAPTERS.register("lora")(Lora())
