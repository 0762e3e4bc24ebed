"""The worker process: does the job of one run directory and says in the directory how it ended."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from .config import CaptionJob, CompareJob, ScoreJob, TrainJob
from .control import Control
from .errors import AthanorError
from .processes import ALONE, PartedError, Processes, join_processes
from .runs.events import EventLog
from .runs.exits import BUSY, CRASHED, FINISHED, REFUSED, busy_sentence
from .runs.run import Run

LOCK_FILE = ".lock"
_LOCK_WAIT_SEC = 60.0


class _BusyError(Exception):
    """Another worker has the run."""


def main(arguments: Sequence[str]) -> int:
    """Returns one of the codes of runs/exits.py."""
    parser = argparse.ArgumentParser(prog="launch.py", description="Does the job of an Athanor run directory.")
    parser.add_argument("run", type=Path, help="the run directory, holding job.json")
    parser.add_argument("--attached", action="store_true", help="obey lines on stdin, and stop when it ends")
    options = parser.parse_args(arguments)
    control, run = Control(), Run(options.run.resolve())
    try:
        processes = join_processes()
    except AthanorError as error:
        return _fail(run, str(error), REFUSED)
    if options.attached and processes.leads:
        # All processes of a launcher inherit the same stdin: only one may read it.
        control.follow()
    try:
        return work(run, control, processes)
    finally:
        processes.leave()


def work(run: Run, control: Control, processes: Processes = ALONE) -> int:
    """Does the job, with all of `processes` together; every ending is an event."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.captureWarnings(True)
    # It asks for packages that only CPUs would profit from.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    where = "" if processes.leads else f"Process {processes.rank + 1} of {processes.count}: "
    try:
        if processes.leads:
            _locked(run, control, processes)
        else:
            _follow(run, control, processes)
    except PartedError as error:
        # Whoever ended first has told why, or the launcher does.
        sys.stderr.write(f"{where}another process of this training has ended. {error}\n")
        return CRASHED
    except _BusyError:
        sys.stderr.write(busy_sentence(run.folder) + "\n")
        return BUSY
    except AthanorError as error:
        return _fail(run, f"{where}{error}", REFUSED)
    except MemoryError as error:
        return _fail(run, f"{where}The memory of this computer is not enough ({error}). Lower the batch size or the resolution.", REFUSED)
    except Exception as error:
        if "out of memory" in str(error).lower():
            return _fail(
                run,
                f"{where}The GPU's memory is not enough: {str(error).splitlines()[0]} Lower the batch size, the resolution or the rank, or choose bf16.",
                REFUSED,
            )
        traceback.print_exc()
        return _fail(run, f"{where}{type(error).__name__}: {error}", CRASHED)
    return FINISHED


def _locked(run: Run, control: Control, processes: Processes) -> None:
    """Two workers never share a run: an earlier one that is still saving is waited for."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(run.folder / LOCK_FILE, timeout=_LOCK_WAIT_SEC):
            job = run.job()
            if isinstance(job, CompareJob):
                from .compare.draw import draw_cells

                draw_cells(run, control)
            elif isinstance(job, ScoreJob):
                from .scoring.work import measure_epochs

                measure_epochs(run, job, control)
            elif isinstance(job, CaptionJob):
                from .captioning.work import write_captions

                write_captions(run, job, control)
            else:
                from .loop import train

                processes.wait()
                train(run, control, processes)
    except Timeout:
        raise _BusyError from None
    except OSError as error:
        # Python names the file that cannot be opened, and none where a full disk takes no more.
        raise AthanorError(f"A file could not be read or written: {error.filename or run.folder}: {error.strerror or error}.") from error


def _follow(run: Run, control: Control, processes: Processes) -> None:
    """Trains along with the leader, who holds the lock; what is no training is done by the leader alone."""
    if isinstance(run.job(), TrainJob):
        from .loop import train

        processes.wait()
        train(run, control, processes)


def _fail(run: Run, message: str, exit_code: int) -> int:
    sys.stderr.write(message + "\n")
    try:
        EventLog(run.folder).write("error", {"message": message, "code": exit_code})
    except AthanorError as error:
        # The disk is full or read-only: the message in worker.log or the exit code must do.
        sys.stderr.write(f"{error}\n")
    return exit_code
