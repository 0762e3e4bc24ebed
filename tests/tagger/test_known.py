from pathlib import Path, PurePosixPath

import pytest

from athanor.tagger.errors import TaggerError
from athanor.tagger.known import KNOWN_TAGGERS, known_tagger
from athanor.tagger.models import find_taggers, missing_tagger, own_thresholds, pick_tagger, tagger_choices, tagger_files, tagger_format
from athanor.tagger.thresholds import Thresholds


def test_the_table_can_be_used_as_it_is() -> None:
    names = [known.name for known in KNOWN_TAGGERS]
    assert names[0] == "wd-swinv2-tagger-v3" and len(set(names)) == len(names) >= 16
    for known in KNOWN_TAGGERS:
        assert len(known.repository.split("/")) == 2
        models = [file for file in known.files if file.name.endswith((".onnx", ".pt"))]
        assert len(models) == 1 and (len(known.files) >= 2 or models[0].name.endswith(".pt"))
        assert all(PurePosixPath(file.path).name == file.name for file in known.files), "renamed files could not be put there by hand"
        assert 0 < known.own_thresholds.general < 1


@pytest.mark.parametrize("known", KNOWN_TAGGERS, ids=lambda known: known.name)
def test_what_is_put_where_the_table_says_is_found(tmp_path: Path, known) -> None:
    for file in known.files:
        (tmp_path / known.name).mkdir(exist_ok=True)
        text = '{"stages": [{"type": "resize", "size": [8, 8]}]}' if file.name == "preprocess.json" else '{"dataset_info": {}}'
        (tmp_path / known.name / file.name).write_text("{}" if file.name == "threshold.json" else text, encoding="utf-8")
    assert find_taggers([tmp_path]) == {known.name: tmp_path / known.name}
    files = tagger_files(tmp_path / known.name)
    if known.name != "camie-tagger-v1":  # its preprocess.json tells it
        assert tagger_format(files) == known.format
    assert own_thresholds(files) == known.own_thresholds


def test_names_are_matched_as_people_write_them() -> None:
    assert known_tagger("SmilingWolf/WD-SwinV2_tagger v3") is KNOWN_TAGGERS[0]
    assert known_tagger("deepghs\\pixai-tagger-v0.9-onnx").name == "pixai-tagger-v0.9"
    assert known_tagger("my own") is None and known_tagger("") is None


def test_sizes_are_told_only_where_all_are_known() -> None:
    assert known_tagger("wd-swinv2-tagger-v3").size_bytes == 467_460_978 + 308_468
    assert known_tagger("joytag").size_bytes is None


def test_a_known_tagger_that_is_not_here_is_told_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(TaggerError, match="not on this machine") as error:
        pick_tagger("cl_tagger_1_02", [tmp_path])
    said = str(error.value)
    assert "cella110n/cl_tagger on Hugging Face" in said
    for name in ("model.onnx", "tag_mapping.json"):
        assert f"cl_tagger_1_02/{name} as {tmp_path / 'cl_tagger_1_02' / name}" in said


def test_a_half_known_tagger_names_its_source(tmp_path: Path) -> None:
    (tmp_path / "joytag").mkdir()
    (tmp_path / "joytag" / "model.onnx").touch()
    with pytest.raises(TaggerError, match=r"top_tags\.txt is missing.*fancyfeast/joytag on Hugging Face"):
        tagger_files(tmp_path / "joytag")


def test_thresholds_beside_an_unknown_model_count(tmp_path: Path) -> None:
    folder = tmp_path / "caformer"
    folder.mkdir()
    for name in ("model.onnx", "selected_tags.csv"):
        (folder / name).touch()
    assert own_thresholds(tagger_files(folder)) is None
    (folder / "thresholds.csv").write_text("category,threshold\n0,0.4\n", encoding="utf-8")
    assert own_thresholds(tagger_files(folder)) == Thresholds(0.4)


def test_the_choices_are_local_ones_first_then_known_ones_marked(tmp_path: Path) -> None:
    folders = [tmp_path / "zzz mine", tmp_path / "SmilingWolf" / "wd_vit_tagger_v3"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "model.onnx").touch()
    choices = tagger_choices([tmp_path])
    assert choices[:3] == ("SmilingWolf/wd_vit_tagger_v3", "zzz mine", "wd-swinv2-tagger-v3 (not downloaded)")
    assert len(choices) == 2 + len(KNOWN_TAGGERS) - 1 and "wd-vit-tagger-v3 (not downloaded)" not in choices
    assert pick_tagger("wd-vit-tagger-v3 (not downloaded)", [tmp_path]) == pick_tagger("wd-vit-tagger-v3", [tmp_path]) == folders[1]


def test_a_known_tagger_is_missing_until_it_is_whole(tmp_path: Path) -> None:
    name = "wd-vit-tagger-v3 (not downloaded)"
    assert missing_tagger(name, [tmp_path]) is known_tagger("wd-vit-tagger-v3")
    (tmp_path / "wd-vit-tagger-v3").mkdir()
    (tmp_path / "wd-vit-tagger-v3" / "selected_tags.csv").touch()
    assert missing_tagger("wd-vit-tagger-v3", [tmp_path]) is not None
    (tmp_path / "wd-vit-tagger-v3" / "model.onnx").touch()
    assert missing_tagger(name, [tmp_path]) is None
    assert missing_tagger("my own", [tmp_path]) is None
