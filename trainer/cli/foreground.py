"""A training in the process of the command line: its steps and warnings are shown, and Ctrl+C saves it."""

from __future__ import annotations

import signal
import sys
import threading
import time

from ..control import Control
from ..processes import Processes
from ..runs.run import Run
from ..worker import work

_SHOW_EVERY_SEC = 2.0


def work_in_the_foreground(run: Run, processes: Processes) -> int:
    """The worker's exit code."""
    control, ended = Control(), threading.Event()

    def interrupted(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        sys.stdout.write("\nSaving … (Ctrl+C again ends at once)\n")
        control.stop()

    signal.signal(signal.SIGINT, interrupted)
    # What a cluster's queue and `kill` send before they lose patience.
    signal.signal(signal.SIGTERM, interrupted)
    watcher = threading.Thread(target=_show_progress, args=(run, ended, round(time.time(), 3)), daemon=True)
    watcher.start()
    try:
        return work(run, control, processes)
    finally:
        ended.set()
        watcher.join()


def follow(run: Run, processes: Processes) -> int:
    """The same in a process that does not lead, and in silence; the leader tells whether there is anything to do."""
    # Ctrl+C reaches the leader, who tells the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return work(run, Control(), processes) if not processes.any_of(False) else 0


def _show_progress(run: Run, ended: threading.Event, since: float) -> None:
    """Steps and warnings of this process: what an earlier one told before `since` is old."""
    shown, told = 0, set()
    over = False
    while not over:
        # Once more behind the end: the last warnings come with it.
        over = ended.wait(_SHOW_EVERY_SEC)
        events = [event for event in run.events() if event.get("time", 0) >= since]
        for message in (event["message"] for event in events if event["event"] == "warning"):
            if message not in told:
                told.add(message)
                sys.stdout.write(f"note: {message}\n")
        steps = [event for event in events if event["event"] == "step"]
        if steps and steps[-1]["step"] != shown:
            last, shown = steps[-1], steps[-1]["step"]
            sys.stdout.write(f"step {last['step']}, epoch {last['epoch']}, loss {last['loss']:.5f}, {last['seconds']:.2f} s a step\n")
        sys.stdout.flush()
