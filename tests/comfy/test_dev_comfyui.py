"""`dev.py comfyui --comfyui DIR`: a person's own checkout, with its own models, left as it was."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from comfyui_server import REPOSITORY, find_comfyui, free_port

pytestmark = pytest.mark.comfy
LIMIT_SEC = 300
# Without dev.py's first step, which would install into .venv.
START = "import sys, dev; sys.exit(dev.run_comfyui(dev.parse(sys.argv[1:])))"


def files_of(folder: Path) -> set[str]:
    caches = {"__pycache__", "user", "temp", "output"}
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and not caches & set(p.relative_to(folder).parts)}


def test_a_checkout_of_ones_own_runs_with_the_pack(tmp_path: Path):
    source = find_comfyui()
    if source is None:
        pytest.skip("no ComfyUI: `python dev.py test` fetches one, or let ATHANOR_COMFYUI name a checkout")
    own = tmp_path / "my 画 ComfyUI"
    shutil.copytree(source, own, ignore=shutil.ignore_patterns("__pycache__", "user", "output", "temp"))
    checkpoint = own / "models" / "checkpoints" / "mine.safetensors"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_bytes(b"")
    before, port = files_of(own), free_port()
    command = [sys.executable, "-c", START, "comfyui", "--port", str(port), "--comfyui", str(own), "--python", sys.executable]
    log = (tmp_path / "log.txt").open("w", encoding="utf-8")
    with log, subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUTF8": "1"}) as process:
        try:
            nodes = wait_for_nodes(port, process)
        finally:
            process.send_signal(signal.SIGINT if os.name != "nt" else signal.SIGTERM)
            process.wait(timeout=30)
    assert {"AthanorTrainLora", "AthanorLoadDataset"} <= {name for name, info in nodes.items() if info["python_module"] == "custom_nodes.athanor"}
    assert nodes["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] == ["mine.safetensors"]
    assert files_of(own) == before, "nothing is written into the person's checkout"


def wait_for_nodes(port: int, process: subprocess.Popen) -> dict:
    end = time.monotonic() + LIMIT_SEC
    while time.monotonic() < end:
        assert process.poll() is None, "it ended while starting"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/object_info", timeout=30) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError("ComfyUI did not answer")
