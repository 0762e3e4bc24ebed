"""Which saved files of a run stay, so that a long run does not fill the disk."""

from __future__ import annotations

from .files_beside import files_beside
from .run import Run


def keep_last(run: Run, num_files: int, every_steps: int = 0) -> None:
    """Deletes all saved files but the last `num_files` and the one with the lowest held-out loss.

    Files of a stop or of a wish are not among those that are counted, so that a run with a break keeps the same epochs as one
    without; they go when they are older than what stays. `every_steps`: files between the epochs that were saved by plan.
    A file that cannot be deleted, because a program on Windows has it open, stays.
    """
    saved = {run.folder / event["file"]: event for event in run.events() if event["event"] == "saved"}
    there = {path: event["step"] for path, event in saved.items() if path.is_file()}
    planned = [step for path, step in there.items() if saved[path]["epoch"] is not None or (every_steps and step % every_steps == 0)]
    oldest = min(planned[-num_files:], default=0)
    best = run.best_epoch()
    for path in [path for path, step in there.items() if step < oldest]:
        if best is None or best.validation_loss is None or path != best.path:
            words = [run.folder / file for file in saved[path].get("words", {}).values()]
            for each in (path, *words, *files_beside(path)):
                try:
                    each.unlink(missing_ok=True)
                except OSError:
                    continue
