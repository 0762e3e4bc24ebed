"""Devices and memory."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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
