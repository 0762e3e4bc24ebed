from __future__ import annotations

import pytest
import torch

from athanor.trainer.errors import AthanorError
from athanor.trainer.schedules import rate_factor


def test_cosine_is_that_of_torch():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert rate_factor("cosine", step, 20, 0) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        scheduler.step()


def test_warm_up_rises_in_a_straight_line_and_never_starts_at_nothing():
    factors = [rate_factor("constant", step, 10, 4) for step in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert rate_factor("cosine", 4, 10, 4) == 1.0


def test_an_unknown_schedule_is_answered_with_the_known_ones():
    with pytest.raises(AthanorError, match="'zigzag'; choose one of: constant, cosine"):
        rate_factor("zigzag", 0, 10, 0)
