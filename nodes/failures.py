"""A training that fails in a graph with others does not lose them: it tells when they are done.

ComfyUI ends a whole prompt with its first error. A node that is still waiting for something holds up only those behind it,
so a failed training waits until ComfyUI has nothing else left to do.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from ..trainer.errors import AthanorError
from . import host

_LOOK_EVERY_SEC = 0.1
_NUM_QUIET_LOOKS = 5
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class _Failed:
    loop: asyncio.AbstractEventLoop
    """Of the prompt: ComfyUI runs each in a new one."""
    node_id: str
    name: str
    sentence: str


_begun = 0
_failed: dict[int, _Failed] = {}
"""Those that wait, by a number."""


def begin() -> int:
    """Notes that a training of the graph comes to its turn; returns how many have."""
    global _begun
    _begun += 1
    return _begun


async def told_after_the_others(error: AthanorError, node_id: str | None, name: str, turn: int) -> AthanorError:
    """Waits until nothing else in the graph can go on, then returns what to raise: the error itself, or the sentences of all that failed.

    `turn`: what `begin` gave the failed one.
    """
    loop, number = asyncio.get_running_loop(), next(_NUMBERS)
    for each in [each for each, failed in _failed.items() if failed.loop is not loop]:
        del _failed[each]
    _failed[number] = _Failed(loop, node_id or "", name, str(error))
    await _until_quiet()
    failed = [each for _, each in sorted(_failed.items())]
    if len(failed) == 1 and _begun == turn:
        return error
    told = "\n".join(f"- {each.name}: {each.sentence}" for each in failed)
    names = ", ".join(dict.fromkeys(each.name for each in failed))
    return AthanorError(
        f"{_num_trainings(len(failed))} failed: {names}. The others were trained; queue again, and only what is missing is trained.\n{told}"
    )


async def _until_quiet() -> None:
    quiet, seen = 0, None
    while quiet < _NUM_QUIET_LOOKS:
        await asyncio.sleep(_LOOK_EVERY_SEC)
        states = host.node_states()
        waiting = {failed.node_id for failed in _failed.values()}
        now = (_begun, len(_failed), tuple(sorted(states.items())))
        is_busy = any(state == "running" for node_id, state in states.items() if node_id not in waiting)
        quiet = 0 if is_busy or now != seen else quiet + 1
        seen = now


def _num_trainings(number: int) -> str:
    return "One training" if number == 1 else f"{number} trainings"
