"""What a resume needs: the trained tensors, the optimizer's, and where the run was. Two slots, written in turn; two more
where states are saved so often that both would be younger than an explosion that is only being noticed.

Randomness needs no saving (see seeds.py), nor does the schedule (see schedules.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .ending import WINDOW_STEPS
from .errors import AthanorError
from .formats.files import Streamed, load_tensors, save_streamed
from .formats.header import read_header

if TYPE_CHECKING:
    import torch

_OTHER = "Put the settings back as they were, or start this run anew by deleting the folder"
_SLOTS = tuple(f"state-{letter}.safetensors" for letter in "abcd")


@dataclass(frozen=True)
class Position:
    """Where a run is: steps done, and the losses of the steps already done in the unfinished epoch."""

    step: int
    epoch_losses: tuple[float, ...] = ()


class Stateful(Protocol):
    """An optimizer, or what stands around one."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> object: ...


def save_state(folder: Path, position: Position, trained: Mapping[str, torch.Tensor], updates: Stateful) -> None:
    """Writes into a slot that is not needed: the newest stays whole until this one is, and one from before a possible explosion stays."""
    tensors = {f"trained.{name}": tensor.detach() for name, tensor in trained.items()}
    packed = _Packer(tensors)
    metadata = {
        "step": str(position.step),
        "epoch_losses": json.dumps(position.epoch_losses),
        "updates": json.dumps(packed.pack(updates.state_dict())),
    }
    slot = _slot_for(folder, position.step)
    # One tensor after the other: of a whole model there may be no second copy.
    save_streamed(folder / slot, {name: Streamed.of(tensor) for name, tensor in tensors.items()}, metadata)


def _slot_for(folder: Path, step: int) -> str:
    """The slot for a state of `step` steps.

    An explosion is noticed up to WINDOW_STEPS late. So beside the newest state the newest that is older than that must stay, and the
    one that will be it next.
    """
    steps = {name: int(metadata["step"]) for name, metadata in _slots(folder)}
    old = [name for name in steps if steps[name] <= step - WINDOW_STEPS]
    young = [name for name in steps if name not in old]
    needed = {*old[-1:], *young[:1], *young[-1:]}
    return next((name for name in (*steps, *_SLOTS) if name not in needed), _SLOTS[0])


def drop_states_after(folder: Path, step: int) -> None:
    """Deletes the states of more than `step` steps."""
    for name, metadata in _slots(folder):
        if int(metadata["step"]) > step:
            (folder / name).unlink()


def load_state(folder: Path, trained: Mapping[str, torch.Tensor], updates: Stateful, at_most: int | None = None) -> Position | None:
    """Puts the newest whole state, of `at_most` steps, into `trained` and `updates`; None where there is none."""
    import torch

    newest = _newest_slot(folder, at_most)
    if newest is None:
        return None
    name, metadata = newest
    tensors = load_tensors(folder / name)
    missing = [key for key in trained if f"trained.{key}" not in tensors]
    if "updates" not in metadata:
        missing.append("the optimizer's state")
    if missing:
        raise AthanorError(f"The saved state {folder / name} lacks {missing[0]}; delete the folder {folder} to start this run anew.")
    other = next((key for key, tensor in trained.items() if tensors[f"trained.{key}"].shape != tensor.shape), None)
    if other is not None:
        was, wanted = (" x ".join(map(str, each.shape)) for each in (tensors[f"trained.{other}"], trained[other]))
        raise AthanorError(
            f"The saved state {folder / name} is of other settings: {other} has {was} numbers there and {wanted} here. {_OTHER} {folder}."
        )
    with torch.no_grad():
        for key, tensor in trained.items():
            tensor.copy_(tensors[f"trained.{key}"])
    try:
        updates.load_state_dict(_unpacked(json.loads(metadata["updates"]), tensors))
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise AthanorError(
            f"The saved state {folder / name} is of another optimizer or other settings of it ({error}). {_OTHER} {folder}."
        ) from error
    return Position(int(metadata["step"]), tuple(json.loads(metadata["epoch_losses"])))


def is_damaged(folder: Path) -> bool:
    """Whether states were saved there of which none can be read any more."""
    return any((folder / name).exists() for name in _SLOTS) and not _slots(folder)


class _Packer:
    """Nested dictionaries, lists and tuples of tensors and plain values as JSON, the tensors put aside under numbered names.

    A tensor that stands in several places (the 8-bit optimizers share their tables) is kept once, and is shared again
    when it is read. Floats survive to the bit, infinity included.
    """

    def __init__(self, tensors: dict[str, torch.Tensor]):
        self._tensors = tensors
        self._names: dict[int, str] = {}
        self._seen: list[Any] = []

    def pack(self, value: Any) -> Any:
        if hasattr(value, "detach"):
            return {"tensor": self._name(value)}
        if isinstance(value, Mapping):
            return {"dict": [[key, self.pack(item)] for key, item in value.items()]}
        if isinstance(value, (list, tuple)):
            return {type(value).__name__: [self.pack(item) for item in value]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"an optimizer's state holds {type(value).__name__}, which has no place in a state file")

    def _name(self, tensor: torch.Tensor) -> str:
        if id(tensor) not in self._names:
            self._names[id(tensor)] = name = f"updates.{len(self._names)}"
            # Kept from being freed, so that no later tensor gets its id.
            self._seen.append(tensor)
            self._tensors[name] = tensor.detach()
        return self._names[id(tensor)]


def _unpacked(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpacked(item, tensors) for key, item in content}
    items = [_unpacked(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items


def _slots(folder: Path) -> list[tuple[str, dict[str, str]]]:
    """The whole ones, the oldest first."""
    found = []
    for name in _SLOTS:
        try:
            metadata = read_header(folder / name).metadata
            found.append((int(metadata["step"]), name, metadata))
        except (AthanorError, KeyError, ValueError):
            continue
    return [(name, metadata) for _, name, metadata in sorted(found, key=lambda slot: slot[0])]


def _newest_slot(folder: Path, at_most: int | None = None) -> tuple[str, dict[str, str]] | None:
    found = [slot for slot in _slots(folder) if at_most is None or int(slot[1]["step"]) <= at_most]
    return found[-1] if found else None
