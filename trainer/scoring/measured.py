"""What the worker has measured, as a file that the host reads. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..config import from_json, to_json
from ..errors import AthanorError
from ..files import replace_atomically

MEASURED_FILE = "measured.json"


@dataclass(frozen=True)
class Values:
    measure: str
    """A name of MEASURES."""
    per_image: tuple[float, ...]
    """One for each held-out image, in the job's order."""


@dataclass(frozen=True)
class EpochValues:
    number: int
    """0 is the base alone."""
    values: tuple[Values, ...]
    norms: tuple[tuple[str, float], ...] = ()
    """Of each layer's change, by its name in the file."""

    def of(self, measure: str) -> tuple[float, ...] | None:
        return next((each.per_image for each in self.values if each.measure == measure), None)


@dataclass(frozen=True)
class Measured:
    epochs: tuple[EpochValues, ...]
    """The base alone comes first."""
    captions: tuple[str, ...]
    """Of the held-out images."""
    images: tuple[str, ...]
    """Their paths."""
    num_seeds: int
    embedder: str
    """What judged likeness; empty for shapes and colours."""
    held_out_copying: float | None = None
    """How much the held-out images themselves look like their nearest training images."""


def write_measured(folder: Path, measured: Measured) -> None:
    text = json.dumps(to_json(measured), ensure_ascii=False)
    replace_atomically(folder / MEASURED_FILE, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_measured(folder: Path) -> Measured:
    """Raises AthanorError if there is none."""
    path = folder / MEASURED_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AthanorError(f"The scores in {path} cannot be read: {error}; queue again.") from None
    return from_json(Measured, data, "scores")
