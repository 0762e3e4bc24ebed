"""How a worker ends, told by its exit code. No torch."""

from __future__ import annotations

from pathlib import Path

FINISHED = 0
"""Done, or stopped as asked."""
CRASHED = 1
"""See worker.log."""
REFUSED = 2
"""A problem that the `error` event tells."""
BUSY = 3
"""Another worker has the run. No event tells it: the run's events are the other one's."""


def busy_sentence(folder: Path) -> str:
    return f"Another worker is busy with {folder}; wait until it has ended, then queue again."
