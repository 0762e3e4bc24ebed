"""What the host may say to a running worker: lines on stdin. The end of stdin means that the host is gone."""

from __future__ import annotations

import sys
import threading
from typing import TextIO


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Raised where a stop is asked for before the first step."""


class Control:
    """`stop_requested` turns true once a line says `stop` or the stream ends; the loop then saves and ends well."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    @property
    def stop_requested(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()

    def raise_if_stopped(self) -> None:
        if self.stop_requested:
            raise Stopped

    def follow(self, stream: TextIO | None = None) -> None:
        """Listens in a daemon thread."""
        threading.Thread(target=self._listen, args=(stream or sys.stdin,), daemon=True).start()

    def _listen(self, stream: TextIO) -> None:
        for line in stream:
            if line.strip() == "stop":
                self.stop()
        self.stop()
