"""Bucket and Save Captions with all that they can do, in a real ComfyUI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from comfyui_server import ComfyUI, ServerError
from graphs import Prompt, node
from PIL import Image
from tiny_faces import write_yunet

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
FOLDER = "bench 裁剪"
LIMIT_SEC = 300


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    folder = comfyui.input_folder / FOLDER
    for name, at in (("1_a/x.png", 8), ("1_b/x.png", 168)):
        image = Image.new("RGB", (192, 64), "white")
        image.paste("red", (at, 24, at + 8, 32))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
        (folder / name).with_suffix(".txt").write_text(f"red at {at}", encoding="utf-8")
    write_yunet(comfyui.models_folder / "face_detectors" / "face_detection_yunet_2023mar.onnx")
    return comfyui


def graph(server: ComfyUI, save: dict[str, Any] | None = None, **bucket: Any) -> Prompt:
    sizes = {"resolution": 64, "min_side": 32, "max_side": 128, "step": 16}
    prompt = {
        "data": node(server, "AthanorLoadDataset", folder=FOLDER, validation_percent=0.0),
        "bucket": node(server, "AthanorBucket", dataset=["data", 0], **sizes, **bucket),
        "report": node(server, "PreviewAny", source=["bucket", 2]),
        "sheet": node(server, "PreviewImage", images=["bucket", 3]),
        "cut": node(server, "AthanorDatasetToImages", dataset=["bucket", 0]),
        "pictures": node(server, "SaveImage", images=["cut", 0], filename_prefix="cut"),
    }
    if save is not None:
        prompt["save"] = node(server, "AthanorSaveCaptions", dataset=["bucket", 0], **save)
    return prompt


def pictures(server: ComfyUI, entry: dict[str, Any]) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in server.files(entry, "pictures")]


def reds(image: Image.Image) -> int:
    return sum(number for number, (red, green, _) in image.getcolors(image.width * image.height) if red > 200 and green < 60)


def test_a_detector_keeps_faces_in_the_picture(server: ComfyUI):
    fixed = {"fixed_width": 64, "fixed_height": 64}
    middle = pictures(server, server.run(graph(server, **fixed), LIMIT_SEC))
    assert [image.size for image in middle] == [(64, 64)] * 2 and not any(map(reds, middle))
    faces = server.run(graph(server, **fixed, crop="faces", face_detector="face_detection_yunet_2023mar.onnx"), LIMIT_SEC)
    assert [reds(image) for image in pictures(server, faces)] == [64, 64]
    with pytest.raises(ServerError, match=r"choose a face detector. Put face_detection_yunet_2023mar\.onnx"):
        server.run(graph(server, **fixed, crop="faces"), LIMIT_SEC)


def test_every_other_way_of_fitting(server: ComfyUI):
    entry = server.run(graph(server, fixed_width=64, fit="pad", border="#0000ff", mirror=True), LIMIT_SEC)
    padded = pictures(server, entry)
    assert len(padded) == 4 and all(image.getpixel((1, 1)) == (0, 0, 255) for image in padded)
    told = entry["outputs"]["report"]["text"][0]
    assert "2 images mirrored" in told and "Steps an epoch: 4 with batch size 1, 2 with batch size 2" in told and "padded" in told
    parts = pictures(server, server.run(graph(server, fixed_width=64, split_percent=50.0, overlap_percent=0.0), LIMIT_SEC))
    assert len(parts) == 6 and sum(map(reds, parts)) == 128


def test_nothing_is_written_until_it_is_asked(server: ComfyUI):
    before = sorted(server.input_folder.rglob("*"))
    entry = server.run(graph(server, {"folder": "new 套", "pictures": "as trained"}), LIMIT_SEC)
    assert "Nothing is written yet. With write on, 2 of 2 captions" in entry["outputs"]["save"]["text"][0]
    assert sorted(server.input_folder.rglob("*")) == before


def test_a_new_folder_can_be_loaded_again(server: ComfyUI):
    saved = {"folder": "new 套", "pictures": "as trained", "write": True}
    entry = server.run(graph(server, saved, fixed_width=64, mirror=True), LIMIT_SEC)
    assert "4 pictures lie there, too" in entry["outputs"]["save"]["text"][0]
    files = sorted(path.relative_to(server.input_folder / "new 套").as_posix() for path in (server.input_folder / "new 套").rglob("x*"))
    assert files == [f"1_{letter}/x{more}.{ending}" for letter in "ab" for more in ("-mirrored", "") for ending in ("png", "txt")]
    prompt = {"data": node(server, "AthanorLoadDataset", folder="new 套"), "text": node(server, "PreviewAny", source=["data", 1])}
    assert "4 with a caption" in server.run(prompt, LIMIT_SEC)["outputs"]["text"]["text"][0]


@pytest.mark.parametrize("folder", ["../out", "/elsewhere/out", ".", "a/../.."])
def test_no_other_place_is_written_to(server: ComfyUI, folder: str):
    prompt = graph(server, {"folder": folder, "write": True})
    only = {name: prompt[name] for name in ("data", "bucket", "save")}  # else the page's other outputs are drawn all the same
    with pytest.raises(ServerError, match="Nothing is saved to"):
        server.run(only, LIMIT_SEC)
    assert not (server.base / "out").exists() and not Path("/elsewhere/out").exists()


def test_pictures_of_the_graph_are_saved_to_a_new_folder(server: ComfyUI):
    prompt = {
        "image": node(server, "EmptyImage", width=32, height=32, batch_size=2, color=0xFF0000),
        "make": node(server, "AthanorImagesToDataset", images=["image", 0], captions=["words", 0], trigger="t"),
        "words": node(server, "PrimitiveStringMultiline", value="one\ntwo"),
        "save": node(server, "AthanorSaveCaptions", dataset=["make", 0], write=True, folder="from graph", pictures="whole"),
    }
    server.run(prompt, LIMIT_SEC)
    folder = server.input_folder / "from graph"
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.txt")} == {"00001.txt": "one", "00002.txt": "two"}
    assert len(list(folder.glob("*.png"))) == 2
    prompt["save"]["inputs"] |= {"folder": "", "pictures": "none"}
    with pytest.raises(ServerError, match="Give a new folder to save to"):
        server.run(prompt, LIMIT_SEC)
