"""A run's events as a page shows them: followed line by line, thinned, and told again only as far as they are new."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

MAX_POINTS = 1000
_NUM_RECENT_STEPS = 20
_MAX_WARNINGS = 20


@dataclass
class _Columns:
    """Losses and rates by columns of `stride` steps; the first holds steps 1 to `stride`."""

    stride: int
    low: list[float | None] = field(default_factory=list)
    high: list[float | None] = field(default_factory=list)
    smooth: list[float | None] = field(default_factory=list)
    rate: list[float | None] = field(default_factory=list)

    def put(self, step: int, loss: float | None, smooth: float | None, rate: float | None) -> None:
        index = (step - 1) // self.stride
        for values in (self.low, self.high, self.smooth, self.rate):
            values.extend([None] * (index + 1 - len(values)))
        if loss is not None:
            low, high = self.low[index], self.high[index]
            self.low[index] = loss if low is None else min(low, loss)
            self.high[index] = loss if high is None else max(high, loss)
        if smooth is not None:
            self.smooth[index] = smooth
        if rate is not None:
            self.rate[index] = rate


class History:
    """What a run's events say so far. Feed it every event of the file once, in order.

    `generation` tells this history from another one: a reader that knows another generation, or another width of the
    columns, is told everything, all others only what has come since their cursor.
    """

    def __init__(self, generation: int):
        self._generation = generation
        self._losses: list[float | None] = []
        """Of step 1, 2 and so on; None where it was no finite number."""
        self._rates: list[float | None] = []
        """The learning rate of each of these steps, as it truly was, of the first part that is trained."""
        self._smooth: list[float | None] = []
        self._mean = self._weight = 0.0
        self._columns = _Columns(1)
        self._marks = 0
        """How many events other than steps there were: a reader that knows this number knows all lists below."""
        self._validation: list[tuple[int, float]] = []
        self._saved: list[tuple[int, int | None]] = []
        self._samples: list[dict[str, Any]] = []
        self._warnings: list[str] = []
        self._recent: deque[tuple[float, float]] = deque(maxlen=_NUM_RECENT_STEPS)
        """Time at the end, and seconds, of the last steps of the process that runs now."""
        self._start: dict[str, Any] = {}
        self._first: tuple[int, float] | None = None
        """First step of the process that runs now, and the time at its end."""
        self._last_step: dict[str, Any] = {}
        self._memory: dict[str, Any] = {}
        self._state = "waiting"
        self._message = ""
        self._phase: dict[str, Any] = {}
        self._last_time = 0.0

    @property
    def sample_files(self) -> list[str]:
        """Of the sample pictures, relative to the run, in the order of their numbers."""
        return [sample["file"] for sample in self._samples]

    @property
    def has_ended(self) -> bool:
        return self._state in ("finished", "stopped", "failed")

    @property
    def last_time(self) -> float:
        """Seconds since 1970 of the last event; 0 before the first."""
        return self._last_time

    def follow(self, events: Iterable[dict[str, Any]]) -> None:
        """Takes further events. Those that lack what their kind must have are passed over."""
        for event in events:
            try:
                self._take(event["event"], event)
            except (KeyError, TypeError, ValueError):
                continue
            self._last_time = float(event.get("time") or self._last_time)

    def _take(self, kind: str, event: dict[str, Any]) -> None:
        if kind == "step":
            self._take_step(event)
            return
        self._marks += 1
        if kind == "start":
            self._begin(event)
        elif kind == "phase":
            self._state, self._phase = "preparing", {"name": str(event["name"]), "done": int(event["done"]), "total": int(event["total"])}
        elif kind == "validation":
            # A process that begins where an earlier one was killed measures, saves and draws at that step again.
            if math.isfinite(event["loss"]):
                step = int(event["step"])
                self._validation = [*(each for each in self._validation if each[0] != step), (step, float(event["loss"]))]
        elif kind == "saved":
            saved = (int(event["step"]), event["epoch"])
            self._saved = [*(each for each in self._saved if each != saved), saved]
        elif kind == "sample":
            sample = {key: event[key] for key in ("step", "epoch", "file", "prompt", "seed")}
            self._samples = [*(each for each in self._samples if each["file"] != sample["file"]), {**sample, "time": event.get("time", 0)}]
        elif kind == "memory":
            self._memory = {"ram_mib": event["ram_mib"], "gpu_mib": event["gpu_mib"]}
        elif kind == "warning":
            self._warnings = [*(each for each in self._warnings if each != event["message"]), str(event["message"])][-_MAX_WARNINGS:]
        elif kind == "error":
            self._state, self._message = "failed", str(event["message"])
        elif kind == "done":
            self._state, self._message = ("stopped" if event["stopped"] else "finished"), ""
            self._memory = {"gpu_mib": None, **self._memory, "ram_mib": event["peak_mib"]}

    def _begin(self, event: dict[str, Any]) -> None:
        """A process begins behind step `step`: what an earlier one did after it is taken back."""
        step = int(event["step"])
        if step < len(self._losses) or any(mark > step for mark, _ in (*self._validation, *self._saved)):
            self._generation += 1
        had = self._start.get("total_steps")
        self._start, self._state, self._message, self._phase, self._first = event, "training", "", {}, None
        self._recent.clear()
        self._validation = [each for each in self._validation if each[0] <= step]
        self._saved = [each for each in self._saved if each[0] <= step]
        self._samples = [each for each in self._samples if each["step"] <= step]
        if step < len(self._losses) or had != event["total_steps"]:
            steps = list(zip(self._losses[:step], self._rates[:step], strict=True))
            self._losses, self._rates, self._smooth, self._mean, self._weight = [], [], [], 0.0, 0.0
            self._columns = _Columns(_stride(event["total_steps"]))
            for loss, rate in steps:
                self._add_step(loss, rate)
        # A power cut takes the last events and leaves the state that was saved after them.
        while len(self._losses) < step:
            self._add_step(None, None)

    def _take_step(self, event: dict[str, Any]) -> None:
        step, loss, seconds = int(event["step"]), float(event["loss"]), float(event["seconds"])
        if step != len(self._losses) + 1:
            return
        time = float(event.get("time") or 0.0)
        rate = next(iter(event["rates"].values()), None)
        self._add_step(loss if math.isfinite(loss) else None, rate if rate is not None and math.isfinite(rate) else None)
        self._state, self._last_step = "training", event
        self._recent.append((time, seconds))
        self._first = self._first or (step, time)

    def _add_step(self, loss: float | None, rate: float | None) -> None:
        """With the exponential running mean of `plots.smoothed`, whose memory follows from the length of the whole run."""
        if loss is not None:
            beta = 1 - 1 / min(2000, max(3, self._start.get("total_steps", 0) / 30))
            self._mean = beta * self._mean + (1 - beta) * loss
            self._weight = beta * self._weight + (1 - beta)
        smooth = self._mean / self._weight if self._weight else None
        self._losses.append(loss)
        self._smooth.append(smooth)
        self._rates.append(rate)
        self._columns.put(len(self._losses), loss, smooth, rate)

    def told(self, cursor: str = "") -> dict[str, Any]:
        """For JSON: everything, or what is new to a reader whose last answer bore `cursor`.

        `curve`: `from` the index of its first column, `stride` steps in a column, `low`, `high`, `smooth` and `rate` by column.
        `marks`, only where something of it is new: `validation` [[step, loss]], `saved` [[step, epoch or null]], `samples`,
        `warnings`. `now`: the state and the numbers of the last step.
        """
        known = _parse_cursor(cursor)
        same = known is not None and known[:2] == (self._generation, self._columns.stride)
        first = min(known[2], len(self._columns.low)) if known and same else 0
        columns = self._columns
        curve = {"low": columns.low[first:], "high": columns.high[first:], "smooth": columns.smooth[first:], "rate": columns.rate[first:]}
        answer: dict[str, Any] = {
            "cursor": f"{self._generation}.{columns.stride}.{max(0, len(columns.low) - 1)}.{self._marks}",
            "curve": {"from": first, "stride": columns.stride, **curve},
            "now": self._now(),
        }
        if not known or not same or known[3] != self._marks:
            samples = [{**sample, "number": i, "file": sample["file"].rpartition("/")[2]} for i, sample in enumerate(self._samples)]
            answer["marks"] = {"validation": self._validation, "saved": self._saved, "samples": samples, "warnings": self._warnings}
        return answer

    def _now(self) -> dict[str, Any]:
        total, step = self._start.get("total_steps", 0), len(self._losses)
        seconds = sum(each for _, each in self._recent) / len(self._recent) if self._recent else None
        return {
            "state": self._state,
            "message": self._message,
            "phase": self._phase or None,
            "step": step,
            "total_steps": total,
            "epoch": self._last_step.get("epoch", 0) if step else 0,
            "total_epochs": self._start.get("total_epochs", 0),
            "steps_per_epoch": self._start.get("steps_per_epoch", 0),
            "loss": self._losses[-1] if self._losses else None,
            "smooth": self._smooth[-1] if self._smooth else None,
            "rates": self._last_step.get("rates", {}) if step else {},
            "seconds_a_step": seconds,
            "remaining_sec": self._remaining(total - step, seconds) if self._state == "training" else None,
            **({"ram_mib": None, "gpu_mib": None} | self._memory),
        }

    def _remaining(self, num_steps: int, seconds: float | None) -> float | None:
        """By the clock since the first step of this process, so that saving and drawing count; at first by the steps alone."""
        if seconds is None or self._first is None:
            return None
        first_step, first_time = self._first
        done = len(self._losses) - first_step
        # A clock that was set back must not make it shorter than the steps alone.
        return num_steps * (max(seconds, (self._recent[-1][0] - first_time) / done) if done >= _NUM_RECENT_STEPS else seconds)


def _stride(total_steps: int) -> int:
    """Steps in a column, a power of two, so that the whole run has at most `MAX_POINTS` columns."""
    stride = 1
    while total_steps / stride > MAX_POINTS:
        stride *= 2
    return stride


def _parse_cursor(cursor: str) -> tuple[int, int, int, int] | None:
    """Generation, stride, last column, marks; None for a text that is no cursor."""
    parts = cursor.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() and len(part) < 24 for part in parts):
        return None
    generation, stride, column, marks = map(int, parts)
    return generation, stride, column, marks
