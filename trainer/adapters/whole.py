"""Whole changes of weights and biases that files keep beside their adapters: `diff` of norms and `diff_b` of biases.

ComfyUI's own trainer writes one for every norm and bias, LyCORIS where norms are trained too, or whole weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import AthanorError

if TYPE_CHECKING:
    import torch
    from torch import nn

_PARAMETERS = {"diff": "weight", "diff_b": "bias"}
LayerTensors = Mapping[str, Mapping[str, "torch.Tensor"]]


def parted(given: LayerTensors) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, dict[str, torch.Tensor]]]:
    """A file's layers as adapters, and as whole changes; a layer may have both."""
    adapters, whole = {}, {}
    for name, held in given.items():
        factors = {suffix: tensor for suffix, tensor in held.items() if suffix not in _PARAMETERS}
        changes = {suffix: tensor for suffix, tensor in held.items() if suffix in _PARAMETERS}
        if factors.keys() - {"alpha"}:
            adapters[name] = factors
        if changes:
            whole[name] = changes
    return adapters, whole


class WholeChanges:
    """Of a module: at strength 0 its parameters are those that it was made with."""

    def __init__(self, module: nn.Module, changes: LayerTensors, where: str):
        """`where` they come from. Raises AthanorError where they do not fit the module."""
        self._changes: list[tuple[nn.Parameter, torch.Tensor, torch.Tensor]] = []
        for name, held in changes.items():
            layer = module.get_submodule(name)
            layer = getattr(layer, "base_layer", layer)
            for suffix, change in held.items():
                parameter = getattr(layer, _PARAMETERS[suffix], None)
                if parameter is None or parameter.numel() != change.numel() or getattr(layer, "weight_scale", None) is not None:
                    raise AthanorError(
                        f"{where} changes the {_PARAMETERS[suffix]} of {name}, which this base has in another size, in 8 or 4 bits, or not at all; "
                        "choose a file of this family, and bf16 as base precision."
                    )
                self._changes.append((parameter, parameter.detach().clone(), change.detach().float().reshape(parameter.shape)))

    def set_strength(self, strength: float) -> None:
        import torch

        with torch.no_grad():
            for parameter, original, change in self._changes:
                start = original.to(parameter.device)
                changed = start.float() + strength * change.to(parameter.device) if strength else start
                parameter.copy_(changed.to(parameter.dtype))
