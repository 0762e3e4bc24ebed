"""One setting: a dataclass field that carries its range and a sentence for people.

Nodes make their widgets from it, the command line its options, and validation its messages.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import field
from typing import Any


def setting(
    default: Any,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    multiline: bool = False,
    step: float | None = None,
    advanced: bool = False,
) -> Any:
    """A dataclass field with its range, its choices, the step of its widget and a sentence for people.

    An `advanced` one is folded away on the node until a person asks for it.
    """
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "choices": choices, "multiline": multiline, "step": step, "advanced": advanced}
    return field(default=default, metadata=metadata)


def value_type(settings: type, name: str) -> type:
    """The type of a field's values; of `float | None` it is float."""
    hint = typing.get_type_hints(settings)[name]
    return next((each for each in typing.get_args(hint) if each is not type(None)), hint)


def range_problems(settings: Any, where: str) -> tuple[str, ...]:
    """A sentence for each field of `settings` outside its declared range or choices. None means that nobody set it."""
    problems = []
    for item in dataclasses.fields(settings):
        value, limits = getattr(settings, item.name), item.metadata
        if not limits or value is None:
            continue
        if limits["choices"] and value not in limits["choices"]:
            problems.append(f"{where}: {item.name} is {value!r}; choose one of {', '.join(filter(None, limits['choices']))}.")
        low, high = limits["minimum"], limits["maximum"]
        if low is not None and not low <= value <= high:
            problems.append(f"{where}: {item.name} is {value}; it must be from {low} to {high}.")
    return tuple(problems)
