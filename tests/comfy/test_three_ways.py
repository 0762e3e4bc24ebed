"""One job through the node, the command line and `accelerate launch`: the same files; and what the server alone decides of a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from comfyui_server import ComfyUI, ServerError
from graphs import Prompt, node, run_of, training
from safetensors.torch import load_file
from tiny import make_pictures

import athanor
from athanor.trainer.runs.run import Run

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
FOLDER = "three ways"
LIMIT_SEC = 600
LAUNCH = Path(athanor.__file__).parent / "trainer" / "launch.py"
ACCELERATE = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
SECRET = "athanor-test-secret"


def graph(server: ComfyUI, name: str) -> Prompt:
    make_pictures(server.input_folder / FOLDER)
    prompt = training(server, FOLDER, name, epochs=3, batch_size=1, save_precision="fp32")
    prompt["optimizer"] = node(server, "AthanorOptimizerSettings", accumulation=2, ema_decay=0.9)
    prompt["captions"] = node(server, "AthanorCaptionSettings", shuffle=True, dropout=0.2, settings=["optimizer", 0])
    prompt["train"]["inputs"]["settings"] = ["captions", 0]
    return prompt


def copied(run: Run, root: Path) -> Run:
    folder = root / run.folder.name
    folder.mkdir(parents=True)
    (folder / "job.json").write_bytes((run.folder / "job.json").read_bytes())
    return Run(folder)


def ended(run: Run, command: list[str]) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=LIMIT_SEC, check=False, env=environment)
    assert done.returncode == 0 and run.finished(), done.stdout + done.stderr


def furthest(one: Run, other: Run) -> float:
    pairs = [(load_file(a.path), load_file(b.path)) for a, b in zip(one.epochs(), other.epochs(), strict=True)]
    return max(float((a[key] - b[key]).abs().max()) for a, b in pairs for key in a)


def tensors_of(run: Run) -> list[dict[str, Any]]:
    return [{key: tensor.tolist() for key, tensor in load_file(epoch.path).items()} for epoch in run.epochs()]


def test_the_node_the_command_line_and_accelerate_train_the_same(comfyui, tmp_path):
    comfyui.run(graph(comfyui, "three ways"), LIMIT_SEC)
    by_node = run_of(comfyui, "three ways")
    assert len(by_node.epochs()) == 3
    by_line, by_two = copied(by_node, tmp_path / "line"), copied(by_node, tmp_path / "two")
    ended(by_line, ["-m", "athanor.trainer.cli", "train", str(by_line.folder)])
    ended(by_two, ["-m", "accelerate.commands.launch", *ACCELERATE, "-m", "athanor.trainer.cli", "train", str(by_two.folder)])
    assert tensors_of(by_line) == tensors_of(by_node) and by_line.losses() == by_node.losses()
    assert furthest(by_two, by_node) < 1e-5


def test_the_server_s_owner_lets_the_node_train_with_two_processes_and_keeps_secrets(start_comfyui: Callable[..., ComfyUI], monkeypatch):
    monkeypatch.setenv("ATHANOR_ACCELERATE", " ".join(ACCELERATE))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    server = start_comfyui()
    server.run(graph(server, "launched"), LIMIT_SEC)
    run = run_of(server, "launched")
    start = next(event for event in run.events() if event["event"] == "start")
    assert run.finished() and start["processes"] == 2 and len(run.epochs()) == 3
    # A job that leaves nothing to share: the sentence of the leader, not the launcher's own.
    prompt = training(server, FOLDER, "alone", epochs=1)
    with pytest.raises(ServerError, match="2 processes train together and share the batches of each step"):
        server.run(prompt, LIMIT_SEC)
    # Stopped in the middle all processes end, and the same graph goes on.
    long = graph(server, "long")
    long["train"]["inputs"] |= {"epochs": 200, "save_every_epochs": 100}
    prompt_id = server.queue(long)
    run = run_of(server, "long")
    while len(run.losses()) < 4:
        assert server.history(prompt_id) is None
        time.sleep(0.1)
    leader = psutil.Process(next(event["pid"] for event in run.events() if event["event"] == "start"))
    together = [leader, *leader.parent().children()]
    assert len({process.pid for process in together}) == 2
    assert all(SECRET not in process.environ().values() for process in together)
    server.interrupt()
    server.wait(prompt_id, LIMIT_SEC)
    done = run.events()[-1]
    assert done["event"] == "done" and done["stopped"]
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in together)


def test_neither_a_graph_nor_a_route_names_a_program(comfyui):
    """No input of any node is about interpreters or launchers; both come from the server's environment."""
    for name, info in comfyui.get("/object_info").items():
        if name.startswith("Athanor"):
            text = json.dumps(info["input"]).lower()
            assert not any(word in text for word in ("athanor_python", "athanor_accelerate", "interpreter", "launcher", "num_processes")), name
