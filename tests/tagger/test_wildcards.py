import random
import re

import pytest

from athanor.tagger.wildcards import is_wild, part_test, whole_test


@pytest.mark.parametrize("seed", range(20))
def test_texts_fit_as_a_regular_expression_says(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(300):
        pattern = "".join(chance.choice("ab*?.") for _ in range(chance.randrange(7)))
        text = "".join(chance.choice("ab.\n") for _ in range(chance.randrange(8)))
        regex = re.compile("".join({"*": ".*", "?": "."}.get(char) or re.escape(char) for char in pattern), re.DOTALL)
        assert whole_test(pattern)(text) is bool(regex.fullmatch(text)), (pattern, text)
        assert part_test(pattern)(text) is bool(regex.search(text)), (pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"), [(r"\*", "*"), (r"a\?", "a?"), (r"*\*", "b*"), ("\\", "\\"), (r"\m/", r"\m/"), ("a\\", "a\\"), ("İ*", "İx"), ("*", "")]
)
def test_signs_that_stand_for_themselves(pattern: str, text: str) -> None:
    assert whole_test(pattern)(text)
    assert not whole_test(pattern)(f"!{text}") or pattern.startswith("*")
    assert part_test(pattern)(f"x{text}y")


def test_what_is_wild() -> None:
    assert is_wild("*hair") and is_wild("?girl") and is_wild(r"\*")
    assert not is_wild("hair") and not is_wild(r"\m/") and not is_wild("")
