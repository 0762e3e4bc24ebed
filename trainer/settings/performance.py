"""What makes a step faster or smaller without changing what is learned."""

from __future__ import annotations

from dataclasses import dataclass

from .field import setting

CHECKPOINTING = ("auto", "off", "partial", "full")


@dataclass(frozen=True)
class PerformanceSettings:
    gradient_checkpointing: str = setting(
        "auto",
        "Computes parts of the model twice instead of keeping them in memory. auto: only as much as the free memory asks for; full: least memory, up to 1.7 times slower.",
        choices=CHECKPOINTING,
    )
    compile: bool = setting(
        False, "Compiles the repeated blocks of the model: some minutes at the start, then each step is faster. Best with few bucket sizes."
    )
    attention: str = setting(
        "auto", "How attention is computed. auto is PyTorch's own and nearly always the best.", choices=("auto", "flash", "xformers"), advanced=True
    )
    block_offload: bool = setting(
        False, "Keeps the blocks of a large transformer in the computer's memory and brings each to the GPU as it is needed: fits small GPUs, slower."
    )
    activation_offload: bool = setting(
        False, "Keeps what the backward pass will need in the computer's memory instead of the GPU's: less GPU memory, slower."
    )
