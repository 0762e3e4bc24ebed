"""What an adapter kind must be.

Every kind works on single layers: a layer's tensors go by the suffixes under which files keep them ("lora_up.weight",
"alpha"…), and its change of the base's weight is a pure function of those tensors and of that weight. What is the same
for all kinds (whole modules, files, rates) is made of these in attached.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..memory.storage import plain_weight
from ..settings import AdapterSettings

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class LayerPlan:
    """What one layer of the base gets."""

    name: str
    """Of the module, as named_modules has it."""
    rank: int
    alpha: float
    """The change is multiplied by alpha / rank, as every loader does; a rank-stabilised one is already worked in."""
    rate: float = 1.0
    """Multiplies the part's learning rate."""


class Adapter(Protocol):
    title: str
    """For people."""
    options: frozenset[str]
    """The fields of AdapterSettings that have an effect for this kind, beside those that have one for every kind."""
    fast: frozenset[str]
    """The suffixes whose rate LoRA+ raises (Hayou et al. 2024): what is zero at the start."""
    factors: frozenset[str]
    """The suffixes of whose product the change is made; a layer may lack some. Empty where the change is no such product."""
    network_module: str
    """`ss_network_module` of sd-scripts."""
    algo: str | None
    """LyCORIS's name, for `ss_network_args`; None where sd-scripts' own module knows the kind."""

    def attach(self, module: nn.Module, plans: Sequence[LayerPlan], settings: AdapterSettings, seed: int) -> None:
        """Puts fp32 adapters beside the planned layers, in evaluation mode, and freezes all else.

        The output of `module` does not change by this. The same seed starts from the same numbers on every device.
        """
        ...

    def is_layer(self, module: nn.Module) -> bool:
        """Whether `module` is a layer that this kind adapted."""
        ...

    def tensors(self, layer: nn.Module) -> dict[str, torch.Tensor]:
        """The layer's own tensors by suffix; those that are trained are nn.Parameter."""
        ...

    def load(self, layer: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
        """The inverse of `tensors`. Raises ValueError, with a sentence's second half, where they do not fit the layer."""
        ...

    def set_strength(self, layer: nn.Module, strength: float) -> None:
        """Multiplies the layer's change of the weight; 0 is the base alone."""
        ...

    def recognises(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Whether a file's layer is of this kind."""
        ...

    def rank_of(self, tensors: Mapping[str, torch.Tensor]) -> int:
        """The rank of a file's layer; 1 where the kind has none."""
        ...

    def change(self, tensors: Mapping[str, torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
        """What is added to `weight` at strength 1, in fp32 and of its shape."""
        ...


def base_weight(layer: nn.Module) -> torch.Tensor:
    """The frozen weight of an adapted or plain layer, in fp32; a quantised one is read out."""
    from peft.utils.integrations import dequantize_module_weight

    base = getattr(layer, "base_layer", layer)
    weight = plain_weight(base) if getattr(base, "weight_scale", None) is not None else dequantize_module_weight(base)
    return weight.detach().float()


def scaled(change: torch.Tensor, scale: float) -> torch.Tensor:
    """`change` times `scale`; without a copy where that is 1, since a change may be as large as the largest weight."""
    return change if scale == 1 else change * scale


def scale_of(tensors: Mapping[str, torch.Tensor], rank: int) -> float:
    """alpha / rank; 1 without an alpha, as ComfyUI reads it."""
    return float(tensors["alpha"]) / rank if "alpha" in tensors else 1.0
