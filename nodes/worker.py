"""Starts the worker on a run directory, follows its events, and ends it well: Cancel loses nothing."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from ..tagger.session import forget_kept
from ..trainer.compare.pace import SAME_BATCH_SEC, progress_text
from ..trainer.config import TrainJob
from ..trainer.control import COMMANDS, GO_ON, STOP, STOP_EPOCH
from ..trainer.environment import worker_environment
from ..trainer.errors import AthanorError
from ..trainer.runs.events import EVENTS_FILE, parse_events
from ..trainer.runs.exits import BUSY, REFUSED, busy_sentence
from ..trainer.runs.run import LOG_FILE, Run
from . import host

_LIBRARIES = ("diffusers", "peft", "accelerate", "transformers", "safetensors")
CAPTION_LIBRARIES = ("transformers", "tokenizers", "safetensors")
_POLL_SEC = 0.1
_STOP_WAIT_SEC = 120.0
_LOW_DISK_BYTES = 1 << 20
_RUNNING: dict[Path, _Running] = {}
"""By run folder, links resolved: the workers of this process that are at work."""
_RUNNING_LOCK = threading.Lock()


def run_worker(run: Run, node_id: str | None, libraries: tuple[str, ...] = _LIBRARIES) -> None:
    """Does the job of `run`, which needs `libraries`, in a process of its own and returns when it is done.

    Raises `host.Interrupted` after Cancel, or a stop by `send_command`, with everything saved, and AthanorError when the
    worker could not finish.
    """
    check_libraries(libraries)
    host.free_memory()
    forget_kept()
    progress = host.Progress(node_id)
    events = EventTail(run.folder / EVENTS_FILE, from_end=True)
    process = _start(run)
    display = _Display(run, progress, node_id)
    try:
        with _listed(run, process) as running:
            while process.poll() is None:
                display.show(events.read())
                time.sleep(_POLL_SEC)
        display.show(events.read())
    except host.Interrupted:
        _stop(process)
        raise
    except BaseException:
        _kill(process)
        raise
    finally:
        _close_stdin(process)
    if process.returncode == BUSY:
        raise AthanorError(busy_sentence(run.folder))
    if process.returncode != 0:
        raise AthanorError(_failure(run, display.error_code or process.returncode, display.error))
    if running.stop and display.was_stopped:
        # As after Cancel: nothing half-trained goes down the wires, and the same graph, queued again, goes on.
        raise host.Interrupted


class _Running:
    """A worker that is at work."""

    def __init__(self, process: subprocess.Popen[str]):
        self._process = process
        self.stop: str | None = None
        """Which stop it was told last, and has not been told to forget."""

    def send(self, command: str) -> None:
        """Raises OSError if it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        if command in (STOP, STOP_EPOCH):
            self.stop = self.stop if self.stop == STOP else command
        elif command == GO_ON and self.stop == STOP_EPOCH:
            self.stop = None


@contextmanager
def _listed(run: Run, process: subprocess.Popen[str]) -> Iterator[_Running]:
    folder, running = run.folder.resolve(), _Running(process)
    with _RUNNING_LOCK:
        _RUNNING[folder] = running
    try:
        yield running
    finally:
        with _RUNNING_LOCK:
            _RUNNING.pop(folder, None)


def send_command(folder: Path, command: str) -> None:
    """Tells one of `control.COMMANDS` to the worker of the run `folder`. Raises AthanorError if none is at work, or for other words."""
    if command not in COMMANDS:
        raise AthanorError(f"The command is {command!r}; choose one of {', '.join(COMMANDS)}.")
    with _RUNNING_LOCK:
        running = _RUNNING.get(folder.resolve())
        try:
            if running is not None:
                running.send(command)
                return
        except (OSError, ValueError):
            pass  # It has ended in the meantime.
    raise AthanorError(f"{folder.name} is not being trained by this ComfyUI now.")


def is_running(folder: Path) -> bool:
    with _RUNNING_LOCK:
        return folder.resolve() in _RUNNING


def asked_stop(folder: Path) -> str | None:
    """The stop that the worker of `folder` is about to obey: "stop", "stop-epoch" or None."""
    with _RUNNING_LOCK:
        running = _RUNNING.get(folder.resolve())
        return running.stop if running else None


def check_libraries(libraries: tuple[str, ...] = _LIBRARIES) -> None:
    """Raises AthanorError, with the command that helps, if a library that the worker needs is not installed."""
    missing = [name for name in libraries if importlib.util.find_spec(name) is None] if _interpreter() == sys.executable else []
    if missing:
        requirements = host.PACK / "requirements.txt"
        raise AthanorError(
            f'{"Training" if libraries == _LIBRARIES else "Captioning"} needs {", ".join(missing)}, which {sys.executable} lacks. Install with: "{sys.executable}" -m pip install -r "{requirements}"'
        )


def _interpreter() -> str:
    """ATHANOR_PYTHON lets the worker run in another environment than ComfyUI's."""
    return os.environ.get("ATHANOR_PYTHON") or sys.executable


def _launcher(run: Run) -> list[str]:
    """ATHANOR_ACCELERATE, the options of `accelerate launch`, lets several GPUs or machines train together; comparisons and captions need one.

    As the interpreter, it is the server's owner who sets it: no graph and no route can.
    """
    options = os.environ.get("ATHANOR_ACCELERATE", "").strip()
    if not options or not isinstance(run.job(), TrainJob):
        return [_interpreter()]
    return [_interpreter(), "-m", "accelerate.commands.launch", *shlex.split(options, posix=sys.platform != "win32")]


def _start(run: Run) -> subprocess.Popen[str]:
    flags = subprocess.CREATE_NO_WINDOW if sys.platform == "win32" else 0
    try:
        with (run.folder / LOG_FILE).open("a", encoding="utf-8") as log:
            return subprocess.Popen(
                [*_launcher(run), str(host.PACK / "trainer" / "launch.py"), str(run.folder), "--attached"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=worker_environment(os.environ),
                creationflags=flags,
                text=True,
                encoding="utf-8",
            )
    except OSError as error:
        raise AthanorError(f"The training process cannot be started in {run.folder}: {error.strerror}.") from error


def _stop(process: subprocess.Popen[str]) -> None:
    """Asks the worker to finish its step and save; a second Cancel, or no answer in time, kills it."""
    try:
        assert process.stdin is not None
        process.stdin.write("stop\n")
        process.stdin.flush()
    except OSError:
        pass  # It has ended by itself in the meantime.
    deadline = time.monotonic() + _STOP_WAIT_SEC
    while process.poll() is None:
        if host.is_interrupted() or time.monotonic() > deadline:
            _kill(process)
        time.sleep(_POLL_SEC)


def _kill(process: subprocess.Popen[str]) -> None:
    """With all that it has started: the end of a launcher would leave its workers."""
    try:
        started = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        started = []
    process.kill()
    for each in started:
        with suppress(psutil.Error):
            each.kill()
    process.wait()


def _close_stdin(process: subprocess.Popen[str]) -> None:
    try:
        if process.stdin is not None:
            process.stdin.close()
    except OSError:
        pass  # The pipe broke with the worker.


def _failure(run: Run, exit_code: int, message: str | None) -> str:
    """The worker's own sentence; for a crash, also the end of its log."""
    if message is None and shutil.disk_usage(run.folder).free < _LOW_DISK_BYTES:
        return f"The disk that holds {run.folder} is full, so the training could not go on. Free some space, then queue again: it continues from its last saved state."
    if exit_code == REFUSED and message is not None:
        return message
    how = f"was ended by signal {-exit_code}" if exit_code < 0 else f"ended with code {exit_code}"
    head = message or f"The training process {how} without a word. Queue again to continue from the last saved state."
    tail = run.log_tail()
    return f"{head}\n\nThe end of {run.folder / LOG_FILE}:\n{tail}" if tail else head


class EventTail:
    """Whole new lines of the event file since the last look; the first look is from the file's start, or from where it ends now."""

    def __init__(self, path: Path, *, from_end: bool = False):
        self._path = path
        self._offset = path.stat().st_size if from_end and path.exists() else 0
        self._partial = b""

    def has_shrunk(self) -> bool:
        """Whether the file is another one than the one read so far: shorter, or gone."""
        try:
            return self._path.stat().st_size < self._offset
        except FileNotFoundError:
            return self._offset > 0

    def read(self) -> Iterator[dict[str, Any]]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return iter(())
        self._offset += len(data)
        whole, newline, self._partial = (self._partial + data).rpartition(b"\n")
        return parse_events((whole + newline).decode("utf-8", errors="replace"))


class _Display:
    """Events as progress and previews on the node."""

    def __init__(self, run: Run, progress: host.Progress, node_id: str | None):
        self._run, self._progress, self._node_id = run, progress, node_id
        self._cells: list[float] = []
        """When each picture of a comparison was there."""
        self._value, self._total = 0, 1
        self.error: str | None = None
        self.error_code: int | None = None
        """What the worker ended with: a launcher ends with a code of its own."""
        self.was_stopped = False

    def show(self, events: Iterator[dict[str, Any]]) -> None:
        picture: Path | None = None
        for event in events:
            kind = event["event"]
            if kind == "error":
                self.error, self.error_code = event["message"], event.get("code")
            elif kind == "done":
                self.was_stopped = bool(event["stopped"])
            elif kind == "start":
                self._value, self._total = event["step"], event["total_steps"]
            elif kind in ("step", "cell", "score", "caption"):
                self._value = event["step"]
            elif kind == "phase":
                self._value, self._total = event["done"], event["total"]
            if kind == "sample":
                picture = self._run.folder / event["file"]
            if kind == "cell":
                self._cells.append(event["time"])
                passed_sec = self._cells[-1] - self._cells[0]
                num_timed = sum(time_sec > self._cells[0] + SAME_BATCH_SEC for time_sec in self._cells)
                host.say(self._node_id, progress_text(self._value, self._total, num_timed, passed_sec))
        self._progress.show(self._value, self._total, _opened(picture))


def _opened(path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError:
        return None
