"""A run's numbers for other programs: logs/log.csv, and TensorBoard's files where a library that writes them is installed.

Tags and what stands on their axes are those of sd-scripts (train_network.py of 0.10: by step, and by epoch what is told once
an epoch), so that runs of both can be laid over each other.
"""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..files import replace_atomically
from .events import EventLog

CSV_FILE = "log.csv"
_FOLDER = "logs"
_COLUMNS = ("step", "epoch", "loss", "average_loss", "validation_loss", "seconds")
_PARTS = {"denoiser": "unet", "text_encoder": "textencoder", "text_encoder_2": "textencoder 2", "text_encoder_3": "textencoder 3"}
_FLOW_PARTS = {"text_encoder": "textencoder 1 ", "text_encoder_2": "textencoder 2 ", "text_encoder_3": "textencoder 3 "}
"""As lora_flux.py and lora_sd3.py of sd-scripts write them, with a blank behind."""
_FLOW_FAMILIES = ("flux", "sd35")
NO_TENSORBOARD = "No TensorBoard files are written, since neither tensorboard nor tensorboardX is installed; logs/log.csv has the same numbers."


class _Writer(Protocol):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> object: ...

    def flush(self) -> object: ...


class LoggedEvents(EventLog):
    """An event log that also draws the curves. What cannot be drawn never stops a training."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._folder = folder / _FOLDER
        self._parts: tuple[str, ...] = ()
        self._names: Mapping[str, str] = _PARTS
        self._losses: deque[float] = deque(maxlen=1)
        self._measured: set[int] = set()
        """Steps whose held-out loss an earlier worker has written."""
        self._epoch_loss: float | None = None
        self._writer: _Writer | None = None

    def write(self, kind: str, fields: Mapping[str, Any]) -> None:
        super().write(kind, fields)
        try:
            self._draw(kind, fields)
        except OSError as error:
            super().write("warning", {"message": f"The curves in {self._folder} could not be written: {error.strerror}."})

    def _draw(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "start":
            self._begin(fields)
        elif kind == "step":
            self._step(fields)
        elif kind == "validation":
            if fields["step"] not in self._measured:
                # A worker that was killed behind its last step has measured that already.
                self._row({"step": fields["step"], "epoch": fields["epoch"], "validation_loss": fields["loss"]})
            divergence = {} if self._epoch_loss is None else {"loss/validation/epoch_divergence": fields["loss"] - self._epoch_loss}
            self._scalars({"loss/validation/epoch_average": fields["loss"], **divergence}, fields["epoch"])
        elif kind == "epoch":
            self._epoch_loss = fields["loss"]
            self._scalars({"loss/epoch_average": fields["loss"]}, fields["epoch"])
        if self._writer is not None and kind in ("epoch", "validation", "state", "done"):
            self._writer.flush()

    def _begin(self, fields: Mapping[str, Any]) -> None:
        """What an earlier worker wrote of steps that are done anew is taken back."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._parts = tuple(part["name"] for part in fields["parts"])
        self._names = {**_PARTS, **_FLOW_PARTS} if fields.get("family") in _FLOW_FAMILIES else _PARTS
        # A run that begins anew measures the bare base again.
        rows = _rows(self._folder / CSV_FILE, fields["step"]) if fields["step"] else []
        self._losses = deque((float(row["loss"]) for row in rows if row.get("loss")), maxlen=fields["steps_per_epoch"])
        self._measured = {int(row["step"]) for row in rows if row.get("validation_loss")}
        header = self._columns()

        def written(path: Path) -> None:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, header, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)

        replace_atomically(self._folder / CSV_FILE, written)
        self._writer = _tensorboard(self._folder, fields["step"] + 1)
        if self._writer is None and fields["step"] == 0:
            # For those who look for them in worker.log; nobody else misses anything.
            sys.stderr.write(NO_TENSORBOARD + "\n")

    def _columns(self) -> list[str]:
        return [*_COLUMNS, *(f"lr {part}" for part in self._parts)]

    def _step(self, fields: Mapping[str, Any]) -> None:
        self._losses.append(fields["loss"])
        average = sum(self._losses) / len(self._losses)
        rates = fields["rates"]
        self._row(
            {"step": fields["step"], "epoch": fields["epoch"], "loss": fields["loss"], "average_loss": average, "seconds": fields["seconds"]}
            | {f"lr {part}": rate for part, rate in rates.items()}
        )
        found = fields.get("found")
        # As sd-scripts with Prodigy: lr is what was set, d*lr what was found.
        scalars = {f"lr/{self._described(part)}": rate / found if found else rate for part, rate in rates.items()}
        scalars |= {f"lr/d*lr/{self._described(part)}": rate for part, rate in rates.items() if found is not None}
        self._scalars({"loss/current": fields["loss"], "loss/average": average, **scalars}, fields["step"])

    def _described(self, part: str) -> str:
        """As sd-scripts calls it; a part with another rate for one of its matrices (LoRA+) is its plus."""
        name, _, ratio = part.partition(" × ")
        return self._names.get(name, name) + (" plus" if ratio else "")

    def _row(self, values: Mapping[str, Any]) -> None:
        if not (self._folder / CSV_FILE).is_file():
            return
        with (self._folder / CSV_FILE).open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns(), extrasaction="ignore").writerow(dict(values))

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        if self._writer is not None:
            for tag, value in values.items():
                self._writer.add_scalar(tag, value, step)


def _rows(path: Path, last_step: int) -> Sequence[dict[str, str]]:
    """The whole rows of at most `last_step` steps."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            lines = (line.replace("\0", "") for line in file)
            return [row for row in csv.DictReader(lines) if (row.get("step") or "").isdigit() and int(row["step"]) <= last_step and row.get("epoch")]
    except (OSError, csv.Error):
        return []


def _tensorboard(folder: Path, first_step: int) -> _Writer | None:
    """A writer whose steps from `first_step` on replace those of earlier files."""
    if importlib.util.find_spec("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter
    elif importlib.util.find_spec("tensorboardX"):
        from tensorboardX import SummaryWriter
    else:
        return None
    return SummaryWriter(str(folder), purge_step=first_step)
