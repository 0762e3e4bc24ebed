import json
from pathlib import Path

import pytest
from PIL import Image

from athanor.trainer.dataset import load_list, name_pattern, places_of
from athanor.trainer.errors import AthanorError, InvalidJobError


def save(*paths, size=(24, 16)):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, 1).save(path)


@pytest.fixture
def root(tmp_path):
    """Two folders of three images, and one of regularization images."""
    for folder, text in (("cats", "sits"), ("dogs", "")):
        save(*(tmp_path / "root" / folder / f"{i}.png" for i in range(3)))
        (tmp_path / "root" / folder / "0.txt").write_text(text, encoding="utf-8")
        (tmp_path / "root" / folder / "1.caption").write_text("old", encoding="utf-8")
    save(*(tmp_path / "root" / "reg" / f"{i}.png" for i in range(10)))
    return tmp_path / "root"


def load(root, text, name="dataset.toml", **options):
    file = root / name
    file.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return load_list(file, root, is_allowed=lambda path: path.is_relative_to(root.resolve()), **options)


def shown(dataset, role="train"):
    return [(Path(s.path).parent.name + "/" + Path(s.path).name, s.caption, s.repeats) for s in dataset.with_role(role)]


def test_a_dataset_file_of_two_concepts_and_regularization(root):
    text = """
    [general]
    caption_extension = ".txt"
    num_repeats = 2
    [[datasets]]
      [[datasets.subsets]]
      image_dir = "cats"
      class_tokens = "cat"
      caption_prefix = "photo of"
      caption_suffix = "at night"
      [[datasets.subsets]]
      image_dir = "reg"
      is_reg = true
      num_repeats = 1
    [[datasets]]
      [[datasets.subsets]]
      image_dir = "dogs"
      num_repeats = 5
    """
    dataset = load(root, text, trigger=" sks ")
    assert shown(dataset) == [
        ("cats/0.png", "photo of sits at night", 2),
        ("cats/1.png", None, 2),
        ("cats/2.png", None, 2),
        ("dogs/0.png", "", 5),
        ("dogs/1.png", None, 5),
        ("dogs/2.png", None, 5),
    ]
    assert [s.prompt(dataset.trigger) for s in dataset.samples[1:5]] == ["photo of cat at night", "photo of cat at night", "", "sks"]
    assert shown(dataset, "regularization") == [(f"reg/{i}.png", None, 1) for i in range(6)]
    assert any("4 regularization images beyond" in note for note in dataset.notes)


def test_prefix_and_suffix_stand_without_a_caption_too(root):
    """As in sd-scripts; the trigger, which it does not know, stands between them."""
    text = "[general]\ncaption_prefix = 'old photo,'\ncaption_suffix = 'grainy'\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'dogs'\n"
    text += "[[datasets.subsets]]\nimage_dir = 'reg'\nis_reg = true\n"
    for trigger, told in (("", "old photo, grainy"), ("sks", "old photo, sks grainy")):
        dataset = load(root, text, trigger=trigger)
        dogs = [sample.prompt(trigger) for sample in dataset.with_role("train")]
        assert dogs == ["old photo, grainy", "old photo, old grainy", told], "the first has an empty caption file"
        assert {sample.prompt("") for sample in dataset.with_role("regularization")} == {"old photo, grainy"}


def test_tags_of_metadata_stand_behind_the_caption_separator(root):
    (root / "meta.json").write_text(json.dumps({"0": {"caption": "a cat", "tags": "sofa|lamp"}}), encoding="utf-8")
    text = "[[datasets]]\ncaption_separator = '|'\n[[datasets.subsets]]\nimage_dir = 'cats'\nmetadata_file = 'meta.json'\n"
    assert load(root, text).samples[0].caption == "a cat| sofa|lamp"


def test_what_the_file_leaves_open_comes_from_the_arguments(root):
    text = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'cats'\n[[datasets.subsets]]\nimage_dir = 'dogs'\nvalidation_split = 0\n"
    dataset = load(root, text, caption_extensions=(".caption", ".txt"), validation_percent=50, pattern=name_pattern("{caption}"))
    assert [s.caption for s in dataset.samples if "dogs" in s.path] == ["", "old", "2"]
    assert 1 <= len(dataset.with_role("validation")) <= 2
    assert all("cats" in s.path for s in dataset.with_role("validation"))


def test_validation_split_of_the_file_goes_first(root):
    dataset = load(root, "[[datasets]]\nvalidation_split = 1.0\n[[datasets.subsets]]\nimage_dir = 'cats'\n", validation_percent=0)
    assert len(dataset.with_role("validation")) == 2


def test_folders_outside_the_registered_ones_are_refused_unseen(root, tmp_path):
    save(tmp_path / "secret" / "a.png")
    subsets = [{"image_dir": "../secret"}, {"image_dir": str(tmp_path / "nothing")}, {"image_dir": "cats", "conditioning_data_dir": "../secret"}]
    with pytest.raises(InvalidJobError) as error:
        load(root, {"datasets": [{"subsets": subsets}]}, "dataset.json")
    assert len(error.value.problems) == 3
    assert all("does not lie in a registered dataset folder" in problem for problem in error.value.problems)
    try:
        (root / "door").symlink_to(tmp_path / "secret", target_is_directory=True)
    except OSError:
        return
    with pytest.raises(InvalidJobError, match=r"subset 1: image_dir .*door does not lie"):
        load(root, {"datasets": [{"subsets": [{"image_dir": "door"}]}]}, "dataset.json")


def test_missing_places_are_told_together(root):
    subsets = [{"image_dir": "birds"}, {"image_dir": "cats/0.png"}, {"image_dir": "cats", "metadata_file": "no.json"}]
    with pytest.raises(InvalidJobError) as error:
        load(root, {"datasets": [{"subsets": subsets}]}, "dataset.json")
    assert [problem.rpartition(" ")[0].split(": ")[0] for problem in error.value.problems] == [
        f"dataset.json, dataset 1, subset {i}" for i in (1, 2, 3)
    ]
    assert "birds does not exist" in error.value.problems[0]
    assert "is a file, not a folder" in error.value.problems[1]
    assert "no.json does not exist" in error.value.problems[2]


def test_paths_that_cannot_be_are_told_with_the_others(root):
    subsets = [{"image_dir": "x" * 5000}, {"image_dir": "cats\0"}, {"image_dir": "nowhere"}]
    with pytest.raises(InvalidJobError) as error:
        load(root, {"datasets": [{"subsets": subsets}]}, "dataset.json")
    told = str(error.value)
    assert "subset 1: image_dir cannot be a path" in told and "subset 2: image_dir cannot be a path" in told and "subset 3: image_dir" in told
    assert len(told) < 1000


def test_lines_of_metadata_stay_apart_for_wildcards(root):
    (root / "meta.json").write_text(json.dumps({"0": {"caption": "a\nb", "tags": "t"}}), encoding="utf-8")
    text = "[[datasets]]\nenable_wildcard = {}\n[[datasets.subsets]]\nimage_dir = 'cats'\nmetadata_file = 'meta.json'\n"
    assert load(root, text.format("true")).samples[0].caption == "a, t\nb, t"
    assert load(root, text.format("false")).samples[0].caption == "a b, t"


def test_a_folder_twice_counts_once_and_is_told(root):
    text = "[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = 'cats'\n[[datasets]]\nresolution = 768\n[[datasets.subsets]]\nimage_dir = './cats'\n"
    dataset = load(root, text)
    assert len(dataset.samples) == 3
    assert any("dataset 2, subset 1 names the same folder as dataset 1, subset 1" in note for note in dataset.notes)


def test_an_empty_subset_is_told_and_an_empty_dataset_refused(root):
    (root / "empty").mkdir()
    (root / "cats" / "inner").mkdir()
    dataset = load(root, "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'empty'\n[[datasets.subsets]]\nimage_dir = 'cats'\n")
    assert len(dataset.samples) == 3
    assert any(note.startswith("dataset 1, subset 1: ") and "has no images" in note for note in dataset.notes)
    assert any("subfolder inner was not read; give it a subset of its own" in note for note in dataset.notes)
    with pytest.raises(AthanorError, match=r"leads to no image.*It is empty"):
        load(root, "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'empty'\n")


def test_metadata_inside_a_dataset_file(root):
    (root / "cats" / "meta.json").write_text(json.dumps({"2": {"caption": "a cat", "tags": "cat"}, "0.png": {"tags": "x"}}), encoding="utf-8")
    text = "[[datasets]]\n[[datasets.subsets]]\nmetadata_file = 'cats/meta.json'\nnum_repeats = 4\ncaption_prefix = 'p,'\n"
    dataset = load(root, text)
    assert shown(dataset) == [("cats/0.png", "p, x", 4), ("cats/2.png", "p, a cat, cat", 4)]
    assert places_of(root / "dataset.toml") == (root / "cats" / "meta.json",)


def test_alpha_and_mask_folders_of_a_dataset_file(root):
    Image.new("RGBA", (24, 16)).save(root / "dogs" / "0.png")
    save(root / "cats" / "masks" / "1.png")
    text = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'cats'\nconditioning_data_dir = 'cats/masks'\n[[datasets.subsets]]\nimage_dir = 'dogs'\nalpha_mask = true\n"
    dataset = load(root, text)
    assert [s.mask for s in dataset.samples] == [None, str(root / "cats" / "masks" / "1.png"), None, "alpha", None, None]
    assert not any("subfolder masks" in note for note in dataset.notes)


def test_captions_in_json_lines(root):
    lines = '{"file_name": "cats/2.png", "text": "two"}\n{"file_name": "dogs/0.png"}\n{"file_name": "../x.png", "text": "no"}\n'
    dataset = load(root, lines, "metadata.jsonl", trigger="t", pattern=name_pattern("{words}/*"))
    assert shown(dataset) == [("cats/2.png", "two", 1), ("dogs/0.png", "dogs", 1)]
    assert dataset.trigger == "t" and dataset.samples[0].concept == "cats"
    assert len(dataset.notes) == 1 and "../x.png" in dataset.notes[0]
    assert places_of(root / "metadata.jsonl") == ()
    with pytest.raises(AthanorError, match="names no image that can be used"):
        load(root, '{"file_name": "absent.png"}', "metadata.jsonl")


def test_masks_beside_the_images_of_a_subset(root):
    save(root / "cats" / "0-masklabel.png")
    dataset = load(root, "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'cats'\nconditioning_data_dir = 'cats'\n")
    assert [sample.mask and Path(sample.mask).name for sample in dataset.samples] == ["0-masklabel.png", None, None]


def test_images_without_a_caption_in_their_list_are_told_with_where_it_is_read_from(root):
    dataset = load(root, '{"image": "cats/0.png", "text": "a"}\n{"image": "cats/1.png", "conversations": []}\n', "set.jsonl")
    assert any('set.jsonl has no caption for 1 image: cats/1.png. It is read from "caption"' in note for note in dataset.notes)


def test_a_dataset_file_of_regularization_images_alone_is_told_what_it_lacks(root):
    with pytest.raises(AthanorError, match="regularization images only"):
        load(root, "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'reg'\nis_reg = true\n")


def test_other_files_are_no_lists(root):
    with pytest.raises(AthanorError, match=r"list\.csv is no list of images; a \.toml, \.json or \.jsonl"):
        load(root, "a,b", "list.csv")
