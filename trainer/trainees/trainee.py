"""What is trained: named parameters in groups of one rate each, and how they are written to an epoch's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate."""

    name: str
    rate: float
    parameters: Mapping[str, torch.Tensor]
    num_modules: int
    until: float = 1.0
    """For which share of the run they learn; then they stay as they are."""
    weight_decay: float | None = None
    """None for that of the training."""

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters.values())


def _no_randomness(draw: int) -> AbstractContextManager[None]:
    return nullcontext()


def _nothing() -> None:
    return None


def _no_words(files: Mapping[str, Path]) -> None:
    return None


@dataclass(frozen=True)
class Trainee:
    groups: tuple[Group, ...]
    export: Callable[[], dict[str, torch.Tensor]]
    """The tensors of an epoch's file, fp32, on the CPU."""
    caption: Callable[[str, int], str]
    """From an image's caption and a draw (any whole number) to the prompt that it is trained with."""
    prompt: Callable[[str], str]
    """From a sample picture's prompt to the one that is encoded: an embedding's name becomes its tokens."""
    take: Callable[[Path], None]
    """Puts the numbers of an epoch's file in the place of what was trained so far. Raises AthanorError if it is of another form."""
    dropping: Callable[[int], AbstractContextManager[None]] = _no_randomness
    """Around the forward pass of a step: what is dropped out follows from the run's seed and the draw (any whole number)."""
    rest: Callable[[], None] = _nothing
    """Nothing is dropped out until the next `dropping`: before pictures are drawn and losses are measured."""
    switched_off: Callable[[], AbstractContextManager[None]] | None = None
    """Inside it the models answer as the base does; None where nothing of the base is left to ask."""
    after_step: Callable[[], None] = _nothing
    """Once the optimizer has moved the parameters: keeps them within their limits."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the file tells of its own form."""
    notes: tuple[str, ...] = ()
    """What is no problem but should be known."""
    save: Callable[[Path, Mapping[str, str], str], str] | None = None
    """Writes an epoch's file with its metadata in a precision, and returns its sha256; None where `export` is to be written."""
    words: Callable[[], dict[str, dict[str, torch.Tensor]]] = dict
    """The tensors of each further file of an epoch, an embedding's, by its name; as of `export`."""
    take_words: Callable[[Mapping[str, Path]], None] = _no_words
    """As `take`, of these files."""

    def parameters(self) -> dict[str, torch.Tensor]:
        return {f"{group.name}.{name}": parameter for group in self.groups for name, parameter in group.parameters.items()}
