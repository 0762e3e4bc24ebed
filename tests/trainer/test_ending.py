from __future__ import annotations

import math

from athanor.trainer.ending import WINDOW_STEPS, ExplosionWatch, lost_patience


def test_patience_counts_measurements_since_the_best_one():
    losses = {0: 1.0, 1: 0.8, 2: 0.7, 3: 0.75, 4: 0.71}
    assert lost_patience(losses, 2) and not lost_patience(losses, 3) and not lost_patience(losses, 0)
    assert not lost_patience({}, 1) and not lost_patience({0: 1.0}, 1)
    assert lost_patience({0: 1.0, 2: 1.1, 4: 1.2}, 2), "epochs that were not measured do not count"


def test_a_single_hard_image_is_no_explosion_but_a_rising_mean_is():
    watch = ExplosionWatch(10.0, [0.1] * 40)
    assert not watch.broken(5.0 * 3), "one step alone moves the mean to 8 times its lowest"
    broken = [watch.broken(3.0) for _ in range(WINDOW_STEPS)]
    assert broken[-1] and watch.num_bad_steps() == WINDOW_STEPS
    assert not any(ExplosionWatch(0.0, [0.1] * 40).broken(1e9) for _ in range(1))


def test_what_is_not_finite_is_always_broken():
    assert ExplosionWatch(0.0, []).broken(math.nan) and ExplosionWatch(0.0, []).broken(math.inf)
