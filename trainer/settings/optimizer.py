"""What the optimizer is told beside its name and the learning rates."""

from __future__ import annotations

from dataclasses import dataclass

from .field import setting


@dataclass(frozen=True)
class OptimizerSettings:
    beta1: float = setting(0.9, "How long the running mean of the gradient remembers.", 0.0, 0.99999, step=0.001)
    beta2: float = setting(0.999, "How long the running mean of the squared gradient remembers.", 0.0, 0.99999, step=0.001)
    epsilon: float = setting(1e-8, "Added to the divisor, so that a gradient of zero divides nothing by zero.", 0.0, 1.0, step=1e-9)
