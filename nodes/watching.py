"""Runs as the live panel of the train nodes watches them, found by their names and never by a path."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from ..trainer.config import TrainJob
from ..trainer.errors import AthanorError
from ..trainer.files import safe_name
from ..trainer.runs.events import EVENTS_FILE
from ..trainer.runs.history import History
from ..trainer.runs.run import JOB_FILE, Run
from . import host
from .worker import EventTail, asked_stop, is_running

RUN_EVENT = "athanor.run"
"""What a train node tells every page when it begins: `node`, `name` (the node's own) and `run` (the folder's)."""
_MAX_WATCHED = 20
_QUIET_SEC = 90.0
"""A run without a worker here that has written nothing for so long, and not its end either, is taken for ended."""


def announce(node_id: str | None, name: str, run: Run) -> None:
    """`name`: what the node's widget says; the run's may have a number, or a varied setting, behind it."""
    if node_id is not None:
        _RUNS_OF_NODES[node_id] = (name.strip(), run.name)
        host.tell_pages(RUN_EVENT, {"node": node_id, "name": name, "run": run.name})


def find_folder(name: str) -> Path:
    """The folder of the run of that name. Raises KeyError if there is none: a name is one folder of the output folder, links followed."""
    root = host.runs_root().resolve()
    if not name or name.startswith(".") or re.search(r'[\x00-\x1f/\\:*?"<>|]', name):
        raise KeyError(name)
    folder = (root / name).resolve()
    if folder.parent != root or not (folder / JOB_FILE).is_file():
        raise KeyError(name)
    return folder


def run_of_node(node_id: str, name: str, known: str) -> str | None:
    """The run that a node shows: the one that it trains now, else the `known` one that the page remembers, else the newest of its name."""
    named, remembered = _RUNS_OF_NODES.get(node_id, ("", ""))
    if remembered and (not name or name.strip() == named) and _exists(remembered) and is_running(find_folder(remembered)):
        return remembered
    if known and _exists(known):
        return known
    found = [run for run in host.run_names() if name and _is_of(run, name)]
    found.sort(key=_last_written, reverse=True)
    return next((run for run in found if _exists(run) and _is_training(run)), None)


def _is_of(run: str, name: str) -> bool:
    """Whether a node with that name may have made the run: its folder is the name, perhaps with a number behind it."""
    try:
        base = safe_name(name)
    except AthanorError:
        return False
    return run == base or (run.startswith(f"{base}-") and run[len(base) + 1 :].isdecimal())


def _exists(run: str) -> bool:
    try:
        find_folder(run)
    except (KeyError, OSError, ValueError):
        return False
    return True


def _is_training(run: str) -> bool:
    try:
        return isinstance(Run(find_folder(run)).job(), TrainJob)
    except AthanorError:
        return False


def _last_written(run: str) -> float:
    try:
        return (host.runs_root() / run / EVENTS_FILE).stat().st_mtime
    except OSError:
        return 0.0


class _Watched:
    """A run that a page looks at: its events are read on, not read again."""

    def __init__(self, folder: Path):
        self._folder, self._lock = folder, threading.Lock()
        self._begin()
        self._samples_wanted = bool(Run(folder).train_job().samples.lines)

    def _begin(self) -> None:
        self._tail, self._history = EventTail(self._folder / EVENTS_FILE), History(time.time_ns() // 1000)

    def _read_on(self) -> None:
        if self._tail.has_shrunk():
            self._begin()
        self._history.follow(self._tail.read())

    def told(self, cursor: str) -> dict[str, Any]:
        with self._lock:
            self._read_on()
            here = is_running(self._folder)
            elsewhere = not here and not self._history.has_ended and time.time() - self._history.last_time < _QUIET_SEC
            control = {"here": here, "stop": asked_stop(self._folder), "samples": self._samples_wanted}
            return {"run": self._folder.name, "running": here or elsewhere, "control": control, **self._history.told(cursor)}

    def sample_file(self, number: int) -> Path:
        """Raises IndexError for a number that no picture has, KeyError for a file outside the run's own samples."""
        with self._lock:
            self._read_on()
            files = self._history.sample_files
        path = (self._folder / files[number]).resolve()
        if path.parent != self._folder / "samples" or path.suffix != ".png":
            raise KeyError(files[number])
        return path


_WATCHED: OrderedDict[Path, _Watched] = OrderedDict()
_WATCHED_LOCK = threading.Lock()
_RUNS_OF_NODES: dict[str, tuple[str, str]] = {}
"""By the node's execution id: the name in its widget, and the run that it trained last."""


def watched(name: str) -> _Watched:
    """Raises KeyError if there is no run of that name, AthanorError if it is no training."""
    folder = find_folder(name)
    with _WATCHED_LOCK:
        found = _WATCHED.get(folder)
        if found is None:
            found = _WATCHED[folder] = _Watched(folder)
        _WATCHED.move_to_end(folder)
        while len(_WATCHED) > _MAX_WATCHED:
            _WATCHED.popitem(last=False)
    return found
