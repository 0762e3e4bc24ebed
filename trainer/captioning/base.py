"""What a captioner is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import AthanorError
from ..registry import Registry
from ..settings import CaptioningSettings

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from transformers import PreTrainedModel


class Captioner(Protocol):
    def describe(self, images: Sequence[Image.Image], settings: CaptioningSettings, is_stopped: Callable[[], bool]) -> list[str]:
        """A text for each RGB image, in order; whatever, if `is_stopped` says so meanwhile."""
        ...


Load = Callable[[Path, "torch.device", "torch.dtype"], Captioner]
"""Loads the model in a folder onto a device. Raises AthanorError that names the folder."""

CAPTIONERS: Registry[Load] = Registry("captioner")


def checked(model: PreTrainedModel, missing: Sequence[str], folder: Path) -> PreTrainedModel:
    """`model`, ready to write. Raises AthanorError if weights were not in its file: they would be random."""
    if missing:
        raise AthanorError(
            f"The captioner in {folder} is not whole: {len(missing)} of its weights are missing, the first is {sorted(missing)[0]}. Download it again."
        )
    return model.eval().requires_grad_(False)


def stopping(is_stopped: Callable[[], bool]) -> list[Callable]:
    """Ends a generation between two tokens."""
    import torch
    from transformers import StoppingCriteriaList

    def ends(input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:  # called so by transformers
        return torch.full((input_ids.shape[0],), is_stopped(), dtype=torch.bool, device=input_ids.device)

    return StoppingCriteriaList([ends])
