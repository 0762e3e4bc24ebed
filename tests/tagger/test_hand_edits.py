"""Edits by hand: read, found again, and replayed on other captions than those they were made for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from athanor.tagger.errors import TaggerError
from athanor.tagger.hand_edits import HandEdit, apply_hand_edits, find_pictures, parse_hand_edits, picture_keys


def edits_text(**pictures: dict) -> str:
    return json.dumps({"version": 1, "pictures": pictures})


def paths(root: Path, *names: str) -> list[str]:
    return [str(root.joinpath(*name.split("/"))) for name in names]


@pytest.mark.parametrize(
    ("edit", "before", "after"),
    [
        (HandEdit(), "a, b", "a, b"),
        (HandEdit(remove=("Long_Hair",)), "1girl, long hair, hat", "1girl, hat"),
        (HandEdit(add=("smile", "hat")), "1girl, hat", "1girl, hat, smile"),
        (HandEdit(remove=("hat",), add=("red hat",), order=("red hat", "1girl")), "1girl, hat", "red hat, 1girl"),
        (HandEdit(remove=("long_hair",), add=("long hair",), order=("long hair", "a")), "long_hair, a", "long hair, a"),
        (HandEdit(order=("c", "b", "a")), "a, b, c", "c, b, a"),
        # What came later: a new tag stands behind the one that it follows, or in front.
        (HandEdit(order=("c", "b", "a")), "a, new, b, c", "c, b, a, new"),
        (HandEdit(order=("b", "a")), "trigger, a, b", "trigger, b, a"),
        (HandEdit(order=("b", "a")), "a, n1, n2, b", "b, a, n1, n2"),
        (HandEdit(order=("c", "b", "a")), "b, c", "c, b"),
        (HandEdit(remove=("hat",)), "1girl", "1girl"),
        (HandEdit(add=("smile",)), "a, a, b", "a, b, smile"),
    ],
)
def test_replayed(edit: HandEdit, before: str, after: str):
    assert edit.replayed(tuple(before.split(", "))) == tuple(after.split(", "))


def test_blank_text_holds_no_edit():
    assert parse_hand_edits("") == parse_hand_edits(" \n") == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "cannot be read"),
        ("[]", "no `pictures`"),
        ('{"version": 1}', "no `pictures`"),
        ('{"version": 7, "pictures": {}}', "version 7"),
        ('{"version": 1, "pictures": {"a.png": ["x"]}}', "a.png"),
        ('{"version": 1, "pictures": {"a.png": {"add": "x"}}}', "not a list"),
        ('{"version": 1, "pictures": {"a.png": {"add": [1]}}}', "not a list"),
        ('{"version": 1, "pictures": {"a.png": {"replace": []}}}', "a.png"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_sentence(text: str, complaint: str):
    with pytest.raises(TaggerError, match=complaint) as told:
        parse_hand_edits(text)
    assert "\n" not in str(told.value) and "Undo the last change" in str(told.value)


def test_too_much_text_is_refused():
    with pytest.raises(TaggerError, match=r"16,000,001 characters"):
        parse_hand_edits("x" * 16_000_001)


def test_keys_begin_with_the_folder_that_holds_all(tmp_path: Path):
    assert picture_keys(paths(tmp_path, "set/1.png", "set/night/2.png")) == ("set/1.png", "set/night/2.png")
    assert picture_keys(paths(tmp_path, "set/3_red/1.png")) == ("3_red/1.png",)
    assert picture_keys([]) == ()


def test_pictures_are_found_wherever_the_dataset_lies(tmp_path: Path):
    edits = parse_hand_edits(edits_text(**{"set/1.png": {"add": ["x"]}, "set/night/1.png": {"add": ["y"]}}))
    for root in ("set", "elsewhere/set", "renamed"):
        there = paths(tmp_path, f"{root}/1.png", f"{root}/night/1.png", f"{root}/2.png")
        assert find_pictures(edits, there) == {"set/1.png": (0,), "set/night/1.png": (1,)}


def test_a_subfolder_that_is_added_or_taken_away_loses_nothing(tmp_path: Path):
    alone = paths(tmp_path, "set/3_red/1.png", "set/3_red/2.png")
    both = [*alone, *paths(tmp_path, "set/1_blue/1.png")]
    made_alone = {picture_keys(alone)[0]: HandEdit(add=("x",))}
    made_with_both = {picture_keys(both)[0]: HandEdit(add=("x",))}
    assert list(find_pictures(made_alone, both).values()) == [(0,)]
    assert list(find_pictures(made_with_both, alone).values()) == [(0,)]


def test_another_picture_of_that_name_is_not_taken_for_it(tmp_path: Path):
    edits = {"set/gone.png": HandEdit(add=("x",))}
    assert find_pictures(edits, paths(tmp_path, "set/sub/gone.png", "set/1.png")) == {"set/gone.png": ()}
    assert find_pictures({"a/1.png": HandEdit()}, paths(tmp_path, "b/a/1.png", "c/a/1.png")) == {"a/1.png": ()}


def test_one_file_that_is_there_twice_is_edited_twice(tmp_path: Path):
    twice = paths(tmp_path, "set/1.png", "set/1.png", "set/2.png")
    captions, notes = apply_hand_edits({"set/1.png": HandEdit(add=("x",))}, twice, [("a",)] * 3)
    assert captions == (("a", "x"), ("a", "x"), ("a",))
    assert notes == ("hand edits: 2 of 3 captions changed",)


def test_lost_edits_are_told(tmp_path: Path):
    edits = {f"set/{i}.png": HandEdit(add=("x",)) for i in range(9)}
    captions, notes = apply_hand_edits(edits, paths(tmp_path, "set/0.png", "set/1.png"), [("a",), ("a", "x")])
    assert captions == (("a", "x"), ("a", "x"))
    assert notes[0] == "hand edits: 1 of 2 captions changed"
    assert notes[1].endswith("set/2.png, set/3.png, set/4.png, set/5.png, set/6.png and 2 more")


def test_no_edits_say_nothing(tmp_path: Path):
    assert apply_hand_edits({}, paths(tmp_path, "a.png"), [("a",)]) == ((("a",),), ())


def test_a_name_that_a_mac_spells_with_its_accents_apart_is_the_same() -> None:
    apart, whole = "/in/se\u0301t/ame\u0301lie ガ.png", "/in/s\u00e9t/am\u00e9lie \u30ab\u3099.png"
    edits = {picture_keys([apart])[0]: HandEdit(add=("hat",))}
    assert apply_hand_edits(edits, [whole], [()])[0] == (("hat",),)
    assert find_pictures(edits, [whole, "/in/s\u00e9t/other.png"]) == {next(iter(edits)): (0,)}
