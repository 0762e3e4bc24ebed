"""Runs the scripts of this folder that need ComfyUI's own modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from comfyui_server import find_comfyui

LIMIT_SEC = 1800


def run_side(script: str, *arguments: object, complaints: bool = True) -> str:
    """What the script prints. Fails where ComfyUI says that a part of a file did not fit, unless `complaints` are no failure."""
    comfyui = find_comfyui()
    assert comfyui is not None
    command = [sys.executable, str(Path(__file__).parent / script), *map(str, arguments)]
    done = subprocess.run(command, cwd=comfyui, capture_output=True, text=True, encoding="utf-8", timeout=LIMIT_SEC, check=False)
    # A process that was ended for want of memory says nothing itself.
    assert done.returncode == 0, f"{script} ended with {done.returncode}: {done.stderr}"
    for complaint in (
        ()
        if not complaints
        else ("lora key not loaded", "ERROR ", "NOT LOADED", "unet missing", "unet unexpected", "clip missing", "clip unexpected")
    ):
        assert complaint not in done.stderr, done.stderr
    return done.stdout
