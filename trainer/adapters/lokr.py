"""LoKr: W + alpha / rank * w1 ⊗ w2, a Kronecker product whose second factor (or both) may be of low rank (Yeh et al. 2023), by peft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..settings import AdapterSettings
from . import ADAPTERS
from ._peft import NAME, entries, inject, replace_entries
from .base import LayerPlan, scale_of, scaled

if TYPE_CHECKING:
    import torch
    from torch import nn

_SUFFIXES = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
_FULL_RANK = 1 << 20
"""So large that peft splits neither factor."""


class LoKr:
    title = "LoKr"
    options = frozenset(
        {
            *("rank", "alpha", "conv_rank", "conv_alpha", "rank_stabilised", "rank_dropout", "module_dropout", "max_norm"),
            *("factor", "decompose_both", "full_matrix"),
        }
    )
    fast: frozenset[str] = frozenset()
    factors = frozenset(_SUFFIXES)
    network_module = "lycoris.kohya"
    algo = "lokr"

    def attach(self, module: nn.Module, plans: Sequence[LayerPlan], settings: AdapterSettings, seed: int) -> None:
        from peft import LoKrConfig

        def config(rank: int, alpha: float, names: str) -> LoKrConfig:
            return LoKrConfig(
                r=_FULL_RANK if settings.full_matrix else rank,
                alpha=alpha,
                target_modules=names,  # type: ignore[arg-type]
                rank_dropout=settings.rank_dropout,
                module_dropout=settings.module_dropout,
                decompose_both=settings.decompose_both,
                decompose_factor=settings.factor or -1,
            )

        inject(module, plans, config, seed)
        for plan in plans:
            layer = module.get_submodule(plan.name)
            if _is_whole(entries(layer, _SUFFIXES)):
                # Loaders scale nothing where both factors are whole, since there is no rank then.
                layer.r[NAME], layer.alpha[NAME] = plan.rank, float(plan.rank)
                layer.set_scale(NAME, 1.0)

    def is_layer(self, module: nn.Module) -> bool:
        from peft.tuners.lokr.layer import LoKrLayer

        return isinstance(module, LoKrLayer)

    def tensors(self, layer: nn.Module) -> dict[str, torch.Tensor]:
        import torch

        return {**entries(layer, _SUFFIXES), "alpha": torch.tensor(float(layer.alpha[NAME]))}

    def load(self, layer: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
        for first, second in (("lokr_w1", "lokr_w1_b"), ("lokr_w2", "lokr_w2_b")):
            if first not in tensors and second not in tensors:
                raise ValueError(f"lacks the tensor {first}")
        replace_entries(layer, _SUFFIXES, tensors)
        rank = self.rank_of(tensors)
        layer.r[NAME] = rank
        layer.alpha[NAME] = float(rank) if _is_whole(tensors) else scale_of(tensors, rank) * rank
        layer.set_scale(NAME, 1.0)

    def set_strength(self, layer: nn.Module, strength: float) -> None:
        layer.set_scale(NAME, strength)

    def recognises(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        return any(suffix in tensors for suffix in ("lokr_w1", "lokr_w1_a", "lokr_w2", "lokr_w2_a")) and "dora_scale" not in tensors

    def rank_of(self, tensors: Mapping[str, torch.Tensor]) -> int:
        if _is_whole(tensors):
            return max(1, round(float(tensors["alpha"]))) if "alpha" in tensors else 1
        return tensors["lokr_w2_b" if "lokr_w2_b" in tensors else "lokr_w1_b"].shape[0]

    def change(self, tensors: Mapping[str, torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
        import torch

        held = {suffix: tensor.float().to(weight.device) for suffix, tensor in tensors.items() if suffix in _SUFFIXES}
        first = held["lokr_w1"] if "lokr_w1" in held else held["lokr_w1_a"] @ held["lokr_w1_b"]
        if "lokr_w2" in held:
            second = held["lokr_w2"]
        elif "lokr_t2" in held:
            second = torch.einsum("ijkl,jr,ip->prkl", held["lokr_t2"], held["lokr_w2_b"], held["lokr_w2_a"])
        else:
            second = held["lokr_w2_a"] @ held["lokr_w2_b"]
        first = first.reshape(*first.shape, *[1] * (second.dim() - 2))
        scale = 1.0 if _is_whole(tensors) else scale_of(tensors, self.rank_of(tensors))
        return scaled(torch.kron(first, second.contiguous()).reshape(weight.shape), scale)


def _is_whole(tensors: Mapping[str, torch.Tensor]) -> bool:
    return "lokr_w1" in tensors and "lokr_w2" in tensors


ADAPTERS.register("lokr")(LoKr())
