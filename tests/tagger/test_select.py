from pathlib import Path

import numpy as np
import pytest

from athanor.tagger.errors import TaggerError
from athanor.tagger.labels import Labels
from athanor.tagger.models import load_labels
from athanor.tagger.select import MODES, ScoredTag, combine
from athanor.tagger.select import select_tags as select_scored
from athanor.tagger.tags import KAOMOJI

# out of block order on purpose: rating, character, general, rating, meta, general, character, general
LABELS = Labels(
    ("general", "hatsune_miku", "long_hair", "explicit", "highres", "poster_(object)", "saber_(fate)", "solo"),
    (9, 4, 0, 9, 5, 0, 4, 0),
)
SCORES = np.array([0.3, 0.9, 0.5, 0.7, 0.99, 0.36, 0.86, 0.95], np.float32)


def select_tags(*arguments, **options) -> tuple[str, ...]:
    return tuple(found.tag for found in select_scored(*arguments, **options))


def test_tags_come_with_their_category_and_score() -> None:
    found = select_scored(SCORES, LABELS, rating="last", expand_characters=True, general_threshold=0.9)
    assert [tag for tag, _, _ in found] == ["hatsune miku", "saber", "fate", "solo", "explicit"]
    assert [category for _, category, _ in found] == [4, 4, 4, 0, 9]
    assert [score for _, _, score in found] == pytest.approx([0.9, 0.86, 0.86, 0.95, 0.7])
    assert select_scored(SCORES, LABELS, character_threshold=1, general_threshold=0.9) == (ScoredTag("solo", 0, pytest.approx(0.95)),)


def test_scores_on_the_threshold_are_compared_as_the_reference_does() -> None:
    """In double precision: the float32 of 0.85 lies above 0.85, that of 0.35 below 0.35."""
    labels = Labels(("a", "b"), (0, 4))
    assert select_tags(np.array([0.35, 0.85], np.float32), labels) == ("b",)


def test_thresholds_by_category() -> None:
    assert select_tags(SCORES, LABELS) == ("hatsune miku", "saber (fate)", "solo", "long hair", "poster (object)")
    assert select_tags(SCORES, LABELS, general_threshold=0.5) == ("hatsune miku", "saber (fate)", "solo")
    assert select_tags(SCORES, LABELS, general_threshold=0.9, character_threshold=0.88) == ("hatsune miku", "solo")


def test_a_threshold_of_one_leaves_a_category_out() -> None:
    certain = np.ones(8, np.float32)
    assert select_tags(certain, LABELS, character_threshold=1) == ("long hair", "poster (object)", "solo")
    assert select_tags(certain, LABELS, general_threshold=1, character_threshold=1) == ()


def test_orders() -> None:
    everything = {"general_threshold": 0.1, "character_threshold": 0.1}
    assert select_tags(SCORES, LABELS, **everything, character_first=False) == (
        "solo",
        "hatsune miku",
        "saber (fate)",
        "long hair",
        "poster (object)",
    )
    assert select_tags(SCORES, LABELS, **everything, sort="model", character_first=False) == (
        "hatsune miku",
        "long hair",
        "poster (object)",
        "saber (fate)",
        "solo",
    )
    assert select_tags(SCORES, LABELS, **everything, sort="model", character_first=True) == (
        "hatsune miku",
        "saber (fate)",
        "long hair",
        "poster (object)",
        "solo",
    )


def test_the_rating_is_the_likeliest_one() -> None:
    assert "explicit" not in select_tags(SCORES, LABELS)
    assert select_tags(SCORES, LABELS, general_threshold=0.9, character_threshold=1, rating="first") == ("explicit", "solo")
    assert select_tags(SCORES * 0.1, LABELS, rating="last") == ("explicit",)
    assert select_tags(SCORES, LABELS, general_threshold=0.9, character_threshold=1, rating="last", exclude=["explicit"]) == ("solo",)


# cl_tagger's categories: copyright 3, artist 1, meta 5, model 12, quality 11, year 10
MANY = Labels(
    ("vocaloid", "someone", "highres", "sdxl", "best_quality", "worst_quality", "2019", "hatsune_miku", "solo", "general", "sky", "hat"),
    (3, 1, 5, 12, 11, 11, 10, 4, 0, 9, 0, 0),
)
LIKELY = np.array([0.7, 0.6, 0.55, 0.52, 0.4, 0.1, 0.51, 0.95, 0.9, 0.8, 0.3, 0.65], np.float32)


def test_every_category_has_a_threshold() -> None:
    assert select_tags(LIKELY, MANY) == ("hatsune miku", "solo", "hat")
    for name, tag in (("copyright", "vocaloid"), ("artist", "someone"), ("model", "sdxl")):
        assert set(select_tags(LIKELY, MANY, **{f"{name}_threshold": 0.5})) == {"hatsune miku", "solo", "hat", tag}
        assert tag not in select_tags(LIKELY, MANY, **{f"{name}_threshold": 0.75})
    assert set(select_tags(LIKELY, MANY, meta_threshold=0.5)) == {"hatsune miku", "solo", "hat", "highres", "2019"}


def test_series_and_artist_stand_behind_the_character() -> None:
    taken = {"copyright_threshold": 0.5, "artist_threshold": 0.5, "meta_threshold": 0.54}
    assert select_tags(LIKELY, MANY, **taken) == ("hatsune miku", "vocaloid", "someone", "solo", "hat", "highres")
    assert select_tags(LIKELY, MANY, **taken, character_first=False) == ("hatsune miku", "solo", "vocaloid", "hat", "someone", "highres")


def test_quality_and_rating_are_the_likeliest_ones() -> None:
    assert select_tags(LIKELY, MANY, general_threshold=0.8, quality="first", rating="first") == ("general", "best quality", "hatsune miku", "solo")
    assert select_tags(LIKELY, MANY, general_threshold=0.8, quality="last", rating="last") == ("hatsune miku", "solo", "best quality", "general")
    assert select_tags(SCORES, LABELS, general_threshold=0.9, character_threshold=1, quality="last") == ("solo",)


def test_max_tags_keeps_the_best_of_all_and_the_rating() -> None:
    taken = {"copyright_threshold": 0.5, "general_threshold": 0.2, "rating": "last"}
    assert select_tags(LIKELY, MANY, **taken, max_tags=3) == ("hatsune miku", "vocaloid", "solo", "general")
    assert select_tags(LIKELY, MANY, **taken, max_tags=2, sort="model", character_first=False) == ("hatsune miku", "solo", "general")
    assert len(select_tags(LIKELY, MANY, **taken, max_tags=100)) == 6


def test_mcut_cuts_at_the_widest_gap() -> None:
    labels = Labels(tuple("abcdef"), (0, 0, 0, 0, 4, 4))
    scores = np.array([0.9, 0.8, 0.3, 0.2, 0.12, 0.05], np.float32)
    assert select_tags(scores, labels, mcut="general", general_threshold=0.1) == ("a", "b")
    assert select_tags(scores, labels, mcut="both", character_threshold=0.9) == ("a", "b")  # the best character is not above 0.15
    assert select_tags(scores * 2, labels, mcut="character", general_threshold=1) == ("e",)
    assert select_tags(scores, labels, mcut="both", general_threshold=1, character_threshold=1) == ()
    one = Labels(("a",), (0,))
    assert [select_tags(np.float32([score]), one, mcut="general") for score in (0.4, 0.6)] == [(), ("a",)]


def test_characters_are_expanded_by_their_last_parentheses() -> None:
    names = ("miku_(2019)_(vocaloid)", "saber_(fate)", "zero_two", "poster_(object)", ";)")
    labels = Labels(names, (4, 4, 4, 0, 4))
    scores = np.array([0.99, 0.98, 0.97, 0.9, 0.96], np.float32)
    expected = ("miku (2019)", "vocaloid", "saber", "fate", "zero two", ";)", "poster (object)")
    assert select_tags(scores, labels, expand_characters=True) == expected
    assert select_tags(scores, labels, expand_characters=True, escape_parentheses=True)[0] == r"miku \(2019\)"


def test_excluded_tags_in_any_spelling() -> None:
    assert select_tags(SCORES, LABELS, exclude=["Long Hair", r"poster \(object\)", "hatsune*"]) == ("saber (fate)", "solo")
    assert "hatsune miku" in select_tags(SCORES, LABELS, exclude=["hat", "miku"])


def test_spelling() -> None:
    assert select_tags(SCORES, LABELS, replace_underscores=False)[-1] == "poster_(object)"
    assert select_tags(SCORES, LABELS, escape_parentheses=True)[-1] == r"poster \(object\)"


def test_kaomoji_and_odd_names_survive() -> None:
    names = (*sorted(KAOMOJI), ";d", r"\m/", r"\(^o^)/", "long_hair")
    tags = select_tags(np.linspace(1, 0.5, len(names), dtype=np.float32), Labels(names, (0,) * len(names)))
    assert tags == (*names[:-1], "long hair")


def test_rows_of_a_file_out_of_order(tmp_path: Path, write_labels) -> None:
    write_labels(tmp_path / "tags.csv", [("miku", 4), ("solo", 0), ("general", 9), ("smile", 0), ("explicit", 9)])
    scores = np.array([0.5, 0.9, 0.95, 0.2, 0.6], np.float32)
    labels = load_labels(tmp_path / "tags.csv")
    assert select_tags(scores, labels, character_threshold=0.4, rating="last") == ("miku", "solo", "general")
    assert select_tags(scores, labels, rating="last") == ("solo", "general")


@pytest.mark.parametrize(
    ("mode", "existing", "expected"),
    [
        ("fill-empty", (), ("a", "b c")),
        ("fill-empty", ("", " "), ("a", "b c")),
        ("fill-empty", ("x", "x"), ("x", "x")),
        ("overwrite", ("x", "a"), ("a", "b c")),
        ("overwrite", (), ("a", "b c")),
        ("prepend", ("x", "B_c"), ("a", "b c", "x")),
        ("append", ("x", "B_c"), ("x", "B_c", "a")),
        ("append", (), ("a", "b c")),
        ("prepend", ("",), ("a", "b c")),
    ],
)
def test_combine(mode, existing: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert combine(existing, ("a", "b c", "A"), mode) == expected


def test_new_tags_may_be_none() -> None:
    assert [combine(("x",), (), mode) for mode in MODES] == [("x",), (), ("x",), ("x",)]


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(TaggerError, match=r"'replace'.*fill-empty, overwrite"):
        combine((), ("a",), "replace")
