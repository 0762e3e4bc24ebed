from __future__ import annotations

import pytest

from athanor.trainer.compare.axes import parse_epochs, parse_lines, parse_numbers, parse_texts, parse_whole_numbers
from athanor.trainer.errors import AthanorError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.6, 0.8,1", (0.6, 0.8, 1.0)),
        ("1-4", (1, 2, 3, 4)),
        ("4-1", (4, 3, 2, 1)),
        ("1-10 (+3)", (1, 4, 7, 10)),
        ("0-1 [5]", (0, 0.25, 0.5, 0.75, 1)),
        ("0-1 (+0.2)", (0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        ("1.0-0.5 (-0.25)", (1.0, 0.75, 0.5)),
        ("-0.5, .5, 1., -0.5", (-0.5, 0.5, 1.0)),
        ("-1-1", (-1, 0, 1)),
        ('"0.5","1"', (0.5, 1)),
        ("0.5, 1\n# left out\n2", (0.5, 1, 2)),
        ("0-1 (+0.3)", (0, 0.3, 0.6, 0.9)),
    ],
)
def test_numbers_of_the_webui_grammar(text, values):
    assert parse_numbers(text, "Strengths") == pytest.approx(values)


@pytest.mark.parametrize("text", ["", " , ", "a", "1-", "0.5, x", "1-5 (+0)", "1-5 (-1)", "1-5 [0]", "0-1 (+0.0000001)", "nan", "1e3"])
def test_what_is_no_number_is_named(text):
    with pytest.raises(AthanorError, match=r"^Strengths: "):
        parse_numbers(text, "Strengths")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1-10 [5]", (1, 3, 5, 7, 10)),
        ("10-5 (-3)", (10, 7)),
        ("-2-2 [4]", (-2, 0, 2)),
        ("5 [1]", None),
        ("1-9 [1]", (1,)),
        ("1.5-3 [3]", None),
    ],
)
def test_whole_numbers_are_spread_as_the_webui_does(text, values):
    if values is None:
        with pytest.raises(AthanorError, match=r"^Steps: "):
            parse_whole_numbers(text, "Steps", -5)
    else:
        assert parse_whole_numbers(text, "Steps", -5) == values


def test_epochs_by_word_and_number():
    saved = (2, 4, 6, 8, 9)
    assert parse_epochs("all", saved) == saved
    assert parse_epochs("", saved) == saved
    assert parse_epochs("last", saved) == (9,)
    assert parse_epochs("Every 2", saved) == (4, 8, 9)
    assert parse_epochs("8, 2", saved) == (8, 2)
    assert parse_epochs("2-8 (+2)", saved) == (2, 4, 6, 8)
    assert parse_epochs("2-9 [3]", (2, 5, 9)) == (2, 5, 9)
    assert parse_epochs("last, best, 2", saved, best=4) == (9, 4, 2)
    assert parse_epochs("every 4, 2", saved) == (8, 9, 2)


def test_an_epoch_that_was_not_saved_is_named_with_those_that_were():
    with pytest.raises(AthanorError, match="3 was not saved; saved are 2, 4"):
        parse_epochs("2, 3", (2, 4))
    with pytest.raises(AthanorError, match="no saved epoch yet"):
        parse_epochs("all", ())
    with pytest.raises(AthanorError, match="'lst' is no choice of epochs; write all, last, best, every 2"):
        parse_epochs("lst, 2", (2, 4))
    with pytest.raises(AthanorError, match=r"101 was not saved; saved are 1, 2, .*12, …, 90, .*100"):
        parse_epochs("101", range(1, 101))
    with pytest.raises(AthanorError, match="every 0"):
        parse_epochs("every 0", (1,))


def test_words_come_with_commas_quotes_or_one_a_line():
    assert parse_texts('red, "a, b" , blue') == ("red", "a, b", "blue")
    assert parse_texts("a, b\n# left out\nc\n") == ("a, b", "c")
    assert parse_texts("  ") == ()
    assert parse_texts("red, , blue,", with_empty=True) == ("red", "", "blue", "")
    assert parse_texts('red\n""\nblue', with_empty=True) == ("red", "", "blue")
    with pytest.raises(AthanorError, match="cannot be taken apart"):
        parse_texts("x" * 200_000)
    assert parse_lines("1girl, solo\n\n#no\n 1boy ") == ("1girl, solo", "1boy")


def test_whole_numbers_and_the_best_epoch():
    assert parse_whole_numbers("1-3, 20", "Seeds", 0) == (1, 2, 3, 20)
    with pytest.raises(AthanorError, match=r"Steps: 0\.5 will not do; write whole numbers from 1 on"):
        parse_whole_numbers("0.5", "Steps", 1)
    assert parse_epochs("best", (2, 4), best=2) == (2,)
    with pytest.raises(AthanorError, match="the best cannot be told"):
        parse_epochs("best", (2, 4))
