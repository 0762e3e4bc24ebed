from __future__ import annotations

import random
import statistics

import pytest

from athanor.trainer.scoring.bootstrap import NUM_RESAMPLES, resampled, student


def drawn(mean: float, spread: float, num: int, seed: int) -> list[float]:
    draw = random.Random(seed)
    return [draw.gauss(mean, spread) for _ in range(num)]


def test_the_interval_of_a_mean_is_that_of_the_normal_law_where_there_are_many():
    values = drawn(5.0, 2.0, 400, 1)
    interval = resampled([values], "m").interval(0)
    half = 1.96 * statistics.pstdev(values) / len(values) ** 0.5
    assert interval.low == pytest.approx(statistics.fmean(values) - half, abs=0.15 * half)
    assert interval.high == pytest.approx(statistics.fmean(values) + half, abs=0.15 * half)


def test_it_covers_the_truth_about_as_often_as_it_says():
    covered = sum((found := resampled([drawn(0.0, 1.0, 30, seed)], "m").interval(0)).low <= 0 <= found.high for seed in range(200))
    assert 0.88 <= covered / 200 <= 0.99


@pytest.mark.parametrize("num", [3, 5, 8])
def test_few_images_do_not_make_winners_of_equal_epochs(num):
    """The plain bootstrap has one in 27, 17 and 11 of 100."""
    winners = 0
    for seed in range(300):
        shared = drawn(0.0, 1.0, num, 3 * seed)
        pair = [[value + own for value, own in zip(shared, drawn(0.0, 0.3, num, 3 * seed + each), strict=True)] for each in (1, 2)]
        winners += resampled(pair, "m").difference(0, 1).excludes_0()
    assert 0.01 <= winners / 300 <= 0.1, "of 3,000 it is one of twenty"


@pytest.mark.parametrize(("freedom", "quantile"), [(2, 4.3027), (6, 2.4469), (15, 2.1314), (100, 1.9840)])
def test_students_t_is_that_of_the_tables(freedom, quantile):
    assert student(freedom) == pytest.approx(quantile, rel=1e-3)


def test_images_are_drawn_together_so_that_a_small_steady_difference_is_seen():
    hard = drawn(0.0, 10.0, 20, 2)
    better = [value - 0.1 for value in hard]
    again = resampled([hard, better], "m")
    assert again.interval(0).high - again.interval(0).low > 5, "apart neither is known well"
    difference = again.difference(1, 0)
    assert difference.excludes_0() and difference.low == pytest.approx(-0.1) == difference.high


def test_the_chance_of_being_best_goes_the_way_that_is_better():
    again = resampled([drawn(0.0, 1.0, 50, 3), drawn(3.0, 1.0, 50, 4)], "m")
    assert again.chance_of_best(0, [0, 1], "lower") == 1.0 and again.chance_of_best(0, [0, 1], "higher") == 0.0
    alike = resampled([drawn(0.0, 1.0, 50, 5), drawn(0.0, 1.0, 50, 6)], "m")
    chances = [alike.chance_of_best(i, [0, 1], "lower") for i in range(2)]
    assert sum(chances) == pytest.approx(1.0) and min(chances) > 0


def test_too_few_images_have_no_interval_and_the_same_numbers_the_same_one():
    assert resampled([[1.0, 2.0]], "m").interval(0) is None and resampled([[1.0, 2.0]], "m").chance_of_best(0, [0], "lower") is None
    first, second, other = (resampled([[1.0, 2.0, 4.0]], name).means for name in ("m", "m", "n"))
    assert first.shape == (NUM_RESAMPLES, 1) and (first == second).all() and (first != other).any()
