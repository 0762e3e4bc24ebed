"""Folders that cannot be written, and a disk that is full: one clear sentence from the node, nothing half-written, and the next try works."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from comfyui_server import ComfyUI, failure
from graphs import node, run_of, training
from tiny import make_pictures

pytestmark = pytest.mark.comfy
FOLDER = "6_subject"
LIMIT_SEC = 300
TRACES = ("Traceback", "Errno", "Error:")


@pytest.fixture(scope="module")
def server(start_comfyui: Callable[..., ComfyUI]) -> ComfyUI:
    started = start_comfyui()
    make_pictures(started.input_folder / FOLDER)
    return started


def said_by(server: ComfyUI, prompt: dict) -> str:
    return failure(server.wait(server.queue(prompt), LIMIT_SEC)) or ""


def assert_one_clear_sentence(said: str, node_type: str, place: Path) -> None:
    assert said.startswith(f"{node_type} (node "), said
    assert str(place) in said, said
    assert not any(word in said for word in TRACES), said


def mounted(folder: Path, *options: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine lets nobody mount: {done.stderr.decode(errors='replace').strip()}")


needs_root = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux can mount a small or read-only disk")


@pytest.fixture
def read_only_output(server: ComfyUI) -> Iterator[Path]:
    folder = server.output_folder
    mounted(folder, "-t", "tmpfs", "-o", "ro", "tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_output(server: ComfyUI) -> Iterator[Path]:
    folder = server.output_folder
    mounted(folder, "-t", "tmpfs", "-o", "size=64k", "tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@needs_root
def test_a_read_only_output_folder_is_told(server: ComfyUI, read_only_output: Path):
    said = said_by(server, training(server, FOLDER, "locked", epochs=1))
    assert_one_clear_sentence(said, "AthanorTrainLora", read_only_output)
    assert "Read-only file system" in said
    assert not list(read_only_output.iterdir())


@needs_root
def test_a_full_disk_is_told_and_the_same_graph_goes_on_when_there_is_room(server: ComfyUI, small_output: Path):
    prompt = training(server, FOLDER, "crowded", epochs=1)
    said = said_by(server, prompt)
    assert_one_clear_sentence(said, "AthanorTrainLora", small_output)
    assert "No space left on device" in said or "is full" in said
    assert not run_of(server, "crowded").epochs()
    assert not [path for path in small_output.rglob("*") if path.name.endswith(".tmp")]
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_output)], check=True)
    server.run(prompt, LIMIT_SEC)
    assert run_of(server, "crowded").finished()


def test_a_file_in_place_of_the_folder_for_runs_is_told(start_comfyui: Callable[..., ComfyUI]):
    """What every system and every user can come across; permission bits do not bind root and mean little on Windows."""
    blocked = start_comfyui()
    make_pictures(blocked.input_folder / FOLDER)
    in_the_way = blocked.output_folder / "athanor"
    if in_the_way.is_dir():
        in_the_way.rmdir()
    in_the_way.write_text("not a folder", encoding="utf-8")
    said = said_by(blocked, training(blocked, FOLDER, "blocked", epochs=1))
    assert_one_clear_sentence(said, "AthanorTrainLora", in_the_way)
    assert in_the_way.read_text(encoding="utf-8") == "not a folder"
    blocked.stop()


def test_a_folder_for_loras_that_cannot_be_written_is_told_by_save_epoch(server: ComfyUI):
    prompt = training(server, FOLDER, "homeless", epochs=1)
    prompt["save"] = node(server, "AthanorSaveEpoch", run=["train", 0], epochs="last")
    loras = server.models_folder / "loras"
    if loras.is_dir():
        loras.rmdir()
    loras.write_text("not a folder", encoding="utf-8")
    try:
        assert_one_clear_sentence(said_by(server, prompt), "AthanorSaveEpoch", loras)
        assert loras.read_text(encoding="utf-8") == "not a folder"
    finally:
        loras.unlink()
    assert run_of(server, "homeless").finished(), "what was trained is there"
    server.run(prompt, LIMIT_SEC)
    assert (loras / "homeless.safetensors").is_file()
