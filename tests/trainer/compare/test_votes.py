from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from athanor.trainer.compare import votes
from athanor.trainer.compare.kinds import Choices, RunEpochs
from athanor.trainer.compare.recipe import Recipe
from athanor.trainer.compare.sheet import AxisText, Sheet, plan_sheet
from athanor.trainer.compare.votes import Vote, add_vote, next_pair, ranking, read_votes, take_back
from athanor.trainer.errors import AthanorError


@pytest.fixture
def sheet(tmp_path: Path) -> Sheet:
    """Strengths 0.5 and 1 across; no LoRA and the epochs 1, 2 and 3 down."""
    choices = Choices({"r": RunEpochs((1, 2, 3), 2)}, (), (), (), "a cat")
    axes = (AxisText("strength", "0.5, 1"), AxisText("epoch", "all"), AxisText("none"))
    return plan_sheet(tmp_path, Recipe(run="r", epoch=2, prompt="a cat"), axes, ("a cat",), True, choices, {("r", n): str(n) for n in (1, 2, 3)})


def file(sheet: Sheet, row: int, column: int) -> str:
    recipe = sheet.cells[0, row, column]
    assert recipe is not None
    return sheet.files[recipe]


def test_votes_are_kept_counted_and_taken_back(sheet: Sheet, tmp_path: Path):
    assert read_votes(tmp_path) == ()
    first = Vote(file(sheet, 2, 0), file(sheet, 1, 0), 1.0)
    add_vote(tmp_path, first)
    add_vote(tmp_path, Vote(file(sheet, 2, 1), file(sheet, 0, 1), 0.5))
    assert len(read_votes(tmp_path)) == 2
    places = {place.contestant: place for place in ranking(sheet, read_votes(tmp_path), "y").places}
    assert [(places[row].num_duels, places[row].num_won) for row in range(4)] == [(1, 0.5), (1, 0), (2, 1.5), (0, 0)]
    take_back(tmp_path)
    assert read_votes(tmp_path) == (first,)
    take_back(tmp_path)
    take_back(tmp_path)
    assert read_votes(tmp_path) == ()


def test_a_vote_counts_along_the_axis_that_it_is_about(sheet: Sheet):
    across = [Vote(file(sheet, 1, 0), file(sheet, 1, 1), 1.0)]
    slanting = [Vote(file(sheet, 1, 0), file(sheet, 2, 1), 1.0)]
    foreign = [Vote("cells/gone.png", file(sheet, 1, 1), 1.0), Vote(file(sheet, 1, 1), file(sheet, 1, 1), 1.0)]
    assert [place.num_duels for place in ranking(sheet, across, "x").places] == [1, 1]
    for axis, given in (("y", across), ("x", slanting), ("y", slanting), ("x", foreign), ("y", foreign)):
        assert not any(place.num_duels for place in ranking(sheet, given, axis).places)


def test_the_base_alone_is_one_picture_in_every_column_and_still_meets_its_column(sheet: Sheet):
    assert file(sheet, 0, 0) == file(sheet, 0, 1)
    for column in (0, 1):
        places = ranking(sheet, [Vote(file(sheet, 3, column), file(sheet, 0, 0), 1.0)], "y").places
        assert places[0].contestant == 3 and places[-1].contestant == 0


def test_every_pair_is_asked_before_one_is_asked_again(sheet: Sheet, tmp_path: Path):
    chance, drawn = random.Random(1), set(sheet.files.values())
    asked, sides = [], []
    for _ in range(12):
        pair = next_pair(sheet, read_votes(tmp_path), "y", drawn, chance)
        assert pair is not None
        rows = {name: row for row in range(4) for column in range(2) for name in [file(sheet, row, column)]}
        one, other = rows[pair.first], rows[pair.second]
        assert one != other and pair.place[1] == one
        asked.append(frozenset((one, other)))
        sides.append(one < other)
        add_vote(tmp_path, Vote(pair.first, pair.second, 1.0))
    assert len(set(asked[:6])) == 6 and len(set(asked)) == 6, "each of the six pairs of four values"
    assert 0 < sum(sides) < 12, "sides change"
    assert len({frozenset((vote.first, vote.second)) for vote in read_votes(tmp_path)}) == 12, "and the second time in the other column"


def test_only_what_is_drawn_and_differs_is_asked(sheet: Sheet):
    chance = random.Random(1)
    assert next_pair(sheet, (), "y", {file(sheet, 1, 0), file(sheet, 2, 1)}, chance) is None, "they differ in strength as well"
    assert next_pair(sheet, (), "z", set(sheet.files.values()), chance) is None
    drawn = {file(sheet, 0, 0), file(sheet, 2, 1)}
    pair = next_pair(sheet, (), "y", drawn, chance)
    assert pair is not None and {pair.first, pair.second} == drawn
    assert next_pair(sheet, (), "x", {file(sheet, 0, 0)}, chance) is None, "one picture in two columns is no pair"


def test_what_stands_in_the_file_by_mistake_is_no_vote(tmp_path: Path):
    for text in ("", "{", "[1]", "[" * 100_000, '[{"first": "a"}]', json.dumps([{"first": "a", "second": "b", "score": "much"}])):
        (tmp_path / "votes.json").write_text(text, encoding="utf-8")
        assert read_votes(tmp_path) == ()


def test_there_is_an_end_to_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(votes, "MAX_VOTES", 2)
    for _ in range(2):
        add_vote(tmp_path, Vote("a", "b", 1.0))
    with pytest.raises(AthanorError, match="has 2 votes"):
        add_vote(tmp_path, Vote("a", "b", 1.0))
