import pytest

from athanor.tagger.tags import KAOMOJI, escaped, match_key, spaced, split_tags, tag_matcher, unescaped, without_duplicates


def test_kaomoji_keep_their_underscores() -> None:
    assert len(KAOMOJI) == 19
    for face in KAOMOJI:
        assert spaced(face) == face
    assert [spaced(tag) for tag in ("long_hair", "on_bed", "ao_dai", "poster_(object)")] == ["long hair", "on bed", "ao dai", "poster (object)"]


@pytest.mark.parametrize(
    ("plain", "for_prompts"),
    [("poster (object)", r"poster \(object\)"), ("solo", "solo"), (r"\m/", r"\m/"), (r"\(^o^)/", r"\\(^o^\)/")],
)
def test_parentheses_go_there_and_back(plain: str, for_prompts: str) -> None:
    assert escaped(plain) == for_prompts
    assert unescaped(for_prompts) == plain
    assert unescaped(plain) == plain


def test_spellings_of_one_tag_have_one_key() -> None:
    assert len({match_key(tag) for tag in ("poster_(object)", "Poster (object)", r"poster_\(object\)", " POSTER  (OBJECT) ")}) == 1
    assert len({match_key(tag) for tag in (r"\m/", "m/", r"\o/", r"\n/", r"\||/", r"\(^o^)/", "(^o^)/", "^_^", ";d", ":d", "d")}) == 11


def test_only_commas_separate() -> None:
    assert split_tags(" ;d, a_b,,红发，蓝眼 , ") == (";d", "a_b", "红发", "蓝眼")


def test_the_first_of_equal_tags_stays() -> None:
    assert without_duplicates(["solo", "Long_Hair", "1girl", "long hair", "", "solo", "girl"]) == ("solo", "Long_Hair", "1girl", "girl")


@pytest.mark.parametrize(
    ("pattern", "tag", "expected"),
    [
        ("hat", "hat", True),
        ("hat", "hatsune miku", False),
        ("hat", "witch hat", False),
        ("*hat", "witch_hat", True),
        ("* hat", "hat", False),
        ("*_hair", "Long Hair", True),
        ("*_hair", "hair ornament", False),
        ("?girl", "1girl", True),
        ("?girl", "6+girls", False),
        ("girl", "1girl", False),
        ("poster (object)", r"poster_\(object\)", True),
        (r"* \(object\)", "poster (object)", True),
        (";d", ";d", True),
        (";d", ":d", False),
        (r"\m/", r"\m/", True),
        (r"\m/", "m/", False),
        ("^_^", "^_^", True),
        ("*_*", "solo", False),
        (".*", "solo", False),
        ("[a-z]*", "solo", False),
        (r"\?", "?", True),
        (r"\?", "a", False),
        (r"\*", "solo", False),
        ("*", "anything (at all)", True),
    ],
)
def test_patterns_match_whole_tags(pattern: str, tag: str, expected: bool) -> None:
    assert tag_matcher([pattern])(tag) is expected
    assert tag_matcher(["other", pattern, "another"])(tag) is expected


def test_no_pattern_matches_nothing() -> None:
    assert not tag_matcher([])("solo") and not tag_matcher([])("")
