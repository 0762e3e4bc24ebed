"""LoHa: W + alpha / rank * (w1_a @ w1_b) * (w2_a @ w2_b), the product of two low ranks (Hyeon-Woo et al. 2021, FedPara), by peft."""

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

_SUFFIXES = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")


class LoHa:
    title = "LoHa"
    options = frozenset({"rank", "alpha", "conv_rank", "conv_alpha", "rank_stabilised", "rank_dropout", "module_dropout", "max_norm"})
    fast: frozenset[str] = frozenset()
    factors = frozenset(_SUFFIXES)
    network_module = "lycoris.kohya"
    algo = "loha"

    def attach(self, module: nn.Module, plans: Sequence[LayerPlan], settings: AdapterSettings, seed: int) -> None:
        from peft import LoHaConfig

        def config(rank: int, alpha: float, names: str) -> LoHaConfig:
            return LoHaConfig(r=rank, alpha=alpha, target_modules=names, rank_dropout=settings.rank_dropout, module_dropout=settings.module_dropout)  # type: ignore[arg-type]

        inject(module, plans, config, seed)

    def is_layer(self, module: nn.Module) -> bool:
        from peft.tuners.loha.layer import LoHaLayer

        return isinstance(module, LoHaLayer)

    def tensors(self, layer: nn.Module) -> dict[str, torch.Tensor]:
        import torch

        return {**entries(layer, _SUFFIXES), "alpha": torch.tensor(float(layer.alpha[NAME]))}

    def load(self, layer: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
        missing = [suffix for suffix in _SUFFIXES[:4] if suffix not in tensors]
        if missing:
            raise ValueError(f"lacks the tensor {missing[0]}")
        replace_entries(layer, _SUFFIXES, tensors)
        rank = self.rank_of(tensors)
        layer.r[NAME], layer.alpha[NAME] = rank, scale_of(tensors, rank) * rank
        layer.set_scale(NAME, 1.0)

    def set_strength(self, layer: nn.Module, strength: float) -> None:
        layer.set_scale(NAME, strength)

    def recognises(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        return "hada_w1_a" in tensors and "dora_scale" not in tensors

    def rank_of(self, tensors: Mapping[str, torch.Tensor]) -> int:
        return tensors["hada_w1_b"].shape[0]

    def change(self, tensors: Mapping[str, torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
        import torch

        def factor(a: str, b: str, core: str) -> torch.Tensor:
            left, right = (tensors[name].float().to(weight.device) for name in (a, b))
            if core not in tensors:
                return left @ right
            return torch.einsum("ijkl,jr,ip->prkl", tensors[core].float().to(weight.device), right, left)

        product = factor("hada_w1_a", "hada_w1_b", "hada_t1") * factor("hada_w2_a", "hada_w2_b", "hada_t2")
        return scaled(product.reshape(weight.shape), scale_of(tensors, self.rank_of(tensors)))


ADAPTERS.register("loha")(LoHa())
