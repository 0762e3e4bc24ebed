"""What the host may say to a running worker: lines on stdin. The end of stdin means that the host is gone."""

from __future__ import annotations

import sys
import threading
from typing import TextIO

STOP, STOP_EPOCH, GO_ON, SAMPLE, SAVE = "stop", "stop-epoch", "go-on", "sample", "save"
COMMANDS = (STOP, STOP_EPOCH, GO_ON, SAMPLE, SAVE)


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Raised where a stop is asked for before the first step."""


class Control:
    """What is wished of a training; it obeys between two steps, and none of it changes what is trained next.

    `stop`: save and end well after this step; so does the end of the stream. `stop-epoch`: after this epoch; `go-on` takes
    that back. `sample`: draw the sample pictures now. `save`: save the file and the state now. Other lines are passed over.
    """

    def __init__(self) -> None:
        self._stop, self._stop_epoch = threading.Event(), threading.Event()
        self._wishes = {SAMPLE: threading.Event(), SAVE: threading.Event()}

    @property
    def stop_requested(self) -> bool:
        return self._stop.is_set()

    @property
    def stop_after_epoch(self) -> bool:
        return self._stop_epoch.is_set()

    def stop(self) -> None:
        self._stop.set()

    def take_wish(self, command: str) -> bool:
        """Whether `sample` or `save` was asked for since the last look."""
        wish = self._wishes[command]
        asked = wish.is_set()
        wish.clear()
        return asked

    def raise_if_stopped(self) -> None:
        if self.stop_requested:
            raise Stopped

    def obey(self, command: str) -> None:
        if command == STOP:
            self._stop.set()
        elif command == STOP_EPOCH:
            self._stop_epoch.set()
        elif command == GO_ON:
            self._stop_epoch.clear()
        elif command in self._wishes:
            self._wishes[command].set()

    def follow(self, stream: TextIO | None = None) -> None:
        """Listens in a daemon thread."""
        threading.Thread(target=self._listen, args=(stream or sys.stdin,), daemon=True).start()

    def _listen(self, stream: TextIO) -> None:
        for line in stream:
            self.obey(line.strip())
        self.stop()
