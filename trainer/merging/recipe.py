"""Which epochs are merged, and by how much: `last 3`, `2, 4`, `2*0.3, 4*0.7`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import AthanorError
from ..runs.promote import pick_epochs
from ..runs.run import Epoch, Run

METHODS = ("average", "sum", "difference")
_WEIGHTED = re.compile(r"(?P<which>[^*,]+?)\s*(?:\*\s*(?P<weight>[-+]?\d*\.?\d+))?")
_LAST = re.compile(r"last\s+(?P<count>\d+)")

Chosen = tuple[Epoch, float]


def choose(run: Run, text: str) -> tuple[Chosen, ...]:
    """The epochs that `text` names with their weights, 1 where none is written; the same epoch once.

    Raises AthanorError for what is not understood or was not saved.
    """
    chosen: dict[int, Chosen] = {}
    for item in (part.strip() for part in text.split(",")):
        found = _WEIGHTED.fullmatch(item)
        if found is None:
            raise AthanorError(f"Epochs: {item!r} is not understood; write last 3, best, all, or numbers such as 2, 4 or 2*0.3, 4*0.7.")
        for epoch in _epochs(run, found["which"].strip()):
            if epoch.number in chosen:
                raise AthanorError(f"Epochs: {epoch.number} is named twice in {text!r}; name it once, with one weight.")
            chosen[epoch.number] = (epoch, float(found["weight"] or 1.0))
    return tuple(chosen.values())


def weighted(method: str, first: Sequence[Chosen], second: Sequence[Chosen]) -> tuple[Chosen, ...]:
    """The weights by which the changes are summed. `difference` adds the first and takes away the second; `average` makes the sum of all weights 1.

    Raises AthanorError where there is nothing to take away, or where the weights of an average add up to nothing.
    """
    if method == "difference":
        if not second:
            raise AthanorError("A difference needs a second run to take away; connect other run, or choose average or sum.")
        return (*first, *((epoch, -weight) for epoch, weight in second))
    together = (*first, *second)
    total = sum(weight for _, weight in together)
    if method == "sum":
        return together
    if abs(total) < 1e-6:
        raise AthanorError("The weights add up to 0, so there is no average; choose sum, or write other weights.")
    return tuple((epoch, weight / total) for epoch, weight in together)


def _epochs(run: Run, which: str) -> tuple[Epoch, ...]:
    found = _LAST.fullmatch(which.lower())
    if found is None:
        return pick_epochs(run, which)
    count, saved = int(found["count"]), run.epochs()
    if not 1 <= count <= len(saved):
        raise AthanorError(f"Epochs: {which!r} of {run.name} cannot be taken, since it saved {len(saved)}; write a number from 1 to {len(saved)}.")
    return saved[-count:]
