"""A change of a weight by fewer numbers: the best low-rank product, and how much of the change it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Limit:
    """How large a layer may stay. With both open it stays exact."""

    rank: int = 0
    """At most so many columns; 0 sets no limit."""
    energy: float = 1.0
    """As few columns as keep this share (0 to 1] of the squared singular values."""

    @property
    def is_exact(self) -> bool:
        return self.rank == 0 and self.energy >= 1


@dataclass(frozen=True)
class Factors:
    """ΔW = up · down, of the shapes (out, rank) and (rank, in)."""

    up: torch.Tensor
    down: torch.Tensor
    kept: float = 1.0
    """The share of the squared singular values that is in them; 1 is all."""

    @property
    def rank(self) -> int:
        return self.up.shape[1]


def resized(factors: Factors, limit: Limit) -> Factors:
    """The nearest product within `limit`, by the truncated singular value decomposition (Eckart and Young 1936).

    The decomposition is that of the small core R₁R₂ᵀ of two QR decompositions, so that the full matrix is never built.
    """
    import torch

    if limit.is_exact or (limit.energy >= 1 and factors.rank <= limit.rank):
        return factors
    q_up, r_up = torch.linalg.qr(factors.up.double())
    q_down, r_down = torch.linalg.qr(factors.down.double().T)
    left, values, right = torch.linalg.svd(r_up @ r_down.T)
    rank, kept = _rank(values, limit)
    root = values[:rank].sqrt()
    up, down = q_up @ left[:, :rank] * root, root[:, None] * (right[:rank] @ q_down.T)
    return Factors(up.float(), down.float(), kept)


def factors_of(change: torch.Tensor, limit: Limit) -> Factors:
    """The factors of a whole change (out, in), for kinds whose sum is no product of small ones; at full rank where nothing limits it."""
    import torch

    left, values, right = torch.linalg.svd(change.double(), full_matrices=False)
    rank, kept = _rank(values, limit)
    root = values[:rank].sqrt()
    return Factors((left[:, :rank] * root).float(), (root[:, None] * right[:rank]).float(), kept)


def _rank(values: torch.Tensor, limit: Limit) -> tuple[int, float]:
    """How many singular values stay, at least one, and their share of the sum of squares."""
    energies = values.square()
    total = float(energies.sum())
    if total == 0:
        return 1, 1.0
    shares = energies.cumsum(0) / total
    # What rounding leaves of a change of low rank is not worth a column.
    rank = int((values > values[0] * 1e-9).sum()) if limit.energy >= 1 else int((shares < limit.energy).sum()) + 1
    rank = min(max(1, rank), limit.rank or len(values), len(values))
    return rank, float(shares[rank - 1])
