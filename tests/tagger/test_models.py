from pathlib import Path

import pytest

from athanor.tagger.categories import CHARACTER, GENERAL, RATING
from athanor.tagger.errors import TaggerError
from athanor.tagger.models import find_taggers, load_labels, pick_tagger, tagger_files


def _touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def test_folders_and_flat_pairs_are_found_by_name(tmp_path: Path) -> None:
    folders, flat = tmp_path / "wd_taggers", tmp_path / "wd14_tagger"
    _touch(folders / "wd-vit v3" / "model.onnx", folders / "wd-vit v3" / "selected_tags.csv")
    _touch(folders / "SmilingWolf" / "模型" / "model.onnx", folders / "SmilingWolf" / "模型" / "selected_tags.csv")
    _touch(flat / "wd-v1-4-moat-tagger-v2.onnx", flat / "wd-v1-4-moat-tagger-v2.csv", flat / "readme.csv")
    _touch(folders / "wd-vit v3" / "model_optimized.onnx", folders / ".cache" / "model.onnx")
    assert find_taggers([folders, flat, tmp_path / "absent"]) == {
        "SmilingWolf/模型": folders / "SmilingWolf" / "模型",
        "wd-v1-4-moat-tagger-v2": flat / "wd-v1-4-moat-tagger-v2.onnx",
        "wd-vit v3": folders / "wd-vit v3",
    }


def test_the_earlier_root_wins_and_a_root_may_be_a_tagger(tmp_path: Path) -> None:
    for root in ("first", "second"):
        _touch(tmp_path / root / "same" / "model.onnx", tmp_path / root / "same" / "selected_tags.csv")
    _touch(tmp_path / "miniature" / "model.onnx", tmp_path / "miniature" / "selected_tags.csv")
    roots = [tmp_path / "first", tmp_path / "second", tmp_path / "miniature"]
    assert find_taggers(roots) == {"same": tmp_path / "first" / "same", "miniature": tmp_path / "miniature"}


def test_a_link_in_a_circle_ends(tmp_path: Path) -> None:
    _touch(tmp_path / "a" / "model.onnx")
    try:
        (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("links are not allowed here")
    assert "a" in find_taggers([tmp_path])


@pytest.mark.parametrize("present", ["model.onnx", "selected_tags.csv"])
def test_an_incomplete_folder_is_listed_and_says_what_is_missing(tmp_path: Path, present: str) -> None:
    _touch(tmp_path / "half" / present)
    missing = {"model.onnx": "selected_tags.csv", "selected_tags.csv": "model.onnx"}[present]
    with pytest.raises(TaggerError, match="not complete") as error:
        tagger_files(find_taggers([tmp_path])["half"])
    assert str(tmp_path / "half" / missing) in str(error.value) and str(tmp_path / "half" / present) not in str(error.value)


def test_a_flat_model_without_its_csv_says_so(tmp_path: Path) -> None:
    _touch(tmp_path / "moat.onnx")
    with pytest.raises(TaggerError, match=r"moat\.csv is missing"):
        tagger_files(find_taggers([tmp_path])["moat"])


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(TaggerError, match=r"Put model\.onnx and selected_tags\.csv") as error:
        pick_tagger("vit", [tmp_path])
    assert str(tmp_path) in str(error.value)
    _touch(tmp_path / "swin" / "model.onnx", tmp_path / "swin" / "selected_tags.csv")
    assert pick_tagger("swin", [tmp_path]) == tmp_path / "swin"
    for name in ("vit", "../swin", str(tmp_path / "swin")):
        with pytest.raises(TaggerError, match="choose one of: swin"):
            pick_tagger(name, [tmp_path])


def test_labels_are_told_apart_by_category_not_by_place(tmp_path: Path, write_labels) -> None:
    rows = [("hatsune_miku", 4), ("1girl", 0), ("general", 9), ("初音", 0), ("saber_(fate)", 4), ("explicit", 9), ("someone", 1)]
    write_labels(tmp_path / "selected_tags.csv", rows)
    (tmp_path / "model.onnx").touch()
    labels = load_labels(tmp_path)
    assert labels == load_labels(tmp_path / "selected_tags.csv")
    assert len(labels) == 7 and labels.names[3] == "初音"
    assert (labels.rows(GENERAL), labels.rows(CHARACTER), labels.rows(RATING)) == ((1, 3), (0, 4), (2, 5))


def test_a_byte_order_mark_and_quotes_are_understood(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('name,category\r\n"a,b",0\r\n', encoding="utf-8-sig", newline="")
    assert load_labels(tmp_path / "x.csv").names == ("a,b",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1girl,0,5000,\n", "not the label file"),
        (b"", "not the label file"),
        (b"tag_id,name,category,count\n", "no tags"),
        (b"tag_id,name,category,count\n1,solo,nothing,3\n", "line 2"),
        (b"tag_id,name,category,count\n1,solo\n", "line 2"),
        ("tag_id,name,category\n1,初音,4\n".encode("gbk"), "not UTF-8"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(TaggerError, match=message) as error:
        load_labels(tmp_path / "x.csv")
    assert str(tmp_path / "x.csv") in str(error.value)
