"""BLIP (Li et al. 2022): one short sentence, in the manner of COCO's captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..settings import CaptioningSettings
from .base import CAPTIONERS, checked, stopping

if TYPE_CHECKING:
    import torch
    from PIL import Image


@CAPTIONERS.register("blip")
class Blip:
    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype):
        from transformers import BlipForConditionalGeneration, BlipProcessor

        model, told = BlipForConditionalGeneration.from_pretrained(folder, local_files_only=True, dtype=dtype, output_loading_info=True)
        self._model = checked(model, told["missing_keys"], folder).to(device)
        self._processor = BlipProcessor.from_pretrained(folder, local_files_only=True)

    def describe(self, images: Sequence[Image.Image], settings: CaptioningSettings, is_stopped: Callable[[], bool]) -> list[str]:
        """A text for each RGB image, in order."""
        import torch

        beginning = settings.beginning.strip()
        inputs = self._processor(images=list(images), text=[beginning] * len(images) if beginning else None, return_tensors="pt")
        with torch.inference_mode():
            tokens = self._model.generate(
                **inputs.to(self._model.device, self._model.dtype),
                max_new_tokens=settings.max_tokens,
                num_beams=settings.num_beams,
                do_sample=False,
                stopping_criteria=stopping(is_stopped),
            )
        return [text.strip() for text in self._processor.batch_decode(tokens, skip_special_tokens=True)]
