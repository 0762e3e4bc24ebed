"""Which files stay, told from the events alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from athanor.trainer.runs.events import EventLog
from athanor.trainer.runs.keeping import keep_last
from athanor.trainer.runs.run import Run


def saved(folder: Path, *points: tuple[int | None, int]) -> list[str]:
    """The files of these epochs (None in the middle of one) and steps, after each of which old ones are deleted."""
    log, run = EventLog(folder), Run(folder)
    (folder / "epochs").mkdir()
    for epoch, step in points:
        file = f"epochs/x-{epoch:06d}.safetensors" if epoch else f"epochs/x-step{step:08d}.safetensors"
        (folder / file).touch()
        log.write("saved", {"epoch": epoch, "step": step, "file": file, "sha256": ""})
        keep_last(run, 2, every_steps=4)
    return sorted(path.stem.removeprefix("x-") for path in (folder / "epochs").iterdir())


@pytest.mark.parametrize(
    ("points", "left"),
    [
        ([(1, 10), (2, 20), (3, 30)], ["000002", "000003"]),
        ([(None, 4), (None, 8), (1, 10), (None, 12)], ["000001", "step00000012"]),
        ([(1, 10), (2, 20), (None, 21), (3, 30)], ["000002", "000003", "step00000021"]),
        ([(1, 10), (None, 10), (2, 20), (None, 23)], ["000001", "000002", "step00000010", "step00000023"]),
        ([(1, 10), (None, 11), (2, 20), (3, 30)], ["000002", "000003"]),
        ([(None, 1), (None, 2), (None, 3)], ["step00000001", "step00000002", "step00000003"]),
    ],
)
def test_what_was_saved_by_plan_is_counted_and_what_a_stop_left_goes_with_its_neighbours(tmp_path, points, left):
    assert saved(tmp_path, *points) == left
