"""Frozen weights of a model's blocks wait in the computer's memory; each block's come before it is needed and leave after.

Works on any device that can copy: the next block's weights are on their way while this one computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

_ENCODING_BYTES = 1 << 30
"""For what text encoders compute, beside their weights."""


class BlockOffload:
    """Hooks on `blocks`, which are called in their order; only weights that are not trained move.

    At most three blocks' weights are on `device` at a time: this one's, the last one's, and the next one's, which are on
    their way while this one computes; in the backward pass in the other direction. Memory is freed only where the blocks
    are checkpointed, since otherwise what is kept for the backward pass holds the weights, too. Away weights are empty, so
    that a use at the wrong time is an error. `close` brings everything back for good.
    """

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device):
        import torch

        self._blocks, self._device = list(blocks), device
        self._frozen = [[parameter for parameter in block.parameters() if not parameter.requires_grad] for block in self._blocks]
        self._homes = [[self._home(parameter.data) for parameter in frozen] for frozen in self._frozen]
        self._here: dict[int, torch.cuda.Event | None] = {}
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._backward_of = -1
        self._handles = []
        for number, block in enumerate(self._blocks):
            self._leave(number)
            self._handles += [
                block.register_forward_pre_hook(lambda module, inputs, number=number: self._forward(number)),
                block.register_full_backward_pre_hook(lambda module, gradients, number=number: self._backward(number)),
            ]

    def _home(self, weights: torch.Tensor) -> torch.Tensor:
        home = weights.detach().to("cpu", copy=True)
        return home.pin_memory() if self._device.type == "cuda" else home

    def _forward(self, number: int) -> None:
        # A checkpointed block is called once more in its backward pass, which goes the other way.
        self._enter(number, -1 if number == self._backward_of else 1)

    def _backward(self, number: int) -> None:
        self._backward_of = number
        self._enter(number, -1)

    def _enter(self, number: int, direction: int) -> None:
        """Brings block `number` and starts to bring the next one in `direction`; the others leave."""
        import torch

        following = number + direction
        for other in [each for each in self._here if abs(each - number) > 1]:
            self._leave(other)
        self._bring(number)
        arrived = self._here[number]
        if arrived is not None:
            torch.cuda.current_stream(self._device).wait_event(arrived)
        if 0 <= following < len(self._blocks):
            self._bring(following)

    def _bring(self, number: int) -> None:
        import torch

        if number in self._here:
            return
        if self._stream is None:
            for parameter, home in zip(self._frozen[number], self._homes[number], strict=True):
                parameter.data = home.to(self._device, copy=True)
            self._here[number] = None
            return
        current = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            for parameter, home in zip(self._frozen[number], self._homes[number], strict=True):
                parameter.data = home.to(self._device, non_blocking=True)
                # Its memory must not be given to anybody else while the computing stream still reads it.
                parameter.data.record_stream(current)
            self._here[number] = self._stream.record_event()

    def _leave(self, number: int) -> None:
        for parameter in self._frozen[number]:
            parameter.data = parameter.data.new_empty(0)
        self._here.pop(number, None)

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        for number in range(len(self._blocks)):
            self._bring(number)
        if self._stream is not None:
            self._stream.synchronize()


def bring_encoders(encoders: Iterable[nn.Module], device: torch.device, free_bytes: float) -> None:
    """Brings text encoders to `device`; of one that is too large for what is free there only the block that computes, and the next.

    A T5 of 9.5 GB in bf16 then encodes captions on a GPU of 6 GB.
    """
    for encoder in encoders:
        num_bytes = sum(parameter.numel() * parameter.element_size() for parameter in encoder.parameters())
        blocks = repeated_blocks(getattr(encoder, "encoder", encoder))
        if blocks and num_bytes + _ENCODING_BYTES > free_bytes:
            encoder.requires_grad_(False)
            BlockOffload(blocks, device)
        else:
            free_bytes -= num_bytes
        encoder.to(device)


def repeated_blocks(denoiser: nn.Module) -> list[nn.Module]:
    """The rows of equal blocks of a transformer, in the order in which they are called; none for a U-Net."""
    names = {*(getattr(denoiser, "_no_split_modules", None) or ()), *(getattr(denoiser, "_repeated_blocks", None) or ())}
    found = []
    for child in denoiser.children():
        kinds = {type(block).__name__ for block in child} if type(child).__name__ == "ModuleList" else set()
        if len(kinds) == 1 and kinds <= names:
            found += list(child)
    return found
