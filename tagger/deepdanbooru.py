"""DeepDanbooru as A1111's webui has it: one torch file, `model-resnet_custom_v3.pt`, that holds the weights and the tags.

The network is KichangKim/DeepDanbooru's resnet_custom_v3 (MIT): six stages of bottleneck blocks (He et al. 2015), without normalisation
since that is folded into the weights, padded as TensorFlow does. The names of the weights are those of AUTOMATIC1111/TorchDeepDanbooru,
where the convolutions are counted as an exporter met them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .categories import GENERAL, RATING
from .errors import TaggerError
from .known import DEEPDANBOORU_MODEL
from .labels import Labels

if TYPE_CHECKING:
    import torch

TAGS_KEY = "tags"
NUM_BLOCKS = (3, 8, 20, 20, 3, 3)
"""Of each stage. All but the first stage halve both sides."""
_SHORTCUT_BEHIND = 3
"""In this stage the convolution of the shortcut is counted behind those of its block, elsewhere in front of them."""
_RATING = "rating:"
_AGAIN = f"Download {DEEPDANBOORU_MODEL} again from https://github.com/AUTOMATIC1111/TorchDeepDanbooru/releases."


def read_torch_labels(file: Path) -> Labels:
    """The tags in the model file; those that start with `rating:` are ratings. Raises TaggerError."""
    state = file.stat()
    return _labels(file, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _labels(file: Path, size_bytes: int, mtime_ns: int) -> Labels:  # size and time: a changed file is read again
    tags = _load(file)[TAGS_KEY]
    return Labels(tuple(tags), tuple(RATING if tag.startswith(_RATING) else GENERAL for tag in tags))


class DeepDanbooru:
    """The network on the best device there is, called as an onnxruntime session is."""

    def __init__(self, file: Path):
        """Raises TaggerError if the file is not that model, or torch is not there."""
        torch = _import_torch()
        self._file = file
        weights = {name: tensor for name, tensor in _load(file).items() if name != TAGS_KEY}
        self.device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        self._weights = {name: tensor.to(self.device, torch.float32) for name, tensor in weights.items()}

    def run(self, outputs: list[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Probabilities float32 [n, tags] of float32 [n, 512, 512, 3], RGB from 0 to 1."""
        import torch

        (pixels,) = feeds.values()
        with torch.inference_mode():
            return [forward(self._weights, torch.from_numpy(pixels).to(self.device)).cpu().numpy()]


def forward(weights: Mapping[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """Probabilities [n, tags] of `pixels` [n, height, width, 3], RGB from 0 to 1."""
    import torch
    from torch.nn import functional

    def convolved(number: int, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = weights[f"n_Conv_{number}.weight"]
        padding = max(0, weight.shape[-1] - stride)  # TensorFlow's "same": what is odd of it goes to the right and to the bottom
        before, after = padding // 2, padding - padding // 2
        x = functional.pad(x, (before, after, before, after)) if padding else x
        return functional.conv2d(x, weight, weights.get(f"n_Conv_{number}.bias"), stride)

    x = functional.relu(convolved(0, pixels.permute(0, 3, 1, 2), 2))
    x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)
    number = 1
    for stage, num_blocks in enumerate(NUM_BLOCKS):
        for block in range(num_blocks):
            stride = 2 if stage and not block else 1
            first, shortcut = number, None
            if not block:
                behind = stage == _SHORTCUT_BEHIND
                first, shortcut = (number, number + 3) if behind else (number + 1, number)
            inner = functional.relu(convolved(first, x))
            inner = functional.relu(convolved(first + 1, inner, stride))
            x = functional.relu(convolved(first + 2, inner) + (x if shortcut is None else convolved(shortcut, x, stride)))
            number += 3 if shortcut is None else 4
    return torch.sigmoid(convolved(number, x).mean((2, 3)))


def expected_shapes(num_tags: int, width: int = 64) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights; `width` is that of the first convolution, 64 in the model that there is."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(number: int, into: int, out: int, side: int) -> None:
        shapes[f"n_Conv_{number}.weight"] = (out, into, side, side)
        shapes[f"n_Conv_{number}.bias"] = (out,)

    add(0, 3, width, 7)
    number, into = 1, width
    for stage, (num_blocks, times) in enumerate(zip(NUM_BLOCKS, (1, 2, 4, 4, 8, 16), strict=True)):
        inner, out = width * times, 4 * width * times
        for block in range(num_blocks):
            shortcut = (number + 3 if stage == _SHORTCUT_BEHIND else number) if not block else None
            first = number + (shortcut == number)
            for offset, (before, after, side) in enumerate(((into, inner, 1), (inner, inner, 3), (inner, out, 1))):
                add(first + offset, before, after, side)
            if shortcut is not None:
                add(shortcut, into, out, 1)
            number, into = number + (3 if shortcut is None else 4), out
    shapes[f"n_Conv_{number}.weight"] = (num_tags, into, 1, 1)
    return shapes


def _load(file: Path) -> dict[str, Any]:
    """Weights and tags. As tensors only: a pickle that would do anything else is refused by torch."""
    torch = _import_torch()
    try:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files of before torch 1.6 cannot be mapped
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle's errors, zip's, its own and more for what is no model
        raise TaggerError(
            f"{file} ({file.stat().st_size:,} bytes) cannot be read as a torch model: {str(error).splitlines()[0]}. {_AGAIN}"
        ) from error
    problem = _problem(state)
    if problem:
        raise TaggerError(f"{file} is not A1111's DeepDanbooru model: {problem}. {_AGAIN}")
    return state


def _problem(state: Any) -> str:
    tags = state.get(TAGS_KEY) if isinstance(state, Mapping) else None
    if not isinstance(tags, list) or not tags or not all(isinstance(tag, str) for tag in tags):
        return "it holds no list of tags"
    first = state.get("n_Conv_0.weight")
    expected = expected_shapes(len(tags), first.shape[0] if hasattr(first, "shape") and len(first.shape) == 4 else 64)
    found = {name: tuple(tensor.shape) for name, tensor in state.items() if hasattr(tensor, "shape")}
    for name, shape in expected.items():
        if found.get(name) != shape:
            there = f"is {list(found[name])}" if name in found else "is missing"
            return f"{name} {there} where {list(shape)} is expected"
    unknown = sorted(found.keys() - expected.keys())
    return f"it has the unknown weight {unknown[0]}" if unknown else ""


def _import_torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise TaggerError(f"DeepDanbooru needs torch, which cannot be imported ({error}). Choose another tagger.") from error
    return torch
