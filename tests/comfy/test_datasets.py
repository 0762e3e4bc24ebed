"""Load Dataset with lists, masks and further folders, and pictures to and from the graph, in a real ComfyUI."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfyui_server import ComfyUI, ServerError
from graphs import Prompt, node
from PIL import Image

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
FOLDER = "bench 图片"
LIMIT_SEC = 300


def save_scene(path: Path, number: int, size: tuple[int, int] = (64, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.new("RGB", (4, 4))
    for i in range(16):
        small.putpixel((i % 4, i // 4), tuple((number * 91 + i * step) % 256 for step in (53, 101, 197)))
    small.resize(size, Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope="module")
def folder(comfyui: ComfyUI) -> Path:
    root = comfyui.input_folder / FOLDER
    for i in range(4):
        save_scene(root / "set" / f"red_cat_{i}.png", i)
    save_scene(root / "set" / "again.jpg", 0, (32, 24))
    save_scene(root / "reg" / "r.png", 10)
    save_scene(root / "held" / "h.png", 11)
    (root / "held" / "copy.png").write_bytes((root / "set" / "red_cat_3.png").read_bytes())
    Image.new("L", (64, 48), 255).save((root / "masks").mkdir() or root / "masks" / "red_cat_1.png")
    save_scene(comfyui.base / "secret" / "s.png", 12)
    lines = [{"file_name": "red_cat_2.png", "text": "二"}, {"file_name": "../../../secret/s.png", "text": "no"}]
    (root / "set" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    subsets = [{"image_dir": "set", "num_repeats": 3, "class_tokens": "cat"}, {"image_dir": "reg", "is_reg": True}]
    (root / "dataset.json").write_text(json.dumps({"datasets": [{"subsets": subsets}]}), encoding="utf-8")
    (root / "out.json").write_text(json.dumps({"datasets": [{"subsets": [{"image_dir": "../../secret"}]}]}), encoding="utf-8")
    return root


@pytest.fixture
def load(comfyui: ComfyUI, folder: Path) -> Callable[..., list[str]]:
    """Runs Load Dataset and gives the lines of its report."""

    def report(name: str = f"{FOLDER}/set", **inputs: Any) -> list[str]:
        inputs = {"validation_percent": 0.0, **inputs}
        prompt = {"data": node(comfyui, "AthanorLoadDataset", folder=name, **inputs), "text": node(comfyui, "PreviewAny", source=["data", 1])}
        return comfyui.run(prompt, LIMIT_SEC)["outputs"]["text"]["text"][0].splitlines()

    return report


def test_without_the_new_inputs_nothing_is_different(load: Callable[..., list[str]]):
    assert load() == ["5 images to train on (5 with repeats), 0 held out, 0 with a caption"]


def test_folders_masks_names_and_look_alikes(load: Callable[..., list[str]]):
    head, *notes = load(
        name_pattern="{words}_{number}",
        masks=f"{FOLDER}/masks",
        regularization=f"{FOLDER}/reg",
        validation=f"{FOLDER}/held",
        min_resolution=50,
        near_duplicates=True,
    )
    assert head == "4 images to train on (4 with repeats), 2 held out, 3 with a caption, 1 for regularization (4 with repeats)"
    for part in (
        "does not fit the name of again.jpg",
        "red_cat_0.png has no mask",
        "1 mask found",
        "1 image not trained on, for they lie in the validation folder too: red_cat_3.png",
        "1 regularization image mixed in",
        "1 image with fewer pixels than 50 x 50, to be enlarged or trained small: again.jpg (32 x 24 px)",
        "again.jpg and red_cat_0.png look alike",
    ):
        assert any(part in note for note in notes), (part, notes)


def test_lists_of_pictures(load: Callable[..., list[str]]):
    head, *notes = load(dataset_file="metadata.jsonl")
    assert head == "1 images to train on (1 with repeats), 0 held out, 1 with a caption"
    assert any("secret/s.png, but there is no such image" in note for note in notes)
    assert any("does not name every image" in note for note in notes)
    head, *_ = load(FOLDER, dataset_file="dataset.json")
    assert head == "5 images to train on (15 with repeats), 0 held out, 0 with a caption, 1 for regularization (15 with repeats)"
    assert load(dataset_file=f"{FOLDER}/dataset.json")[0] == head


def test_a_written_list_is_read_anew(load: Callable[..., list[str]], folder: Path):
    file = folder / "set" / "one.json"
    file.write_text('{"red_cat_0": {"tags": "a"}}', encoding="utf-8")
    assert load(dataset_file="one.json")[0].startswith("1 images")
    file.write_text('{"red_cat_0": {"tags": "a"}, "red_cat_1": {"tags": "b"}}', encoding="utf-8")
    assert load(dataset_file="one.json")[0].startswith("2 images")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"dataset_file": "../../../secret/list.json"}, "There is no file '../../../secret/list.json'"),
        ({"dataset_file": "/etc/passwd"}, "There is no file '/etc/passwd'"),
        ({"masks": "../secret"}, "There is no dataset folder '../secret'"),
        ({"regularization": "/etc"}, "There is no dataset folder '/etc'"),
        ({"validation": f"{FOLDER}/../../secret"}, "There is no dataset folder"),
        ({"name_pattern": "{tags}"}, "unknown part {tags}"),
        ({"name": "bench\0"}, "There is no dataset folder"),
        ({"name": "x" * 9000}, "There is no dataset folder"),
        ({"name": f"{FOLDER}/%2e%2e/set"}, "There is no dataset folder"),
        ({"masks": "set\0"}, "There is no dataset folder"),
        ({"dataset_file": "x" * 9000 + ".toml"}, "There is no file"),
        ({"dataset_file": "a\0.toml"}, "There is no file"),
        ({"dataset_file": f"{FOLDER}/out.json"}, "does not lie in a registered dataset folder"),
    ],
)
def test_what_a_workflow_may_not_read_is_refused(load: Callable[..., list[str]], inputs: dict[str, str], message: str):
    with pytest.raises(ServerError) as error:
        load(**inputs)
    assert message in str(error.value)


def test_a_link_out_of_the_registered_folders_is_told_from_a_missing_folder(load: Callable[..., list[str]], comfyui: ComfyUI, folder: Path):
    try:
        (folder / "door").symlink_to(comfyui.base / "secret", target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    for inputs in ({"name": f"{FOLDER}/door"}, {"regularization": f"{FOLDER}/door/any"}):
        with pytest.raises(ServerError, match="is a link that leads out of the registered folders"):
            load(**inputs)
    (folder / "door").unlink()


def exchange(server: ComfyUI) -> Prompt:
    """Three pictures of two sizes with captions from the graph become a dataset, and pictures again."""
    return {
        "red": node(server, "EmptyImage", width=64, height=32, batch_size=2, color=0xFF0000),
        "blue": node(server, "EmptyImage", width=32, height=64, batch_size=1, color=0x0000FF),
        "words": node(server, "PrimitiveStringMultiline", value="red one\nred two\n蓝"),
        "all": {"class_type": "CreateList", "inputs": {"inputs.input0": ["red", 0], "inputs.input1": ["blue", 0]}},
        "make": node(server, "AthanorImagesToDataset", images=["all", 0], captions=["words", 0], trigger="t", repeats=2),
        "give": node(server, "AthanorDatasetToImages", dataset=["make", 0]),
        "save": node(server, "SaveImage", images=["give", 0], filename_prefix="given"),
        "text": node(server, "PreviewAny", source=["give", 1]),
    }


def test_pictures_of_the_graph_become_a_dataset_and_come_back(comfyui: ComfyUI):
    entry = comfyui.run(exchange(comfyui), LIMIT_SEC)
    colours = []
    for path in comfyui.files(entry, "save"):
        with Image.open(path) as image:
            colours.append((image.size, image.convert("RGB").getpixel((0, 0))))
    assert colours == [((64, 32), (255, 0, 0))] * 2 + [((32, 64), (0, 0, 255))]
    assert entry["outputs"]["text"]["text"] == ["red one", "red two", "蓝"]
    assert entry["outputs"]["make"]["text"] == ["2 images to train on (4 with repeats), 1 held out, 3 with a caption"]
    kept = sorted((comfyui.output_folder / "athanor" / ".pictures").rglob("*.png"))
    assert [path.name for path in kept] == ["00001.png", "00002.png", "00003.png"]

    before = {path: path.stat().st_mtime_ns for path in kept}
    comfyui.post("/free", {"free_memory": True})
    comfyui.run(exchange(comfyui), LIMIT_SEC)
    assert {path: path.stat().st_mtime_ns for path in (comfyui.output_folder / "athanor" / ".pictures").rglob("*.png")} == before


def test_a_bucketed_dataset_gives_what_is_trained_on(comfyui: ComfyUI, folder: Path):
    prompt = {
        "data": node(comfyui, "AthanorLoadDataset", folder=f"{FOLDER}/set"),
        "bucket": node(comfyui, "AthanorBucket", dataset=["data", 0], resolution=32, min_side=16, max_side=64, step=16),
        "cut": node(comfyui, "AthanorDatasetToImages", dataset=["bucket", 0], skip=1, max_images=2),
        "save": node(comfyui, "SaveImage", images=["cut", 0], filename_prefix="cut"),
        "names": node(comfyui, "PreviewAny", source=["cut", 2]),
        "whole": node(comfyui, "AthanorDatasetToImages", dataset=["bucket", 0], cut=False, which="held out"),
        "save whole": node(comfyui, "SaveImage", images=["whole", 0], filename_prefix="whole"),
    }
    entry = comfyui.run(prompt, LIMIT_SEC)
    sizes = []
    for path in (*comfyui.files(entry, "save"), *comfyui.files(entry, "save whole")):
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes[:2] == [(32, 32)] * 2 and set(sizes[2:]) <= {(64, 48), (32, 24)}
    assert entry["outputs"]["names"]["text"] == ["red_cat_0", "red_cat_1"]
    assert entry["outputs"]["cut"]["text"] == ["2 of 5 images"]
    with pytest.raises(ServerError, match=r'0 of 5 are "regularization"'):
        comfyui.run({**prompt, "cut": node(comfyui, "AthanorDatasetToImages", dataset=["bucket", 0], which="regularization")}, LIMIT_SEC)


def test_captions_that_do_not_match_are_told(comfyui: ComfyUI):
    prompt = exchange(comfyui)
    prompt["more"] = node(comfyui, "AthanorDatasetToImages", dataset=["make", 0])
    prompt["again"] = node(comfyui, "AthanorImagesToDataset", images=["red", 0], captions=["more", 1])
    prompt["again save"] = node(comfyui, "PreviewAny", source=["again", 1])
    with pytest.raises(ServerError, match="There are 2 images and 3 captions"):
        comfyui.run(prompt, LIMIT_SEC)
