"""What goes wrong while tagging, said to the person who can mend it."""

from __future__ import annotations

from collections.abc import Iterable


class TaggerError(Exception):
    """A message for the user: what is wrong, the value, where it is, what to do."""


class RuleError(TaggerError):
    """Everything that is wrong with a text of rules, one sentence a line, each with its line number."""

    def __init__(self, problems: Iterable[str]):
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
