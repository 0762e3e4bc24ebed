"""Which saved files of a run stay, so that a long run does not fill the disk."""

from __future__ import annotations

from .files_beside import files_beside
from .run import Run


def keep_last(run: Run, num_files: int) -> None:
    """Deletes all saved files but the last `num_files` and the one with the lowest held-out loss.

    A file that cannot be deleted, because a program on Windows has it open, stays.
    """
    saved = {
        run.folder / event["file"]: [run.folder / file for file in event.get("words", {}).values()]
        for event in run.events()
        if event["event"] == "saved"
    }
    there = [path for path in saved if path.is_file()]
    best = run.best_epoch()
    for path in there[:-num_files]:
        if best is None or best.validation_loss is None or path != best.path:
            for each in (path, *saved[path], *files_beside(path)):
                try:
                    each.unlink(missing_ok=True)
                except OSError:
                    continue
