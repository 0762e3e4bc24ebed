"""What is trained beside the base's weights."""

from __future__ import annotations

from dataclasses import dataclass

from .field import setting


@dataclass(frozen=True)
class AdapterSettings:
    """Low-rank adaptation (Hu et al. 2021): W + alpha / rank * up @ down."""

    kind: str = setting("lora", "What is trained beside the base's weights.", choices=("lora",))
    rank: int = setting(16, "Inner dimension of the two small matrices. Larger holds more detail and makes a larger file.", 1, 1024)
    alpha: float = setting(16.0, "Scale of the change: alpha / rank multiplies it. Equal to rank is a scale of 1.", 0.001, 4096.0)
