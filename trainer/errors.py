"""What goes wrong, said to the person who can mend it."""

from __future__ import annotations

from collections.abc import Iterable


class AthanorError(Exception):
    """A message for the user: what is wrong, the value, where it is, what to do."""


class InvalidJobError(AthanorError):
    """Everything that is wrong with a job, all at once; raised before anything loads."""

    def __init__(self, problems: Iterable[str]):
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def raise_problems(problems: Iterable[str]) -> None:
    """Raises `InvalidJobError` if there are any problems."""
    found = tuple(problems)
    if found:
        raise InvalidJobError(found)
