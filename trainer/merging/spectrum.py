"""The nearest product of low rank to a whole change, within limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .resize import Factors

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Bounds:
    """How large a layer may become."""

    rank: int
    """At most; 0 sets no limit."""
    energy: float = 1.0
    """As few columns as keep this share of the squared singular values: 1 - error². 1 takes `rank` columns."""
    min_rank: int = 1
    clamp: float = 1.0
    """The factors' numbers are cut off above this quantile and below its opposite, as sd-scripts' clamp_quantile; 1 cuts nothing."""


def nearest(change: torch.Tensor, bounds: Bounds) -> Factors:
    """The product of that rank that lies nearest to `change` (out, in) (Eckart and Young 1936), in fp32 on the CPU.

    The singular vectors of the shorter side are the eigenvectors of its Gram matrix, in fp64: the other factor is the
    projection onto them, so that nothing of what is kept is lost however small it is. `kept` is the share of the energy in it.
    """
    import torch

    whole = change.double()
    turned = whole.shape[0] > whole.shape[1]
    whole = whole.T if turned else whole
    energies, vectors = torch.linalg.eigh(whole @ whole.T)
    energies, vectors = energies.flip(0).clamp(min=0), vectors.flip(1)
    total = float(energies.sum())
    rank = _rank(energies, total, bounds)
    left = vectors[:, :rank]
    right = left.T @ whole
    kept = 1.0 if total == 0 else float(energies[:rank].sum()) / total
    if bounds.clamp < 1:
        # As sd-scripts: singular values go into the factor of the outputs, and the numbers of both share one bound.
        norms = right.norm(dim=1, keepdim=True)
        left, right = (left, right) if turned else (left * norms.T, right / norms.clamp(min=1e-30))
        bound = _quantile(torch.cat([left.flatten(), right.flatten()]).abs(), bounds.clamp)
        left, right = left.clamp(-bound, bound), right.clamp(-bound, bound)
        kept = max(0.0, 1 - float((whole - left @ right).square().sum()) / total) if total else 1.0
    else:
        # Both factors carry the same size, so that half precision loses least.
        root = right.norm(dim=1).clamp(min=1e-30).sqrt()
        left, right = left * root, right / root[:, None]
    up, down = (right.T, left.T) if turned else (left, right)
    return Factors(up.float().cpu().contiguous(), down.float().cpu().contiguous(), min(1.0, kept))


def _quantile(sizes: torch.Tensor, share: float) -> torch.Tensor:
    """That of the signed numbers, of which as many lie below as above: 0.99 cuts 1 % off either end.

    Which of a pair of singular vectors has which sign is chance, so that each number counts with either.
    """
    last = sizes.numel() - 1
    place = min(max(0.0, share * (2 * sizes.numel() - 1) - sizes.numel()), float(last))
    low = int(place)
    first, second = (sizes.kthvalue(1 + min(at, last)).values for at in (low, low + 1))
    return first + (place - low) * (second - first)


def _rank(energies: torch.Tensor, total: float, bounds: Bounds) -> int:
    most = min(bounds.rank or len(energies), len(energies))
    if bounds.energy >= 1 or total == 0:
        return most if total else 1
    wanted = int((energies.cumsum(0) / total < bounds.energy).sum()) + 1
    return min(max(wanted, bounds.min_rank, 1), most)
