"""What an adapter kind must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

KeyOf = Callable[[str], str]
"""From a module's name to the name under which the adapter file keeps it."""


class Adapter(Protocol):
    def attach(self, module: nn.Module, targets: str, rank: int, alpha: float, seed: int) -> tuple[str, ...]:
        """Puts fp32 adapters beside every module whose whole name matches `targets`; returns those names, sorted.

        The output of `module` does not change by this. The same seed starts from the same numbers on every device.
        """
        ...

    def parameters(self, module: nn.Module) -> dict[str, torch.Tensor]:
        """What is trained, by a name that stays the same from run to run."""
        ...

    def export(self, module: nn.Module, key_of: KeyOf) -> dict[str, torch.Tensor]:
        """The adapter's tensors under the file's names, on the CPU in fp32."""
        ...

    def load(self, module: nn.Module, tensors: Mapping[str, torch.Tensor], key_of: KeyOf) -> int:
        """The inverse of `export`; returns how many tensors were taken. Raises AthanorError where a module's are missing."""
        ...

    def set_strength(self, module: nn.Module, strength: float) -> None:
        """Multiplies the adapter's change of the output; 0 is the base alone."""
        ...
