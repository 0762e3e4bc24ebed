import json
from pathlib import Path

import pytest

from athanor.trainer.dataset.metadata import find_images, read_metadata
from athanor.trainer.errors import AthanorError


def written(tmp_path, content, name="meta.json"):
    file = tmp_path / name
    file.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return file


def touched(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_kohyas_form_joins_caption_and_tags(tmp_path):
    data = {
        "a.png": {"caption": "a cat", "tags": "cat, red, "},
        "b": {"tags": "dog"},
        "c": {"caption": "two\nlines", "train_resolution": [512, 512]},
        "d": {"tags": ["x", "y"]},
        "e": {},
        "f": {"caption": "", "tags": ""},
    }
    assert read_metadata(written(tmp_path, data)) == {"a.png": "a cat, cat, red", "b": "dog", "c": "two lines", "d": "x, y", "e": None, "f": ""}


def test_json_lines_and_lists(tmp_path):
    lines = '{"file_name": "a.png", "text": "一只猫"}\n\n{"image": "b.png", "caption": "b", "more": 1}\n{"file_name": "c.png"}\n'
    expected = {"a.png": "一只猫", "b.png": "b", "c.png": None}
    assert read_metadata(written(tmp_path, lines, "metadata.jsonl")) == expected
    objects = [json.loads(line) for line in lines.splitlines() if line]
    assert read_metadata(written(tmp_path, objects)) == expected


def test_lines_stay_apart_for_wildcards(tmp_path):
    """As sd-scripts' documentation shows it: the tags stand behind each line."""
    data = {"a": {"caption": "a frog, \n\n test two", "tags": "x, \ny"}, "b": "one\ntwo", "c": {"tags": "t"}, "d": {}, "e": {"caption": ""}}
    found = read_metadata(written(tmp_path, data), keep_lines=True)
    assert found == {"a": "a frog, x, y\ntest two, x, y", "b": "one\ntwo", "c": "t", "d": None, "e": ""}


def test_a_line_of_json_may_hold_other_line_ends(tmp_path):
    text = '{"file_name": "a.png", "text": "cat\u2028dog"}\r\n{"file_name": "b.png", "text": "x\x85y"}\n'
    assert read_metadata(written(tmp_path, text, "m.jsonl")) == {"a.png": "cat dog", "b.png": "x y"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.jsonl", '{"file_name": "a"}\n{"file_name"', r"m\.jsonl, line 2 is not valid JSON"),
        ("m.jsonl", '{"text": "a"}', r"m\.jsonl, line 1 names no image"),
        ("m.jsonl", "[1]", r"line 1 names no image"),
        ("m.json", "5", "neither an object of images nor a list"),
        ("m.json", '{"a": 5}', r"m\.json, 'a' is 5"),
        ("m.json", '{"a": {"caption": 5}}', "the caption must be text, not 5"),
        ("m.json", '[{"image": "a", "tags": [1]}]', "entry 1: the tags must be text"),
        ("m.json", "\0", "not a text file"),
    ],
)
def test_what_cannot_be_understood_says_where(tmp_path, name, content, message):
    with pytest.raises(AthanorError, match=message):
        read_metadata(written(tmp_path, content, name))


def test_a_file_of_another_layout_is_told_in_one_short_sentence(tmp_path):
    coco = {"images": [{"id": i, "file_name": f"{i}.png"} for i in range(1000)], "annotations": []}
    with pytest.raises(AthanorError, match=r"'images' is \[\{'id': 0.*…; an object with") as error:
        read_metadata(written(tmp_path, coco))
    assert len(str(error.value)) < 250


def test_images_are_found_by_any_of_their_names(tmp_path):
    folder = tmp_path / "set"
    touched(
        folder / "a.png", folder / "B.JPG", folder / "sub" / "c.webp", folder / "10.png", folder / "2.png", folder / "extra.png", folder / "a.txt"
    )
    names = {
        "10": "ten",
        "2.png": "two",
        "a": "A",
        "b.jpg": "B",
        "sub\\c": "C",
        "D:/old place/a2.png": "x",
        str(folder / "a.png"): "again",
        "./2": "again",
    }
    found, notes = find_images(names, folder, "meta.json", repeats=3)
    assert [(each.name, each.caption) for each in found] == [("2.png", "two"), ("10.png", "ten"), ("a.png", "A"), ("B.JPG", "B"), ("sub/c.webp", "C")]
    assert all(each.repeats == 3 for each in found)
    assert len(notes) == 3
    assert "names D:/old place/a2.png, but there is no such image" in notes[0]
    assert "twice" in notes[1] and str(folder / "a.png") in notes[1]
    assert "left out: extra.png" in notes[2]


def test_a_full_path_of_another_computer_is_found_by_its_last_part(tmp_path):
    touched(tmp_path / "a.png")
    found, _ = find_images({"E:\\training\\cats\\a.png": "x"}, tmp_path, "meta.json")
    assert [each.path for each in found] == [tmp_path / "a.png"]


def test_a_full_path_of_another_computer_keeps_its_subfolders_apart(tmp_path):
    touched(tmp_path / "1_a" / "x.png", tmp_path / "2_b" / "x.png", tmp_path / "x.png")
    names = {"D:\\set\\1_a\\x.PNG": "a", "\\\\nas\\lora\\set\\2_b\\x": "b", "/home/me/set/x.png": "whole"}
    found, notes = find_images(names, tmp_path, "meta.json")
    assert {each.name: each.caption for each in found} == {"1_a/x.png": "a", "2_b/x.png": "b", "x.png": "whole"} and notes == []


def test_accents_that_a_mac_takes_apart_are_the_same_name(tmp_path):
    touched(tmp_path / "ame\u0301lie.png")
    found, notes = find_images({"am\u00e9lie.PNG": "x"}, tmp_path, "meta.json")
    assert [each.caption for each in found] == ["x"] and notes == []


def test_of_a_list_of_captions_the_first_is_taken_or_for_wildcards_all(tmp_path):
    file = written(tmp_path, {"a.png": {"captions": ["one cat", "a cat,"], "tags": "cat"}, "b.png": {"text": []}})
    assert read_metadata(file) == {"a.png": "one cat, cat", "b.png": ""}
    assert read_metadata(file, keep_lines=True)["a.png"] == "one cat, cat\na cat, cat"


def test_half_a_character_does_not_come_into_captions(tmp_path):
    file = written(tmp_path, '{"a.png": {"caption": "cat \\ud83d here", "tags": "\\ud83d\\ude00"}}')
    assert read_metadata(file) == {"a.png": "cat ? here, \U0001f600"}


def test_images_outside_count_only_where_allowed(tmp_path):
    folder, other = tmp_path / "set", tmp_path / "other"
    touched(folder / "a.png", other / "b.png", other / "c.png")
    names = {"a": "", str(other / "b.png"): "B", "../other/c.png": "C"}
    found, notes = find_images(names, folder, "meta.json")
    assert [each.name for each in found] == ["a.png"]
    assert len(notes) == 2 and all("no such image" in note for note in notes)
    asked = []
    found, notes = find_images(names, folder, "meta.json", is_allowed=lambda path: asked.append(path) or path.is_relative_to(other.resolve()))
    assert {each.path for each in found} == {folder / "a.png", other / "b.png", other / "c.png"}
    assert notes == [] and all(path == path.resolve() for path in asked)


def test_a_link_that_leads_out_is_not_followed(tmp_path):
    folder, other = tmp_path / "set", tmp_path / "other"
    touched(folder / "a.png", other / "secret.png")
    try:
        (folder / "link.png").symlink_to(other / "secret.png")
        (folder / "door").symlink_to(other, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    found, notes = find_images({"a.png": "", "link.png": "", "door/secret.png": ""}, folder, "meta.json")
    assert [each.name for each in found] == ["a.png"]
    assert any("names link.png" in note for note in notes) and any("names door/secret.png" in note for note in notes)


def test_a_huge_list_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("athanor.trainer.dataset.metadata._MAX_BYTES", 10)
    with pytest.raises(AthanorError, match="split it"):
        read_metadata(written(tmp_path, {"a": {"caption": "long enough"}}))
    assert Path(tmp_path / "meta.json").exists()
