"""The tensors of a base's files as a file to come has them: each is read when it is its turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..families._native import RUNNING_MEAN, TensorFile, is_of_arithmetic
from ..formats.files import Planned, Streamed
from ..formats.header import Header, read_model_header
from ..formats.native import Place

if TYPE_CHECKING:
    import torch

Precision = Literal["as it is", "fp16", "bf16", "fp32"]
PRECISIONS: tuple[Precision, ...] = ("as it is", "fp16", "bf16", "fp32")
_FLOATS = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}
Sources = dict[str, Streamed]
"""By the tensors' names in the file to come; fp8's scales are worked in."""


def sources_of_file(path: Path) -> Sources:
    """Of a safetensors file or an old `.ckpt`. fp8 is unfolded to bf16, which holds all that it can say."""
    file, header = TensorFile(path), read_model_header(path)
    found: Sources = {}
    for name, shape in header.shapes.items():
        if name.startswith(RUNNING_MEAN) or is_of_arithmetic(name):  # the mean would stay without the changes
            continue
        dtype = header.dtypes.get(name) or Planned.like(file.stored(name)).dtype
        found[name] = _folded(file, name, shape) if dtype.startswith("F8_") else Streamed(Planned(dtype, shape), _reader(file, name))
    return found


def in_precision(sources: Sources, precision: Precision) -> Sources:
    """With what is no whole number in that precision."""
    if precision == "as it is":
        return sources
    return {
        name: replace(source, planned=replace(source.planned, dtype=_FLOATS[precision])) if "F" in source.planned.dtype else source
        for name, source in sources.items()
    }


def header_of(sources: Sources) -> Header:
    """As the file to come will have it."""
    return Header(
        {name: source.planned.shape for name, source in sources.items()}, {name: source.planned.dtype for name, source in sources.items()}, {}
    )


def _reader(file: TensorFile, name: str) -> Callable[[], torch.Tensor]:
    return lambda: file.stored(name)


def _folded(file: TensorFile, name: str, shape: tuple[int, ...]) -> Streamed:
    import torch

    return Streamed(Planned("BF16", shape), lambda: file.rows(name, Place(""), torch.float32))
