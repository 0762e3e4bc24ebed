from __future__ import annotations

import math
import random

import pytest

from athanor.trainer.compare.ranking import Duel, rank

CITATIONS = {(0, 1): (730, 33), (0, 2): (498, 320), (0, 3): (221, 284), (1, 2): (68, 813), (1, 3): (17, 276), (2, 3): (142, 325)}
"""Of Biometrika (0), Communications in Statistics (1), JASA (2) and JRSS-B (3): how often each was cited by the other (Agresti,
"Categorical Data Analysis", 2002, table 10.10)."""
NO_PRIOR = 1e4


def duels(wins: dict[tuple[int, int], tuple[int, int]]) -> list[Duel]:
    return [Duel(a, b, score) for (a, b), (won, lost) in wins.items() for score, times in ((1.0, won), (0.0, lost)) for _ in range(times)]


def test_the_published_strengths_of_four_journals():
    """Turner and Firth, "Bradley-Terry Models in R" (Journal of Statistical Software 48, 2012), section 2.1."""
    ranking = rank(4, duels(CITATIONS), NO_PRIOR)
    strength = {place.contestant: place.strength for place in ranking.places}
    against_the_first = [strength[i] - strength[0] for i in range(4)]
    assert against_the_first == pytest.approx([0, -2.94907, -0.47957, 0.26895], abs=2e-5)
    assert [place.contestant for place in ranking.places] == [3, 0, 2, 1]
    # JRSS-B is 0.26895 +- 0.07083 before Biometrika there: 3.797 deviations.
    assert ranking.certainty == pytest.approx(1 - 0.5 * math.erfc(3.797 / math.sqrt(2)), abs=2e-6) and ranking.is_decided


def test_two_have_the_error_of_a_logit():
    ranking = rank(2, duels({(0, 1): (30, 10)}), NO_PRIOR)
    first, second = ranking.places
    assert first.strength - second.strength == pytest.approx(math.log(3), abs=1e-6)
    # One logit of 40 votes has the error sqrt(1/30 + 1/10); each strength is half of the difference.
    assert first.error == second.error == pytest.approx(math.sqrt(1 / 30 + 1 / 10) / 2, rel=1e-6)
    assert first.share == pytest.approx(math.sqrt(3) / (1 + math.sqrt(3)), rel=1e-6)


def test_strengths_have_the_mean_zero_and_names_make_no_difference():
    chance = random.Random(3)
    played = [Duel(chance.randrange(5), 5, chance.choice((0.0, 0.5, 1.0))) for _ in range(40)] + duels({(0, 1): (4, 1), (2, 3): (1, 3)})
    plain = {place.contestant: place for place in rank(6, played).places}
    mirrored = {place.contestant: place for place in rank(6, [Duel(5 - d.second, 5 - d.first, 1 - d.score) for d in played]).places}
    assert sum(place.strength for place in plain.values()) == pytest.approx(0, abs=1e-9)
    assert [plain[i].strength for i in range(6)] == pytest.approx([mirrored[5 - i].strength for i in range(6)], abs=1e-9)
    assert [plain[i].error for i in range(6)] == pytest.approx([mirrored[5 - i].error for i in range(6)], abs=1e-9)


def test_few_votes_decide_nothing_and_many_do():
    few, many = (
        rank(3, duels({(0, 1): (2, 1), (1, 2): (2, 1), (0, 2): (2, 0)})),
        rank(3, duels({(0, 1): (40, 10), (1, 2): (40, 10), (0, 2): (45, 5)})),
    )
    assert [place.contestant for place in few.places] == [place.contestant for place in many.places] == [0, 1, 2]
    assert not few.is_decided and few.certainty < 0.9 and many.is_decided
    assert few.places[0].error > 3 * many.places[0].error
    low, high = few.places[0].interval
    assert low < 0.5 < few.places[0].share < high < 1


def test_one_that_won_everything_stays_finite():
    ranking = rank(3, duels({(0, 1): (12, 0), (0, 2): (12, 0)}))
    assert ranking.places[0].contestant == 0 and 1 < ranking.places[0].strength < 5 and ranking.is_decided
    assert ranking.places[1].strength == pytest.approx(ranking.places[2].strength)
    extreme = rank(2, duels({(0, 1): (5000, 0)}))
    assert math.isfinite(extreme.places[0].strength) and extreme.places[0].strength < 20


def test_ties_say_that_two_are_alike():
    ranking = rank(2, [Duel(0, 1, 0.5)] * 20)
    assert ranking.places[0].strength == pytest.approx(0, abs=1e-9) and ranking.certainty == pytest.approx(0.5)
    assert [(place.num_duels, place.num_won) for place in ranking.places] == [(20, 10), (20, 10)]


def test_without_votes_nothing_is_known():
    ranking = rank(3, [])
    assert [place.contestant for place in ranking.places] == [0, 1, 2] and not ranking.is_decided and ranking.certainty == 0
    assert rank(0, []).places == ()


def test_an_interval_of_95_percent_holds_the_truth_that_often():
    chance, truth = random.Random(7), (1.0, 0.3, -0.4, -0.9)
    inside = total = 0
    for _ in range(60):
        played = []
        for _ in range(60):
            a, b = chance.sample(range(4), 2)
            played.append(Duel(a, b, float(chance.random() < 1 / (1 + math.exp(truth[b] - truth[a])))))
        for place in rank(4, played).places:
            total += 1
            inside += abs(place.strength - truth[place.contestant]) < 1.96 * place.error
    assert 0.91 <= inside / total <= 0.99
