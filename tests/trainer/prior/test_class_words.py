"""The trigger found in captions, and the class's word in its place."""

from __future__ import annotations

import pytest

from athanor.trainer.prior.class_words import mentions, with_class_word


@pytest.mark.parametrize(
    ("caption", "trigger", "there", "changed"),
    [
        ("a photo of sks, outdoors", "sks", True, "a photo of cat, outdoors"),
        ("SKS and sks", "sks", True, "cat and cat"),
        ("sksy, asks, sks_2", "sks", False, "sksy, asks, sks_2"),
        ("一只sks猫", "sks", True, "一只cat猫"),
        ("一只小白在睡觉", "小白", True, "一只cat在睡觉"),
        ("my (odd) word", "(odd)", True, "my cat word"),
        ("two words here", " two words ", True, "cat here"),
        ("anything", "", False, "anything"),
        ("", "sks", False, ""),
    ],
)
def test_whole_words_alone(caption, trigger, there, changed):
    assert mentions(caption, trigger) is there
    assert with_class_word(caption, trigger, "cat") == changed


def test_a_class_word_is_no_pattern():
    assert with_class_word("sks", "sks", r"\1 cat") == r"\1 cat"
