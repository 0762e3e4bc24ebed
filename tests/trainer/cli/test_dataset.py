from __future__ import annotations

import json

import pytest
from PIL import Image
from tiny import make_pictures

from athanor.trainer.cli import main
from athanor.trainer.cli.dataset import read_dataset


@pytest.fixture
def folder(tmp_path):
    Image.effect_noise((300, 100), 60).convert("RGB").save(
        (tmp_path / "set 图" / "2_cat").mkdir(parents=True) or tmp_path / "set 图" / "2_cat" / "a.png"
    )
    (tmp_path / "set 图" / "2_cat" / "a.txt").write_text("a cat", encoding="utf-8")
    Image.effect_noise((64, 64), 60).convert("RGB").save(tmp_path / "set 图" / "b.jpg")
    return tmp_path / "set 图"


def size_of(path):
    with Image.open(path) as image:
        return image.size


SMALL = ["--resolution", "64", "--step", "16", "--held-out-percent", "0"]


def test_a_folder_is_told(folder, capsys):
    assert main(["dataset", str(folder), *SMALL]) == 0
    told = capsys.readouterr().out
    assert told.startswith("2 images, 3 an epoch with repeats, 0 held out, in 2 buckets.\nSteps an epoch: 3 with batch size 1")


def test_a_dataset_file_of_sd_scripts_is_told_wherever_its_folders_lie(folder, tmp_path, capsys):
    file = tmp_path / "elsewhere" / "dataset.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"datasets": [{"subsets": [{"image_dir": str(folder / "2_cat"), "num_repeats": 5}]}]}), encoding="utf-8")
    assert main(["dataset", str(file), *SMALL]) == 0
    assert capsys.readouterr().out.startswith("1 images, 5 an epoch")
    assert [(s.caption, s.repeats) for s in read_dataset(file).samples] == [("a cat", 5)]


def test_pictures_of_it_and_copies_are_saved(folder, tmp_path, capsys):
    more = ["--fixed", "32x64", "--crop", "edges", "--split-over-percent", "50", "--mirror"]
    out = [
        "--chart",
        str(tmp_path / "chart.png"),
        "--sheet",
        str(tmp_path / "sheet.png"),
        "--save",
        str(tmp_path / "new"),
        "--pictures",
        "as-trained",
    ]
    assert main(["dataset", str(folder), *SMALL, *more, *out, "--look-alikes"]) == 0
    for name in ("chart.png", "sheet.png"):
        with Image.open(tmp_path / name) as image:
            assert image.width > 200
    saved = sorted((tmp_path / "new").rglob("*.png"))
    assert len(saved) == 2 * 8 + 2 and {size_of(path) for path in saved} == {(32, 64)}
    assert f"16 captions and {len(saved)} pictures" in capsys.readouterr().out


def test_problems_are_one_sentence(folder, tmp_path, capsys):
    assert main(["dataset", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["dataset", str(folder), "--resolution", "8"]) == 2
    assert "The resolution is 8 px" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["dataset", str(folder), "--fixed", "large"])
    assert "'large' is no size; write it like 512x768" in capsys.readouterr().err


def test_a_training_takes_a_dataset_file(tmp_path, base_folder):
    images = make_pictures(tmp_path / "pictures")
    file = tmp_path / "set.json"
    file.write_text(json.dumps({"datasets": [{"subsets": [{"image_dir": images.name, "num_repeats": 2}]}]}), encoding="utf-8")
    arguments = ["train", "--base", str(base_folder), "--images", str(file), "--output", str(tmp_path / "runs"), "--name", "x", "--rank", "2"]
    assert main([*arguments, "--epochs", "1", "--batch-size", "4", "--resolution", "32", "--precision", "fp32", "--save-precision", "fp32"]) == 0
    samples = json.loads((tmp_path / "runs" / "x" / "job.json").read_text(encoding="utf-8"))["dataset"]["samples"]
    assert {sample["repeats"] for sample in samples} == {2}
