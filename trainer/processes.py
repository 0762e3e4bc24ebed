"""Several processes that train one job together, as `accelerate launch` (or torchrun) starts them: one a GPU, on one machine or more.

Each has the whole model and takes its share of a step's batches; the gradients are added up before the weights move, so
that all hold the same numbers all the time. The first one leads: it alone writes, measures and draws, and the others
wait for it at the next sum. With one process nothing of this does anything.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from .control import Stopped
from .errors import AthanorError

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")
_PATIENCE = datetime.timedelta(days=7)
"""How long the others wait while the leader encodes, measures or draws."""
_PIECE_NUMBERS = 1 << 24
"""Gradients are sent in pieces of so many numbers at most."""


class PartedError(Exception):
    """Another process of the training has ended; whoever ended first has said why."""


@dataclass(frozen=True)
class Processes:
    rank: int = 0
    """From 0; 0 leads."""
    count: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def takes(self, turn: int) -> bool:
        """Whether the batch that is the `turn`-th of its step, from 0, is this process's."""
        return turn % self.count == self.rank

    def sum(self, value: float) -> float:
        """Of all processes' values; the very same number in each."""
        if self.count == 1:
            return value
        import torch

        total = torch.tensor(value, dtype=torch.float64)
        _reduce(total)
        return total.item()

    def any_of(self, flag: bool) -> bool:
        return self.sum(float(flag)) > 0

    def wait(self) -> None:
        """Until all are here."""
        self.sum(0.0)

    def add_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Leaves in each process the sum of all processes' gradients; a parameter that has none anywhere keeps none."""
        if self.count == 1:
            return
        import torch

        with torch.no_grad():
            for piece in _pieces(parameters):
                _add_piece(piece)

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader does what is inside, then the others, who find done what it has left on disk. A stop of the leader stops all."""
        if not self.leads and self.any_of(False):
            raise Stopped
        try:
            yield
        except Stopped:
            if self.leads:
                self.any_of(True)
            raise
        if self.leads:
            self.any_of(False)

    def of_leader(self, make: Callable[[], str]) -> str:
        """What `make` gives the leader, in every process; the others do not call it."""
        if self.count == 1:
            return make()
        import torch.distributed as dist

        told = [make() if self.leads else None]
        with _together():
            dist.broadcast_object_list(told)
        assert told[0] is not None
        return told[0]

    def leave(self) -> None:
        if self.count > 1:
            import torch.distributed as dist

            dist.destroy_process_group()


ALONE = Processes()


def join_processes() -> Processes:
    """The processes that this one was started with, as the launcher's environment tells. Raises AthanorError if they cannot be reached."""
    count = os.environ.get("WORLD_SIZE", "1")
    if not count.isdecimal() or int(count) < 2:
        return ALONE
    import torch
    import torch.distributed as dist

    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl" if dist.is_nccl_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise AthanorError(
            f"The {count} processes of this training cannot reach each other: {error}. Check the machines' addresses and ports."
        ) from error
    return Processes(dist.get_rank(), dist.get_world_size())


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # Gloo and NCCL have no error of their own for a partner that is gone.
        raise PartedError(str(error)) from error


def _reduce(tensor: torch.Tensor) -> None:
    """Leaves the sum over all processes in each.

    Gloo's own sum adds in an order that changes from call to call, and so its last bits do: on the CPU the addends are
    gathered and added in the order of the processes, which is that of the batches.
    """
    import torch
    import torch.distributed as dist

    with _together():
        if tensor.device.type != "cpu":
            dist.all_reduce(tensor)
            return
        addends = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(addends, tensor)
    tensor.copy_(addends[0])
    for each in addends[1:]:
        tensor += each


def _pieces(parameters: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    piece: list[torch.Tensor] = []
    size = 0
    for parameter in parameters:
        if piece and (size + parameter.numel() > _PIECE_NUMBERS or parameter.device != piece[0].device):
            yield piece
            piece, size = [], 0
        piece.append(parameter)
        size += parameter.numel()
    if piece:
        yield piece


def _add_piece(parameters: list[torch.Tensor]) -> None:
    """Their gradients in fp32, one behind the other, and for each how many processes have one."""
    import torch

    device = parameters[0].device
    has = torch.tensor([float(parameter.grad is not None) for parameter in parameters], device=device)
    grads = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
    flat = torch.cat([has, *(grad.float().flatten() for grad in grads)])
    _reduce(flat)
    start = len(parameters)
    for parameter, held in zip(parameters, flat[: len(parameters)].tolist(), strict=True):
        piece = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
        parameter.grad = piece.to(parameter.dtype, copy=True) if held else None
