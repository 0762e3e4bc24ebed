"""Tables of things by name: adapters, optimizers, schedules, families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from .errors import AthanorError

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Names and their entries. A name is refused twice, and an unknown one is answered with the known ones.

    Names come from workflows, which are untrusted: only what was registered by our own code can be picked.
    """

    def __init__(self, noun: str):
        self._noun = noun
        self._entries: dict[str, Entry] = {}

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Decorator that enters a class or function under `name` (lower case)."""
        if name != name.lower() or not name:
            raise ValueError(f"{self._noun} name {name!r} must be lower case and not empty")
        if name in self._entries:
            raise ValueError(f"{self._noun} {name!r} is registered twice")

        def enter(entry: Entry) -> Entry:
            self._entries[name] = entry
            return entry

        return enter

    def names(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise AthanorError(f"Unknown {self._noun} {name!r}; choose one of: {', '.join(self._entries)}.") from None
