import json
from pathlib import Path

import pytest

from athanor.tagger.categories import ARTIST, CHARACTER, COPYRIGHT, GENERAL, META, MODEL, QUALITY, RATING, YEAR
from athanor.tagger.errors import TaggerError
from athanor.tagger.thresholds import Thresholds, read_thresholds

SIX = Thresholds(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def test_every_category_has_its_own() -> None:
    assert [SIX.of(number) for number in (GENERAL, CHARACTER, COPYRIGHT, ARTIST, META, YEAR, MODEL)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.6]
    assert [SIX.of(number) for number in (RATING, QUALITY, 77)] == [1, 1, 1]


def test_a_category_that_is_left_out_stays_out() -> None:
    assert Thresholds().or_own(SIX) == Thresholds(0.1, 0.2)
    assert Thresholds(1.0, 0.9, artist=0.9).or_own(SIX) == Thresholds(1.0, 0.2, artist=0.4)


def test_what_its_makers_say_nothing_of_is_as_it_is_set() -> None:
    assert Thresholds(artist=0.9, copyright=0.7).or_own(Thresholds(0.2, 0.6, copyright=0.5)) == Thresholds(0.2, 0.6, 0.5, 0.9)
    assert Thresholds(0.26, 0.85, artist=0.9).told() == "general 0.26, character 0.85, artist 0.9"


def test_a_csv_beside_the_model(tmp_path: Path) -> None:
    assert read_thresholds(tmp_path, SIX) == SIX
    (tmp_path / "thresholds.csv").write_text("category,name,threshold\n0,general,0.15\n4,character,0.7\n9,rating,0.9\n", encoding="utf-8")
    assert read_thresholds(tmp_path, SIX) == Thresholds(0.15, 0.7, 0.3, 0.4, 0.5, 0.6)


def test_camie_s_json_beside_the_model(tmp_path: Path) -> None:
    data = {
        name: {"balanced": {"threshold": value}, "high_recall": {"threshold": 0}}
        for name, value in (("general", 0.21), ("artist", 0.3), ("year", 0.9))
    }
    (tmp_path / "threshold.json").write_text(json.dumps(data), encoding="utf-8")
    assert read_thresholds(tmp_path, SIX) == Thresholds(0.21, 0.2, 0.3, 0.3, 0.5, 0.6)


@pytest.mark.parametrize("text", ["category,name\n0,general\n", "category,name,threshold\n0,general,high\n"])
def test_broken_files_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "thresholds.csv").write_text(text, encoding="utf-8")
    with pytest.raises(TaggerError, match=r"thresholds\.csv cannot be read"):
        read_thresholds(tmp_path, SIX)
