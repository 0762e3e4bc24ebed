"""A file's keys while they are read: each is taken, translated, or said to be left out, exactly once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...settings import Settings, value_type
from .imported import Imported, Line, Outcome

_OFF = ("", "none", "false", "0", "0.0", "[]")
_DEFAULTS = Settings()


class Sheet:
    """The keys of `given`, by the names of sd-scripts. Values may be text where the file's program writes numbers as text."""

    def __init__(self, given: Mapping[str, Any], names: Mapping[str, str] | None = None):
        self._given = {key: value for key, value in given.items() if value is not None and value != ""}
        self._names = names or {}
        self.told: set[str] = set()
        self.values: dict[str, Any] = {}
        self.lines: list[Line] = []

    def keys(self) -> list[str]:
        """Those of which nothing was told yet."""
        return [key for key in self._given if key not in self.told]

    def has(self, key: str) -> bool:
        return key in self._given

    def on(self, key: str) -> bool:
        """Whether the key says something that is not nothing: 0, "", "None" and false are nothing."""
        return key in self._given and str(self._given[key]).strip().lower() not in _OFF

    def text(self, key: str) -> str:
        return str(self._given.get(key, "")).strip()

    def flag(self, key: str) -> bool:
        return str(self._given.get(key, "")).strip().lower() in ("true", "1", "yes", "on")

    def number(self, key: str) -> float | None:
        """None where it is not there; also where it is no number, which is told."""
        if key not in self._given:
            return None
        try:
            value = float(self._given[key])
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if not math.isfinite(value):
            self.leave(key, f"{self._given[key]!r} is not a number.")
            return None
        return value

    def items(self, key: str) -> list[str]:
        """A list; text with blanks, as on a command line, becomes one, the quotes around its words taken away."""
        value = self._given.get(key, ())
        return [str(item) for item in value] if isinstance(value, (list, tuple)) else str(value).replace('"', "").split()

    def take(self, key: str, path: str, value: Any = None) -> None:
        """Puts the key's own value, or `value` in its place, into the settings at "section.field"."""
        kind = _kind(path)
        own = value is None
        if own:
            number = self.number(key) if kind in (int, float) else None
            if kind in (int, float) and number is None:
                return
            value = self.flag(key) if kind is bool else self.text(key) if kind is str else kind(number)
        if kind in (int, float) and (isinstance(value, bool) or not isinstance(value, (int, float))):
            self.leave(key, f"{value!r} is not a number.")
            return
        value = kind(value) if kind in (int, float, bool) else value
        problem = _range_problem(path, value)
        if problem:
            self.leave(key, problem)
            return
        self.values[path] = value
        self.tell("taken" if own and path.split(".")[1] == key else "translated", key, f"{path} = {_shown(value)}")

    def imply(self, path: str, value: Any, sentence: str) -> None:
        """Sets what the other program does where its file says nothing, if the file has not said otherwise."""
        if path not in self.values:
            self.values[path] = value
            self.lines.append(Line("translated", "(not in the file)", sentence, f"{path} = {_shown(value)}"))

    def warn(self, key: str, why: str, outcome: Outcome = "left out") -> None:
        """Of a key of which something was told already: what is other than it says."""
        self.lines.append(Line(outcome, self._names.get(key, key), _shown(self._given.get(key, "")), why))

    def untake(self, path: str, why: str) -> None:
        """Says of what was put at `path` that it is not needed after all."""
        self.lines = [
            dataclasses.replace(line, outcome="not needed", sentence=why) if line.sentence.startswith(f"{path} = ") else line for line in self.lines
        ]

    def leave(self, key: str, why: str) -> None:
        self.tell("left out", key, why)

    def tell(self, outcome: Outcome, key: str, sentence: str) -> None:
        if key not in self.told or outcome == "translated":
            self.lines.append(Line(outcome, self._names.get(key, key), _shown(self._given.get(key, "")), sentence))
        self.told.add(key)

    def drop(self, *keys: str) -> None:
        """Nothing is to be told of these."""
        self.told.update(keys)

    def imported(self, program: str) -> Imported:
        return Imported(program, tuple(self.values.items()), tuple(self.lines))


def _kind(path: str) -> type:
    section, name = path.split(".")
    return value_type(type(getattr(_DEFAULTS, section)), name)


def _range_problem(path: str, value: Any) -> str:
    section, name = path.split(".")
    limits = next(item for item in dataclasses.fields(getattr(_DEFAULTS, section)) if item.name == name).metadata
    if limits["choices"] and value not in limits["choices"]:
        return f"{value!r} is not one of {', '.join(filter(None, limits['choices']))}."
    if limits["minimum"] is not None and not limits["minimum"] <= value <= limits["maximum"]:
        return f"{value} is outside of {limits['minimum']} to {limits['maximum']}."
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    text = str(value).replace("\n", " / ")
    return text if len(text) <= 120 else text[:117] + "…"
