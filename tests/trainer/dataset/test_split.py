import unicodedata

import pytest

from athanor.trainer.dataset import held_out
from athanor.trainer.errors import AthanorError

NAMES = [f"img{i}.png" for i in range(1000)]


def test_the_share_is_about_the_percentage():
    assert 60 < len(held_out(NAMES, 10)) < 140
    assert held_out(NAMES, 0) == frozenset()


def test_adding_images_moves_none():
    before, after = held_out(NAMES[:500], 20), held_out(NAMES, 20)
    assert before == {name for name in after if name in NAMES[:500]}


def test_order_does_not_matter_and_letters_may_be_composed_or_not():
    assert held_out(NAMES[::-1], 20) == held_out(NAMES, 20)
    names = [f"é{i}.png" for i in range(100)]
    decomposed = [unicodedata.normalize("NFD", name) for name in names]
    assert {unicodedata.normalize("NFC", name) for name in held_out(decomposed, 30)} == held_out(names, 30)


@pytest.mark.parametrize(("count", "percent", "expected"), [(1, 50, 0), (2, 0.001, 1), (2, 100, 1), (50, 100, 49), (0, 50, 0)])
def test_small_datasets_keep_one_on_each_side(count, percent, expected):
    assert len(held_out(NAMES[:count], percent)) == expected


@pytest.mark.parametrize("percent", [-1, 100.5, float("nan")])
def test_impossible_shares_are_refused(percent):
    with pytest.raises(AthanorError, match="from 0 to 100"):
        held_out(NAMES, percent)
