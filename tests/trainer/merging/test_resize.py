from __future__ import annotations

import pytest
import torch

from athanor.trainer.merging.resize import Factors, Limit, factors_of, resized


def product(seed: int, rank: int = 6) -> Factors:
    draw = torch.Generator().manual_seed(seed)
    return Factors(torch.randn(20, rank, generator=draw), torch.randn(rank, 12, generator=draw))


def test_without_a_limit_nothing_is_touched():
    factors = product(0)
    assert resized(factors, Limit()) is factors
    assert resized(factors, Limit(rank=6)) is factors


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_it_is_the_truncated_decomposition_of_the_whole_matrix(rank):
    factors = product(1)
    whole = (factors.up @ factors.down).double()
    left, values, right = torch.linalg.svd(whole, full_matrices=False)
    expected = left[:, :rank] * values[:rank] @ right[:rank]
    for found in (resized(factors, Limit(rank)), factors_of(whole.float(), Limit(rank))):
        assert found.rank == rank
        assert torch.allclose((found.up @ found.down).double(), expected, atol=1e-5)
        assert found.kept == pytest.approx(float(values[:rank].square().sum() / values.square().sum()), abs=1e-6)
        # Both factors carry the same size, so that half precision loses least.
        assert float(found.up.norm()) == pytest.approx(float(found.down.norm()), rel=1e-5)


def test_the_energy_decides_the_least_rank_that_keeps_it():
    values = torch.tensor([4.0, 2.0, 1.0, 0.5])
    factors = Factors(torch.eye(8)[:, :4] * values, torch.eye(4, 10))
    total = float(values.square().sum())
    for energy, rank in ((16 / total - 0.01, 1), (16 / total + 0.01, 2), (20 / total + 0.01, 3), (0.9999, 4)):
        assert resized(factors, Limit(energy=energy)).rank == rank
    assert resized(factors, Limit(rank=2, energy=0.9999)).rank == 2


def test_a_whole_change_of_low_rank_is_found_out_and_a_zero_one_has_one_column():
    factors = product(2, rank=3)
    assert factors_of(factors.up @ factors.down, Limit()).rank <= 12
    zero = factors_of(torch.zeros(5, 4), Limit())
    assert zero.rank == 1 and zero.kept == 1 and not (zero.up @ zero.down).any()
