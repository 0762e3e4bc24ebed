"""The events of a run: written by the worker, one JSON object a line, appended only; read by all others while it goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import AthanorError

EVENTS_FILE = "events.jsonl"
_LASTING = ("saved", "state", "done")
"""Events that a power cut must not take back: what they tell of is on the disk already."""


class EventLog:
    """Writes events: `{"event": kind, "time": seconds since 1970, …}`, each flushed as one line.

    kinds: start(step, total_steps, steps_per_epoch, total_epochs, parts, family, pid, processes), phase(name, done, total),
    step(step, epoch, loss, rates, seconds, found where the optimizer finds the rate), epoch(epoch, step, loss), validation(epoch, step, loss; epoch 0 is the bare
    base), sample(epoch or null, step, file, prompt, seed), saved(epoch or null, step, file, sha256, words where embeddings were saved beside it: name to file), state(step), memory(step,
    ram_mib, gpu_mib or null; when it has grown), cell(step, file), score(step, epoch), caption(step, name),
    warning(message), error(message, code), done(step, stopped, peak_mib). Files are relative to the run.
    """

    def __init__(self, folder: Path):
        self._path = folder / EVENTS_FILE
        self._begin_line()

    def _begin_line(self) -> None:
        """A line that an earlier worker could not end must not swallow the next one."""
        if not self._path.is_file() or self._path.stat().st_size == 0:
            return
        try:
            with self._path.open("rb+") as file:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, kind: str, fields: Mapping[str, Any]) -> None:
        line = json.dumps({"event": kind, "time": round(time.time(), 3), **fields}, ensure_ascii=False)
        try:
            with self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(line + "\n")
                if kind in _LASTING:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> AthanorError:
        return AthanorError(f"Cannot write {self._path}: {error.strerror}. Free some space or choose a folder that can be written, then queue again.")


class NoEvents(EventLog):
    """Of a process that does not lead: one writes, the others keep silent."""

    def __init__(self) -> None:
        """Without a file."""

    def write(self, kind: str, fields: Mapping[str, Any]) -> None:
        return


def parse_events(text: str) -> Iterator[dict[str, Any]]:
    """The events of whole lines; a line cut short by a crash is passed over."""
    # Not splitlines, which also breaks at letters that may stand in a prompt, such as U+2028.
    for line in text.split("\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event


def settled(events: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """What remains true: a start at step s takes back everything that an earlier worker did after step s."""
    kept: list[dict[str, Any]] = []
    for event in events:
        if event["event"] == "start":
            kept = [earlier for earlier in kept if earlier.get("step", 0) <= event["step"] and earlier["event"] not in ("error", "done", "phase")]
        kept.append(event)
    return kept
