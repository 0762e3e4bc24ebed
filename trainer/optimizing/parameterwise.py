"""An optimizer for each tensor: moved one after the other, so that what a step needs beside the weights is in memory for one of them at a time.

`fuse` moves each as soon as its gradient is there, and frees the gradient (Lv et al. 2023, "LOMO").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..trainees.trainee import Group
from .optimizers import ParameterGroups
from .rounding import in_fp32

if TYPE_CHECKING:
    import torch


class Parameterwise:
    """Has what Updates needs of an optimizer. `seed_of`: from a tensor's number to the seed of its rounding at this step."""

    def __init__(self, groups: Sequence[Group], build: Callable[[ParameterGroups], torch.optim.Optimizer], seed_of: Callable[[int], int]):
        self._seed_of = seed_of
        self.param_groups: list[dict[str, Any]] = [{"lr": group.rate} for group in groups]
        self._single = [
            (name, tensor, build([{"params": [tensor], "lr": group.rate}]), of)
            for group, of in zip(groups, self.param_groups, strict=True)
            for name, tensor in ((f"{group.name}.{key}", tensor) for key, tensor in group.parameters.items())
        ]
        self._fused = False

    def fuse(self) -> None:
        """From now on a backward pass moves the weights, at the rates that are set before it."""
        self._fused = True
        for number, (_, tensor, _, _) in enumerate(self._single):
            tensor.register_post_accumulate_grad_hook(lambda _, number=number: self._move(number))

    def _move(self, number: int) -> None:
        _, tensor, optimizer, group = self._single[number]
        optimizer.param_groups[0]["lr"] = group["lr"]
        with in_fp32([tensor], self._seed_of(number)):
            optimizer.step()
        tensor.grad = None

    def step(self) -> None:
        if self._fused:
            return
        for number, (_, tensor, _, _) in enumerate(self._single):
            if tensor.grad is not None:
                self._move(number)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for _, tensor, _, _ in self._single:
            tensor.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {name: optimizer.state_dict() for name, _, optimizer, _ in self._single}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for number, (name, tensor, optimizer, _) in enumerate(self._single):
            # torch gives the running means the number format that the weight has at this moment.
            with in_fp32([tensor], self._seed_of(number)):
                optimizer.load_state_dict(state[name])
