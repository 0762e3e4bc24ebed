"""The epoch that a person chose, marked in its run."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from ..config import from_json
from ..errors import AthanorError
from ..files import replace_atomically
from .run import Epoch, Run

CHOICE_FILE = "choice.json"


@dataclass(frozen=True)
class Choice:
    epoch: int
    sha256: str
    """Of its file: a run that was trained anew under the same name has other epochs."""
    time: float
    """Seconds since 1970."""


def choose_epoch(run: Run, number: int) -> Epoch:
    """Marks the epoch in its run. Raises AthanorError if it was not saved."""
    epochs = {epoch.number: epoch for epoch in run.epochs()}
    if number not in epochs:
        saved = ", ".join(map(str, epochs)) or "none"
        raise AthanorError(f"Epoch {number} of {run.name} is not there any more; saved are {saved}.")
    text = json.dumps(asdict(Choice(number, epochs[number].sha256, round(time.time(), 3))))
    replace_atomically(run.folder / CHOICE_FILE, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return epochs[number]


def chosen_epoch(run: Run) -> Epoch | None:
    """The one that was marked, if it is still there."""
    try:
        choice = from_json(Choice, json.loads((run.folder / CHOICE_FILE).read_text(encoding="utf-8")), CHOICE_FILE)
    except (OSError, ValueError, RecursionError, AthanorError):
        return None
    return next((epoch for epoch in run.epochs() if (epoch.number, epoch.sha256) == (choice.epoch, choice.sha256)), None)
