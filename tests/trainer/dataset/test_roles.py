import shutil
from pathlib import Path

import pytest
from PIL import Image

from athanor.trainer.dataset import scan_folder, with_regularization, with_validation
from athanor.trainer.dataset.roles import counted_regularization
from athanor.trainer.errors import AthanorError
from athanor.trainer.types import Dataset, Sample


def samples(*repeats, role="train"):
    return tuple(Sample(f"/set/{i}.png", 8, 8, str(i), repeats=each, role=role) for i, each in enumerate(repeats))


def kohyas_count(repeats, num_train):
    """sd-scripts' loop, written down."""
    counted, total, is_first = [], 0, True
    while total < num_train:
        for i, each in enumerate(repeats):
            if is_first:
                counted.append(each)
                total += each
            else:
                counted[i] += 1
                total += 1
            if total >= num_train:
                break
        is_first = False
    return counted


@pytest.mark.parametrize("num_train", [1, 3, 7, 8, 20, 101])
@pytest.mark.parametrize("repeats", [(1,), (1, 1, 1), (2, 1, 5), (4, 4)])
def test_regularization_is_counted_as_in_sd_scripts(repeats, num_train):
    counted = counted_regularization(samples(*repeats), num_train)
    assert [sample.repeats for sample in counted] == kohyas_count(repeats, num_train)
    assert all(sample.role == "regularization" for sample in counted)


def test_held_out_images_do_not_count_and_surplus_is_told():
    dataset = Dataset(samples(2, 1) + samples(50, role="validation"))
    regularization = Dataset(samples(1, 1, 1, 1, 1), notes=("of the folder",))
    merged = with_regularization(dataset, regularization)
    assert [(s.role, s.repeats) for s in merged.samples[3:]] == [("regularization", 1)] * 3
    assert merged.notes[0] == "of the folder"
    assert "2 regularization images beyond the number of training images left out" in merged.notes[1] and "3.png, 4.png" in merged.notes[1]
    assert "mixed in, as many an epoch" in merged.notes[2]
    assert with_regularization(dataset, Dataset(())).samples == dataset.samples


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").rotate(seed).resize((16, 16)).save(path)
    return path


def test_no_file_is_trained_on_and_held_out(tmp_path):
    for i in range(4):
        picture(tmp_path / "set" / f"{i}.png", 20 * i)
    held = tmp_path / "set" / "held"
    shutil.copy(tmp_path / "set" / "1.png", picture(held / "copy.png", 0))
    picture(held / "new.png", 123)
    dataset = scan_folder(tmp_path / "set", recursive=True, without=[held])
    assert len(dataset.samples) == 4 and dataset.notes == ()
    merged = with_validation(dataset, scan_folder(held))
    assert [Path(s.path).name for s in merged.with_role("train")] == ["0.png", "2.png", "3.png"]
    assert [Path(s.path).name for s in merged.with_role("validation")] == ["copy.png", "new.png"]
    assert [note for note in merged.notes if "1 image not trained on" in note and "1.png" in note] == list(merged.notes)

    same = with_validation(scan_folder(tmp_path / "set", recursive=True), scan_folder(held))
    assert {s.role for s in same.samples if "held" in s.path} == {"validation"}
    assert len({s.path for s in same.samples}) == len(same.samples)


def test_a_validation_folder_that_holds_all_images_is_refused(tmp_path):
    Image.new("RGB", (8, 8), 3).save(tmp_path / "a.png")
    with pytest.raises(AthanorError, match="choose another validation folder"):
        with_validation(scan_folder(tmp_path), scan_folder(tmp_path))


def test_no_copy_of_a_held_out_image_is_trained_on(tmp_path):
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
    alone = scan_folder(tmp_path, validation_percent=20)
    held_out = [Path(sample.path) for sample in alone.with_role("validation")]
    shutil.copy(held_out[0], tmp_path / "the same again.png")
    found = scan_folder(tmp_path, validation_percent=20)
    again = [sample for sample in found.samples if sample.path.endswith("the same again.png")]
    assert not again or again[0].role == "validation"
    contents = [{Path(sample.path).read_bytes() for sample in found.with_role(role)} for role in ("train", "validation")]
    assert not contents[0] & contents[1] and len(contents[0]) == len(alone.with_role("train"))
    assert again or any("the same again.png" in note and "copies of held-out ones" in note for note in found.notes)
