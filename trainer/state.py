"""What a resume needs: the trained tensors, the optimizer's, and where the run was. Two slots, written in turn.

Randomness needs no saving (see seeds.py), nor does the schedule (see schedules.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import AthanorError
from .files import replace_atomically
from .formats.files import load_tensors
from .formats.header import read_header

if TYPE_CHECKING:
    import torch

_SLOTS = ("state-a.safetensors", "state-b.safetensors")


@dataclass(frozen=True)
class Position:
    """Where a run is: steps done, and the losses of the steps already done in the unfinished epoch."""

    step: int
    epoch_losses: tuple[float, ...] = ()


def save_state(folder: Path, position: Position, trained: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Writes into the slot that is not the newest, so that the newest stays whole until this one is."""
    from safetensors.torch import save_file

    tensors = {f"trained.{name}": tensor.detach().cpu().contiguous() for name, tensor in trained.items()}
    numbers: dict[str, dict[str, Any]] = {}
    state = optimizer.state_dict()
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if hasattr(value, "detach"):
                tensors[f"optimizer.{index}.{key}"] = value.detach().cpu().contiguous()
            else:
                numbers.setdefault(str(index), {})[key] = value
    metadata = {
        "step": str(position.step),
        "epoch_losses": json.dumps(position.epoch_losses),
        "optimizer_numbers": json.dumps(numbers),
        "optimizer_groups": json.dumps(state["param_groups"]),
    }
    newest = _newest_slot(folder)
    slot = next(name for name in _SLOTS if newest is None or name != newest[0])
    replace_atomically(folder / slot, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def load_state(folder: Path, trained: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> Position | None:
    """Puts the newest whole state into `trained` and `optimizer`; None where there is none yet."""
    import torch

    newest = _newest_slot(folder)
    if newest is None:
        return None
    name, metadata = newest
    tensors = load_tensors(folder / name)
    missing = [key for key in trained if f"trained.{key}" not in tensors]
    if missing:
        raise AthanorError(f"The saved state {folder / name} lacks {missing[0]}; delete the folder {folder} to start this run anew.")
    with torch.no_grad():
        for key, tensor in trained.items():
            tensor.copy_(tensors[f"trained.{key}"])
    entries: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in json.loads(metadata["optimizer_numbers"]).items()}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, entry = key.split(".", 2)
            entries.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({"state": entries, "param_groups": json.loads(metadata["optimizer_groups"])})
    return Position(int(metadata["step"]), tuple(json.loads(metadata["epoch_losses"])))


def _newest_slot(folder: Path) -> tuple[str, dict[str, str]] | None:
    found = []
    for name in _SLOTS:
        try:
            metadata = read_header(folder / name).metadata
            found.append((int(metadata["step"]), name, metadata))
        except (AthanorError, KeyError, ValueError):
            continue
    if not found:
        return None
    _, name, metadata = max(found, key=lambda slot: slot[0])
    return name, metadata
