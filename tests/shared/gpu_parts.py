"""What the pretended GPU (pretended_gpu.py) is made of: its memory, its streams, its random numbers, and copies to it and from it."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


def is_gpu(device: torch.device | str | int) -> bool:
    return isinstance(device, int) or torch.device(device).type == "cuda"


class Gpu:
    """What is held on the pretended GPU, in bytes of storages, and its own random numbers."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.held_bytes = self.peak_bytes = 0
        self.stream = Stream()
        self.seed(1)
        self._held = WeakIdKeyDictionary()

    def has(self, tensor: torch.Tensor) -> bool:
        return not tensor.is_sparse and tensor.untyped_storage() in self._held

    def take(self, tensor: torch.Tensor) -> None:
        """From now on the storage of `tensor` lies here, written by the stream of now. Raises OutOfMemoryError."""
        storage = tensor.untyped_storage()
        if storage in self._held:
            return
        num_bytes = storage.nbytes()
        if self.held_bytes + num_bytes > self.total_bytes:
            raise torch.cuda.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {num_bytes} bytes; {self.held_bytes} are held.")
        self._held[storage] = self.stream.record_event()
        self.held_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)
        weakref.finalize(storage, self._freed, num_bytes)

    def read(self, tensor: torch.Tensor, what: object) -> None:
        """Raises RuntimeError if the stream of now has not waited for the one that wrote `tensor`."""
        stream, when = self._held[tensor.untyped_storage()]
        if stream is not self.stream and self.stream.seen.get(stream, 0) < when:
            raise RuntimeError(f"{what} reads a tensor that another stream may not have written yet")

    @contextlib.contextmanager
    def entered(self, stream: Stream) -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    @contextlib.contextmanager
    def chance(self) -> Iterator[None]:
        """Random numbers are the GPU's."""
        before = torch.get_rng_state()
        torch.set_rng_state(self.rng_state)
        try:
            yield
        finally:
            self.rng_state = torch.get_rng_state()
            torch.set_rng_state(before)

    def seed(self, seed: int) -> None:
        self.rng_state = torch._C.Generator().manual_seed(seed).get_state()

    def set_rng_state(self, state: torch.Tensor, device: object = None) -> None:
        self.rng_state = state

    def forget_peak(self, device: object = None) -> None:
        self.peak_bytes = self.held_bytes

    def _freed(self, num_bytes: int) -> None:
        self.held_bytes -= num_bytes


class Stream:
    """Its events are numbered; `seen` tells up to which it has waited for others."""

    def __init__(self, device: object = None) -> None:
        self.seen: dict[Stream, int] = {}
        self._count = 0

    def record_event(self, event: object = None) -> tuple[Stream, int]:
        self._count += 1
        return self, self._count

    def wait_event(self, event: tuple[Stream, int]) -> None:
        self.seen[event[0]] = max(self.seen.get(event[0], 0), event[1])

    def wait_stream(self, other: Stream) -> None:
        self.wait_event(other.record_event())

    def synchronize(self) -> None:
        pass


class Generator(torch.Generator):
    on_gpu = False

    def __new__(cls, device: torch.device | str = "cpu") -> Generator:
        made = super().__new__(cls)
        made.on_gpu = is_gpu(device)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA if self.on_gpu else CPU


class Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, gpu: Gpu, to_gpu: bool) -> torch.Tensor:
        ctx.gpu, ctx.from_gpu = gpu, gpu.has(tensor)
        if ctx.from_gpu:
            gpu.read(tensor, "A copy")
        with torch._C._DisableTorchDispatch():
            moved = tensor.clone()
        if to_gpu:
            gpu.take(moved)
        return moved

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        moved = gradient if ctx.gpu.has(gradient) == ctx.from_gpu else Move.apply(gradient, ctx.gpu, ctx.from_gpu)
        return moved, None, None
