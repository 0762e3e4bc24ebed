"""Killed, cancelled, orphaned in the middle of the work: the same graph, queued again, goes on and ends with the same bits."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from comfyui_server import REPOSITORY, ComfyUI, failure
from graphs import Prompt, node, run_of, training
from PIL import Image
from tiny import make_pictures

from athanor.trainer.runs.events import parse_events
from athanor.trainer.runs.run import Run, open_run

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
FOLDER = "many 图片"
LIMIT_SEC = 900
ORPHAN_LIMIT_SEC = 60
EPOCHS, EVERY = 120, 15


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    make_pictures(comfyui.input_folder / FOLDER)
    return comfyui


def long_training(server: ComfyUI, name: str) -> Prompt:
    return training(server, FOLDER, name, epochs=EPOCHS, save_every_epochs=EVERY, seed=5)


def undisturbed(run: Run, root: Path) -> list[str]:
    """The sha256 of each epoch of the same job when nobody disturbs it."""
    other = open_run(root, run.train_job())
    with (other.folder / "worker.log").open("w", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "trainer" / "launch.py"), str(other.folder)], stdout=log, stderr=log, timeout=LIMIT_SEC, check=False
        )
    assert done.returncode == 0, other.log_tail()
    assert other.folder.name == run.folder.name and len(other.epochs()) == EPOCHS // EVERY
    return [epoch.sha256 for epoch in other.epochs()]


def all_events(run: Run) -> list[dict]:
    """The whole file, also what a later start has taken back."""
    path = run.folder / "events.jsonl"
    return list(parse_events(path.read_text(encoding="utf-8"))) if path.exists() else []


def wait_until(server: ComfyUI, prompt_id: str, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_SEC
    while not happened():
        ended = server.history(prompt_id)
        assert ended is None, f"it was over too soon: {failure(ended) or 'finished'}"
        assert time.monotonic() < end, server.log_tail()
        time.sleep(0.02)


def in_the_middle(run: Run) -> Callable[[], bool]:
    """True once an epoch was saved and some steps of the next were done."""

    def happened() -> bool:
        events = [event["event"] for event in all_events(run)]
        return "saved" in events and "step" in events[len(events) - events[::-1].index("state") :] if "state" in events else False

    return happened


def worker_of(run: Run) -> psutil.Process:
    return psutil.Process([event["pid"] for event in all_events(run) if event["event"] == "start"][-1])


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_finished_like_undisturbed(run: Run, root: Path) -> None:
    assert run.finished()
    starts = [event["step"] for event in all_events(run) if event["event"] == "start"]
    assert len(starts) == 2 and starts[0] == 0 and starts[1] > 0, "it continued"
    assert [epoch.sha256 for epoch in run.epochs()] == undisturbed(run, root)
    assert len(run.losses()) == run.epochs()[-1].step
    assert not [path for path in run.folder.rglob("*") if path.name.endswith(".tmp")]


def test_a_killed_worker_is_told_and_continued_to_the_bit(server: ComfyUI, tmp_path: Path):
    prompt, run = long_training(server, "killed"), run_of(server, "killed")
    prompt_id = server.queue(prompt)
    wait_until(server, prompt_id, in_the_middle(run))
    with (run.folder / "worker.log").open("a", encoding="utf-8") as log:
        log.write("the last words of the worker\n")
    worker_of(run).kill()
    said = failure(server.wait(prompt_id, LIMIT_SEC)) or ""
    assert said.startswith("AthanorTrainLora (node train) failed: ")
    if sys.platform != "win32":
        assert "was ended by signal 9" in said
    assert "Queue again to continue" in said
    assert said.endswith("the last words of the worker") and str(run.folder / "worker.log") in said
    server.run(prompt, LIMIT_SEC)
    assert_finished_like_undisturbed(run, tmp_path)


def test_cancel_saves_everything_and_the_same_graph_goes_on_to_the_bit(server: ComfyUI, tmp_path: Path):
    prompt, run = long_training(server, "cancelled"), run_of(server, "cancelled")
    prompt_id = server.queue(prompt)
    wait_until(server, prompt_id, in_the_middle(run))
    worker = worker_of(run)
    server.interrupt()
    entry = server.wait(prompt_id, LIMIT_SEC)
    assert failure(entry) == "interrupted at AthanorTrainLora (node train)"
    assert not is_alive(worker)
    assert_stopped_and_saved(run)
    server.run(prompt, LIMIT_SEC)
    assert_finished_like_undisturbed(run, tmp_path)


def assert_stopped_and_saved(run: Run) -> None:
    *_, state, saved, done = all_events(run)
    assert done["event"] == "done" and done["stopped"]
    assert 0 < done["step"] < next(event["total_steps"] for event in all_events(run) if event["event"] == "start")
    assert state["event"] == "state" and state["step"] == done["step"] == len(run.losses())
    assert saved["event"] == "saved" and saved["epoch"] is None
    assert (run.folder / saved["file"]).name == f"{run.name}-step{done['step']:08d}.safetensors" and (run.folder / saved["file"]).is_file()
    assert not run.finished()


def test_a_worker_whose_comfyui_was_killed_saves_and_ends(start_comfyui: Callable[..., ComfyUI], tmp_path: Path):
    server = start_comfyui()
    make_pictures(server.input_folder / FOLDER)
    prompt, run = long_training(server, "orphan"), run_of(server, "orphan")
    wait_until(server, server.queue(prompt), in_the_middle(run))
    worker = worker_of(run)
    server.kill()
    end = time.monotonic() + ORPHAN_LIMIT_SEC
    while is_alive(worker):
        assert time.monotonic() < end, run.log_tail()
        time.sleep(0.1)
    assert_stopped_and_saved(run)
    restarted = start_comfyui(server.base)
    restarted.run(prompt, LIMIT_SEC)
    assert_finished_like_undisturbed(run, tmp_path)
    restarted.stop()


def test_cancel_in_a_comparison_keeps_what_is_drawn(server: ComfyUI):
    prompt, run = training(server, FOLDER, "compared", epochs=1), run_of(server, "compared")
    server.run(prompt, LIMIT_SEC)
    look = {"prompts": "subject 1", "y_values": "last", "x_values": "0.1-2 [20]", "steps": 50}
    prompt["xy"] = node(server, "AthanorXYPlotCompare", run=["train", 0], base_model=["base", 0], **look)
    prompt_id = server.queue(prompt)
    wait_until(server, prompt_id, lambda: len(drawn_cells(run)) >= 3)
    server.interrupt()
    assert failure(server.wait(prompt_id, LIMIT_SEC)) == "interrupted at AthanorXYPlotCompare (node xy)"
    kept = drawn_cells(run)
    assert 3 <= len(kept) < 21
    (sheet,) = (run.folder / "compare").iterdir()
    with Image.open(sheet / "grid-01.png") as image:
        partial, size = image.convert("RGB"), image.size

    entry = server.run(prompt, LIMIT_SEC)
    finished = drawn_cells(run)
    assert len(finished) == 21
    assert {name: finished[name] for name in kept} == kept, "no cell was drawn twice"
    drawn = [event["file"] for event in all_events(Run(sheet)) if event["event"] == "cell"]
    assert len(drawn) == len(set(drawn)) == 21
    (grid,) = server.files(entry, "xy")
    with Image.open(grid) as image:
        assert image.size == size and image.convert("RGB").tobytes() != partial.tobytes()


def drawn_cells(run: Run) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in run.folder.glob("compare/*/cells/e*.png")}
