import json
from pathlib import Path

import pytest

from athanor.tagger.categories import ARTIST, CHARACTER, COPYRIGHT, GENERAL, META, MODEL, QUALITY, RATING, YEAR, category
from athanor.tagger.errors import TaggerError
from athanor.tagger.labels import Labels, read_labels


def _write(file: Path, data: object) -> Path:
    file.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return file


def test_cl_tagger_s_json_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    names = ["General", "Character", "Copyright", "Artist", "Meta", "Model", "Rating", "Quality", "General", "General", "General"]
    entries = {str(i): {"tag": f"t{i}", "category": name} for i, name in enumerate(names)}
    labels = read_labels(_write(tmp_path / "tag_mapping.json", dict(sorted(entries.items(), reverse=True))))
    assert labels.names == tuple(f"t{i}" for i in range(11))
    assert labels.categories[:8] == (GENERAL, CHARACTER, COPYRIGHT, ARTIST, META, MODEL, RATING, QUALITY)


@pytest.mark.parametrize("nested", [False, True])
def test_both_of_camie_s_files_are_read(tmp_path: Path, nested: bool) -> None:
    mapping = {"idx_to_tag": {"1": "2019", "0": "初音", "2": "solo"}, "tag_to_category": {"初音": "character", "2019": "year"}}
    labels = read_labels(_write(tmp_path / "x-metadata.json", {"dataset_info": {"tag_mapping": mapping}} if nested else mapping))
    assert labels == Labels(("初音", "2019", "solo"), (CHARACTER, YEAR, GENERAL))


def test_a_text_is_a_tag_in_each_line(tmp_path: Path) -> None:
    (tmp_path / "top_tags.txt").write_text("1girl\r\nlong hair\n\n;d\n", encoding="utf-8-sig", newline="")
    assert read_labels(tmp_path / "top_tags.txt") == Labels(("1girl", "long hair", ";d"), (GENERAL,) * 3)


def test_a_csv_that_went_through_another_program_is_read(tmp_path: Path) -> None:
    file = tmp_path / "selected_tags.csv"
    file.write_text("Tag_ID, Name, Category, Count\n1, a, 0.0, 5\n2, b, 4.0,\n", encoding="utf-8")
    assert read_labels(file) == Labels(("a", "b"), (0, 4))
    file.write_text("tag_id,name,category,count\n1,a\n", encoding="utf-8")
    with pytest.raises(TaggerError, match=r"line 2: .*'nothing'.*Every row needs a name and a category"):
        read_labels(file)


def test_species_of_e621_are_general_tags_and_its_meta_is_meta(tmp_path: Path) -> None:
    text = "name,category\nfox,5\nhi_res,7\nsome_lore,8\nartist,1\nsolo,0\n"
    for name, expected in (("tags-selected.csv", (GENERAL, META, META, ARTIST, GENERAL)), ("selected_tags.csv", (5, 7, 8, 1, 0))):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_labels(tmp_path / name).categories == expected


def test_categories_have_numbers_and_names() -> None:
    assert [category(text) for text in ("4", " Character ", "STYLE", "9", "Quality")] == [CHARACTER, CHARACTER, ARTIST, RATING, QUALITY]
    with pytest.raises(ValueError):
        category("nothing")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"0": {"tag": "a"}}, "KeyError: 'category'"),
        ({"0": {"tag": "a", "category": "General"}, "2": {"tag": "b", "category": "General"}}, "numbers of its 2 tags have gaps"),
        ({"0": {"tag": "a", "category": "colour"}}, "colour"),
        ({"total": 3}, "expected is a number for each tag"),
        ([1, 2], "expected is a number for each tag"),
        ({"idx_to_tag": {"0": "a"}}, "tag_to_category"),
        ({}, "has no tags"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, data: object, message: str) -> None:
    file = _write(tmp_path / "tag_mapping.json", data)
    with pytest.raises(TaggerError, match=message) as error:
        read_labels(file)
    assert str(file) in str(error.value)


def test_cut_off_json_and_empty_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tag_mapping.json").write_text('{"0": {"tag"', encoding="utf-8")
    with pytest.raises(TaggerError, match="not whole JSON"):
        read_labels(tmp_path / "tag_mapping.json")
    (tmp_path / "top_tags.txt").touch()
    with pytest.raises(TaggerError, match="has no tags"):
        read_labels(tmp_path / "top_tags.txt")
    with pytest.raises(TaggerError, match="Cannot read"):
        read_labels(tmp_path / "absent.txt")
