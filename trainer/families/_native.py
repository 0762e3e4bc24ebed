"""Models out of safetensors files as ComfyUI's users have them: parts under a prefix, any storage dtype, no second copy in memory.

Tensors are views of the mapped file until they are cast. An fp8 file's scales (`scale_weight` of the first scaled files,
`weight_scale` of ComfyUI's own) are multiplied in; the input scales belong to fp8 arithmetic and are left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..formats.header import is_safe, pickled_tensors
from ..formats.native import Place, Places

if TYPE_CHECKING:
    import torch
    from torch import nn

_KNOWN_QUANTS = ("float8_e4m3fn", "float8_e5m2")
_SCALES = ("scale_weight", "weight_scale")
_OF_ARITHMETIC = (*_SCALES, "scale_input", "input_scale", "comfy_quant", "scaled_fp8")
"""What tells how the weights beside it are stored, and says nothing any more once they are unfolded."""
RUNNING_MEAN = "model_ema."
"""Before the names of a copy of the weights that some checkpoints keep of their own training."""


def is_of_arithmetic(name: str) -> bool:
    return name.rpartition(".")[2] in _OF_ARITHMETIC


class _Pickled:
    """An old `.ckpt`, read without running any code in it, as safetensors' reader shows its files."""

    def __init__(self, path: Path):
        self._tensors = pickled_tensors(path)

    def keys(self) -> list[str]:
        return list(self._tensors)

    def get_tensor(self, name: str) -> torch.Tensor:
        return self._tensors[name]


class TensorFile:
    """The tensors of one file whose names begin with `prefix`, named without it."""

    def __init__(self, path: Path, prefix: str = ""):
        from safetensors import safe_open

        self.path, self._prefix = path, prefix
        try:
            self._file = safe_open(path, framework="pt").__enter__() if is_safe(path) else _Pickled(path)
        except Exception as error:
            raise AthanorError(f"{path} cannot be read: {error}.") from None
        self.names = frozenset(name[len(prefix) :] for name in self._file.keys() if name.startswith(prefix))  # noqa: SIM118

    def stored(self, name: str) -> torch.Tensor:
        """The tensor as the file has it, a view of the mapped file."""
        return self._file.get_tensor(self._prefix + name)

    def rows(self, name: str, place: Place, dtype: torch.dtype) -> torch.Tensor:
        """The rows of `place`, in `dtype`, scales multiplied in. Raises AthanorError for a format of weights that is not known."""
        layer, _, leaf = name.rpartition(".")
        tensor = self.stored(name)
        scale = next((self.stored(f"{layer}.{kind}") for kind in _SCALES if f"{layer}.{kind}" in self.names), None) if leaf == "weight" else None
        if scale is None:
            return place.rows(tensor).to(dtype)
        self._check_quant(layer)
        # One scale a tensor, or one a row of it.
        scale = scale.float()
        if scale.numel() == 1:
            return (place.rows(tensor).float() * scale.reshape(())).to(dtype)
        return (place.rows(tensor).float() * place.rows(scale.reshape(tensor.shape[0], *[1] * (tensor.ndim - 1)))).to(dtype)

    def _check_quant(self, layer: str) -> None:
        if f"{layer}.comfy_quant" not in self.names:
            return
        kind = json.loads(bytes(self.stored(f"{layer}.comfy_quant").tolist())).get("format")
        if kind not in _KNOWN_QUANTS:
            raise AthanorError(
                f"{self.path} keeps its weights as {kind}, which cannot be trained upon; choose the bf16, fp16 or fp8 file of this model."
            )


def empty(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` makes, its weights without memory until they are filled in; its computed buffers are real."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        return build()


def fill(module: nn.Module, file: TensorFile, locate: Callable[[str], tuple[tuple[str, ...], Place]], dtype: torch.dtype, what: str) -> nn.Module:
    """Gives every tensor of `module` that of the file; returns it frozen and in evaluation mode.

    `locate` says under which names the file may have a tensor of `module`, and which rows of it are meant.
    Raises AthanorError for the first one that is missing or has another shape.
    """
    tensors = {}
    for name, wanted in module.state_dict().items():
        choices, place = locate(name)
        found = next((choice for choice in choices if choice in file.names), None)
        if found is None:
            raise AthanorError(f"{file.path} lacks {choices[0]}; it is not a whole {what}. Get the file again, or choose another.")
        tensors[name] = file.rows(found, place, dtype)
        if _without_ones(tensors[name].shape) == _without_ones(wanted.shape):
            # A convolution of one pixel is a linear layer: files have either.
            tensors[name] = tensors[name].reshape(wanted.shape)
        if tensors[name].shape != wanted.shape:
            raise AthanorError(f"{found} in {file.path} has the shape {tuple(tensors[name].shape)}, {what} wants {tuple(wanted.shape)}.")
    module.load_state_dict(tensors, assign=True)
    return module.eval().requires_grad_(False)


def _without_ones(shape: torch.Size) -> tuple[int, ...]:
    sizes = list(shape)
    while len(sizes) > 2 and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def locate_in(places: Places, others: dict[str, str] | None = None) -> Callable[[str], tuple[tuple[str, ...], Place]]:
    """For `fill`: weights and biases of the modules in `places`; norms may call their weight `scale`. `others` names single tensors."""

    def locate(name: str) -> tuple[tuple[str, ...], Place]:
        if others and name in others:
            return (others[name],), Place("")
        module, _, leaf = name.rpartition(".")
        place = places[module]
        return (f"{place.module}.{leaf}", *((f"{place.module}.scale",) if leaf == "weight" else ())), place

    return locate


def count_blocks(names: Iterable[str], prefix: str) -> int:
    """How many blocks `prefix.0.`, `prefix.1.`… there are."""
    start = len(prefix) + 1
    return 1 + max((int(name[start:].split(".", 1)[0]) for name in names if name.startswith(f"{prefix}.")), default=-1)
