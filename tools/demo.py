"""`python dev.py demo`: queues example_workflows/quickstart.json in a real ComfyUI and tells what came out.

Standard library only. What happened is read from the run directory, whose format is told in trainer/runs/run.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import workflow_api
from comfyui_server import REPOSITORY, ComfyUI, gpu_is_usable, server_environment

QUICKSTART = REPOSITORY / "example_workflows" / "quickstart.json"
GRID_NODE, LOSS_NODE = "AthanorXYPlotCompare", "AthanorPlotLoss"
LIMIT_SEC = 3600.0
_MARK = ".athanor-demo"
_SPARSE_SEC = 10.0
_MEASURE_MODULE = "miniature.measure_concept"


class DemoError(Exception):
    """The demo did not come to its end; the message is for the person at the terminal."""


def run(python: Path, comfyui: Path, work: Path, out: Path, say: Callable[[str], None]) -> None:
    """The whole demo. Leaves grid.png, loss.png, demo.json and ComfyUI's folders in `out`, and says where things lie.

    Raises DemoError or ServerError with a sentence for people.
    """
    if not QUICKSTART.is_file():
        raise DemoError(f"{QUICKSTART} is missing.")
    base = _clear(out)
    started = time.monotonic()
    say("Starting ComfyUI …")
    with ComfyUI(python, comfyui, work, base, cpu=not gpu_is_usable(python)) as server:
        try:
            prompt = workflow_api.to_api(json.loads(QUICKSTART.read_text(encoding="utf-8")), server.object_info())
        except workflow_api.WorkflowError as error:
            raise DemoError(f"{QUICKSTART.name}: {error}") from None
        say(f"Queueing {QUICKSTART.name} in {server.url} …")
        progress = Progress(server.output_folder / "athanor")
        try:
            entry = server.run(prompt, LIMIT_SEC, progress.show)
        finally:
            progress.close()
        seconds = time.monotonic() - started
        grid = _copy_picture(server, entry, prompt, GRID_NODE, out / "grid.png")
        loss_plot = _copy_picture(server, entry, prompt, LOSS_NODE, out / "loss.png")
    run_folder = _training_run(base / "output" / "athanor")
    result = _read_run(run_folder)
    say("Measuring how often the new concept shows, with the LoRA and without …")
    concept = _measure_concept(python, run_folder, out / "concept.json")
    report = {
        "seconds": round(seconds, 1),
        "worker_peak_mib": result.peak_mib,
        "validation_loss_base": result.validation.get(0),
        "epochs": [
            {"epoch": number, "file": str(run_folder / file), "sha256": sha256, "validation_loss": result.validation.get(number)}
            for number, (file, sha256) in sorted(result.saved.items())
        ],
        "grid": str(grid),
        "loss_plot": str(loss_plot),
        "concept_shown": concept,
    }
    (out / "demo.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _tell(report, out, say)


def _clear(out: Path) -> Path:
    """An empty folder for ComfyUI under `out`; only what an earlier demo left there is removed."""
    mark, base = out / _MARK, out / "comfyui"
    if out.exists() and not mark.exists() and any(out.iterdir()):
        raise DemoError(f"{out} has other files in it; give --out an empty or a new folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        mark.write_text("Made by `python dev.py demo`, which empties this folder when it starts again.\n", encoding="utf-8")
        if base.exists():
            shutil.rmtree(base)
        for name in ("grid.png", "loss.png", "demo.json", "concept.json"):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise DemoError(f"{out} cannot be written: {error.strerror}; choose another folder with --out.") from None
    return base


class Progress:
    """One line that tells where the runs under a folder are: rewritten on a terminal, else a line now and then."""

    def __init__(self, root: Path):
        self._root = root
        self._offsets: dict[Path, int] = {}
        self._totals: dict[Path, Mapping[str, Any]] = {}
        self._num_cells = 0
        self._line, self._printed = "", ""
        self._last_printed = 0.0
        self._started = time.monotonic()
        self._on_terminal = sys.stdout.isatty()

    def show(self) -> None:
        important = False
        for path in sorted(self._root.glob("**/events.jsonl")):
            important = self._read(path) or important
        line = self._line or "preparing the images"
        line = f"{time.monotonic() - self._started:5.0f} s  {line}"
        if self._on_terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write("\r" + line[:width].ljust(width))
        elif self._line != self._printed and (important or time.monotonic() - self._last_printed > _SPARSE_SEC):
            sys.stdout.write(line + "\n")
            self._last_printed, self._printed = time.monotonic(), self._line
        sys.stdout.flush()

    def close(self) -> None:
        self.show()
        if self._on_terminal:
            sys.stdout.write("\n")

    def _read(self, path: Path) -> bool:
        """Takes in the whole lines that came since; True if one of them is worth a line of its own."""
        important = False
        with path.open("rb") as file:
            file.seek(self._offsets.get(path, 0))
            for raw in file:
                if not raw.endswith(b"\n"):
                    break
                self._offsets[path] = self._offsets.get(path, 0) + len(raw)
                event = json.loads(raw)
                text = self._describe(path, event)
                if text:
                    self._line = text
                    important = important or event["event"] in ("saved", "done")
        return important

    def _describe(self, path: Path, event: Mapping[str, Any]) -> str:
        kind = event["event"]
        if kind == "start":
            self._totals[path] = event
            return "the worker has started"
        if kind == "phase":
            return f"{event['name']} {event['done']}/{event['total']}"
        if kind == "step":
            totals = self._totals.get(path, {})
            total = totals.get("total_steps") or event["step"]
            filled = 20 * event["step"] // max(total, 1)
            bar = "#" * filled + "-" * (20 - filled)
            return (
                f"training [{bar}] step {event['step']}/{total}, epoch {event['epoch']}/{totals.get('total_epochs', '?')}, loss {event['loss']:.4f}"
            )
        if kind == "validation":
            return f"held-out loss {'of the base' if event['epoch'] == 0 else 'after epoch ' + str(event['epoch'])}: {event['loss']:.4f}"
        if kind == "sample":
            return f"sample picture of epoch {event['epoch']}"
        if kind == "saved":
            return f"epoch {event['epoch']} saved: {Path(event['file']).name}"
        if kind == "cell":
            self._num_cells += 1
            return f"comparing: picture {self._num_cells}"
        if kind == "warning":
            return f"warning: {event['message']}"
        return ""


@dataclass
class _Result:
    peak_mib: float | None = None
    validation: dict[int, float] = field(default_factory=dict)
    saved: dict[int, tuple[str, str]] = field(default_factory=dict)


def _events(run_folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_folder / "events.jsonl").read_text(encoding="utf-8").splitlines() if line]


def _read_run(run_folder: Path) -> _Result:
    result = _Result()
    for event in _events(run_folder):
        if event["event"] == "validation":
            result.validation[event["epoch"]] = event["loss"]
        elif event["event"] == "saved" and event["epoch"] is not None:
            result.saved[event["epoch"]] = (event["file"], event["sha256"])
        elif event["event"] == "done":
            result.peak_mib = event["peak_mib"]
    return result


def _training_run(root: Path) -> Path:
    """The run directory of the LoRA under ComfyUI's output folder; the newest one if there are several."""
    found = []
    for job_file in root.glob("**/job.json"):
        if json.loads(job_file.read_text(encoding="utf-8")).get("kind") == "lora" and (job_file.parent / "events.jsonl").is_file():
            found.append(job_file.parent)
    if not found:
        raise DemoError(f"The workflow ended well, but there is no LoRA run in {root}.")
    return max(found, key=lambda folder: (folder / "job.json").stat().st_mtime)


def _copy_picture(server: ComfyUI, entry: Mapping[str, Any], prompt: Mapping[str, Any], node_type: str, destination: Path) -> Path:
    """The first picture that a node of this type shows itself, or through a preview or save node behind it."""
    shown_by = [node_id for node_id, node in prompt.items() if node["class_type"] == node_type]
    shown_by += [
        node_id
        for node_id, node in prompt.items()
        if any(isinstance(value, list) and value[0] in shown_by[: len(shown_by)] for value in node["inputs"].values()) and node_id not in shown_by
    ]
    for node_id in shown_by:
        for file in server.files(dict(entry), node_id):
            if file.is_file():
                shutil.copyfile(file, destination)
                return destination
    raise DemoError(f"The workflow ended well, but no {node_type} node of it left a picture.")


def _measure_concept(python: Path, run_folder: Path, file: Path) -> dict[str, float]:
    command = [str(python), "-m", _MEASURE_MODULE, "--run", str(run_folder), "--out", str(file)]
    measured = subprocess.run(
        command, cwd=REPOSITORY / "tools", capture_output=True, text=True, encoding="utf-8", errors="replace", env=server_environment(), check=False
    )
    if measured.returncode:
        raise DemoError("The measurement of the concept failed:\n" + "\n".join(measured.stderr.splitlines()[-10:]))
    shares = json.loads(file.read_text(encoding="utf-8"))
    return {"with_lora": shares["with_lora"], "without_lora": shares["without_lora"]}


def _tell(report: Mapping[str, Any], out: Path, say: Callable[[str], None]) -> None:
    concept = report["concept_shown"]
    say(f"\nDone in {report['seconds']:.0f} s; the worker took at most {report['worker_peak_mib']:.0f} MiB.")
    if report["validation_loss_base"] is not None:
        say(f"Held-out loss of the base without a LoRA: {report['validation_loss_base']:.4f}")
    say("LoRA of each epoch:")
    for epoch in report["epochs"]:
        loss = epoch["validation_loss"]
        say(f"  {epoch['file']}" + (f"  (held-out loss {loss:.4f})" if loss is not None else ""))
    say(f"Loss plot:  {report['loss_plot']}")
    say(f"XY grid:    {report['grid']}")
    say(f"The new concept shows in {concept['with_lora']:.0%} of the pictures with the LoRA, in {concept['without_lora']:.0%} without it.")
    say(f"All numbers: {out / 'demo.json'}")
