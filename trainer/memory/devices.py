"""Devices and memory."""

from __future__ import annotations

import gc
import math
import statistics
import sys
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

_NEAR_SHARE = 0.1
"""Less free memory than this share of all is near the limit."""
_RESERVE_BYTES = 768 << 20
"""For gradients, the optimizer, the autoencoder's pictures, and what the allocator loses between its blocks."""


def best_device() -> torch.device:
    """The first CUDA (or ROCm) GPU, Apple's GPU, or the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def release() -> None:
    """Gives back what nothing refers to any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak_mib() -> float:
    """The most memory that this process has held so far, in MiB."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    import resource

    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def peak_gpu_mib() -> float | None:
    """The most memory of the GPU that this process has reserved so far, in MiB; None without CUDA or ROCm."""
    import torch

    return torch.cuda.max_memory_reserved() / 2**20 if torch.cuda.is_available() else None


class PeakMemory:
    """Tells the peaks when they have grown by a hundredth: early, and then hardly ever."""

    def __init__(self) -> None:
        self._told = (0.0, 0.0)

    def grown(self) -> dict[str, float | None] | None:
        """`ram_mib`, and `gpu_mib` where there is a GPU; None while they are as they were told last."""
        ram, gpu = peak_mib(), peak_gpu_mib()
        if ram <= 1.01 * self._told[0] and (gpu or 0.0) <= 1.01 * self._told[1]:
            return None
        self._told = (ram, gpu or 0.0)
        return {"ram_mib": round(ram, 1), "gpu_mib": None if gpu is None else round(gpu, 1)}


def free_bytes(device: torch.device) -> int:
    """Memory that a training on `device` can still get, what the allocator holds unused included."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    return psutil.virtual_memory().available


def free_gpu_bytes(device: torch.device) -> float:
    """As `free_bytes`; without end where the device has no memory of its own that could be too small."""
    return free_bytes(device) if device.type == "cuda" else math.inf


def make_room(device: torch.device) -> bool:
    """To be called when the size of the batches changes: gives blocks of the old size back if the GPU is nearly full.

    Otherwise Windows would move memory to the computer's own without a word. True if something was given back.
    """
    import torch

    if device.type != "cuda":
        return False
    free, total = torch.cuda.mem_get_info(device)
    if free > _NEAR_SHARE * total:
        return False
    torch.cuda.empty_cache()
    return True


def saved_bytes(module: nn.Module, forward: Callable[[], torch.Tensor]) -> int:
    """What `forward`, a pass through `module`, keeps for its backward pass, without computing or allocating anything.

    Weights are not counted. To be called before the module is compiled.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    weights = {tuple(parameter.shape) for parameter in module.parameters()}
    weights |= {shape[::-1] for shape in weights if len(shape) == 2}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        is_weight = not (tensor.requires_grad and tensor.grad_fn is not None) and tuple(tensor.shape) in weights
        if not is_weight:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
        return tensor

    with FakeTensorMode(allow_non_fake_inputs=True), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def checkpointing_for(needed_bytes: int, free: int) -> str:
    """How much must be computed twice, so that what a step keeps fits: "off", "partial" (half of it) or "full"."""
    left = free - _RESERVE_BYTES
    if needed_bytes * 1.15 < left:
        return "off"
    return "partial" if needed_bytes * 0.65 < left else "full"


class SlowdownWatch:
    """Notices when steps take over three times as long as they did: the GPU's memory has spilled into the computer's.

    Steps are compared with those of the same batch shape; three slow ones in a row count, and are told once a run.
    """

    def __init__(self) -> None:
        self._seconds: dict[Hashable, deque[float]] = {}
        self._num_slow, self._told = 0, False

    def step(self, shape: Hashable, seconds: float) -> float | None:
        """By how many times the steps have become slower, the first time that it is over 3; None otherwise."""
        known = self._seconds.setdefault(shape, deque(maxlen=50))
        usual = statistics.median(known) if len(known) >= 8 else None
        if usual is None or seconds <= 3 * usual:
            self._num_slow = 0
            known.append(seconds)
            return None
        self._num_slow += 1
        if self._num_slow < 3 or self._told:
            return None
        self._told = True
        return seconds / usual


def slowdown_message(times_slower: float, device: torch.device) -> str:
    told = f"Steps take {times_slower:.1f} times as long as before."
    if device.type != "cuda":
        return f"{told} Perhaps another program is busy, or the memory of this computer is full."
    return (
        f"{told} The GPU's memory is probably full and has spilled into the computer's. Close other programs that use the GPU, or set "
        "gradient_checkpointing to full in Performance Settings, or lower the batch size."
    )
