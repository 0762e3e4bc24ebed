import time

import pytest

from athanor.trainer.dataset import name_pattern
from athanor.trainer.errors import AthanorError


@pytest.mark.parametrize(
    ("pattern", "name", "caption"),
    [
        ("{caption}", "a red_cat.png", "a red_cat"),
        ("{words}_{number}", "red_cat_012.png", "red cat"),
        ("{words}_{number}", "red_cat.png", None),
        ("{caption} ({number})", "1girl, ^_^ (3).jpg", "1girl, ^_^"),
        ("*-{caption}", "2024-01-02-sky.png", "01-02-sky"),
        ("*__{words}__{words}", "x__red_cat__on_a_mat.png", "red cat, on a mat"),
        ("{words}/*", "6_set/big_dog/12.png", "big dog"),
        ("{caption}/{words}_{number}", "猫/睡_1.png", "猫, 睡"),
        ("{caption}", "folder/deep/a.b.png", "a.b"),
        ("{caption}{number}", "ab12.png", "ab"),
        ("{number}{caption}", "12.png", None),
        ("a.{caption}", "a.b.png", "b"),
        ("a?{caption}", "a?b.png", "b"),
        ("{caption}_", "_.png", None),
    ],
)
def test_what_a_name_says(pattern, name, caption):
    assert name_pattern(pattern).caption(name) == caption


@pytest.mark.parametrize(
    ("pattern", "message"), [("", "takes no caption"), ("*_{number}", "takes no caption"), ("{tags}_{caption}", r"unknown part \{tags\}")]
)
def test_patterns_that_say_nothing_are_refused(pattern, message):
    with pytest.raises(AthanorError, match=message):
        name_pattern(pattern)


def test_no_pattern_takes_long():
    started = time.process_time()
    assert name_pattern("{caption}a" + "*a" * 18 + "b").caption("a" * 250 + ".png") is None
    assert time.process_time() - started < 5
