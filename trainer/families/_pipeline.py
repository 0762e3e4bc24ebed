"""Diffusers folders: a part each, with its configuration beside its weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..formats.header import is_safe
from ._parts import damage, packed
from ._weights import folder_weights, read_json

if TYPE_CHECKING:
    import torch
    from torch import nn


def pipeline_class(folder: Path, part: str) -> str:
    """The class of a part of a diffusers folder; "" where there is no such part."""
    if not (folder / "model_index.json").is_file() or not (folder / part / "config.json").is_file():
        return ""
    return str(read_json(folder / part / "config.json").get("_class_name", ""))


def missing_components(folder: Path, parts: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """A sentence for each file that is absent or cut off; `parts` are folders and the beginning of their weights' names."""
    told = []
    for part, stem in parts:
        wanted = [folder / part / "config.json"]
        try:
            weights = folder_weights(folder / part, stem)
        except AthanorError as error:
            told.append(f"The base model is damaged: {error}")
            continue
        old = next((file for name in (stem, f"pytorch_{stem}") if (file := folder / part / f"{name}.bin").is_file()), None)
        if weights is None and old is not None:
            told.append(
                f"The base model has {old} alone, a pickle that could run code; get {stem}.safetensors from the model's page, or convert it to that."
            )
            continue
        wanted += weights.files if weights else [folder / part / f"{stem}.safetensors"]
        for file in wanted:
            if not file.is_file():
                told.append(f"The base model lacks {file}; copy it there from the model's page.")
            elif is_safe(file):
                told += damage(file) or packed(file)
    return tuple(told)


def component(kind: type, folder: Path, dtype: torch.dtype) -> nn.Module:
    """A model of diffusers or transformers, frozen and in evaluation mode."""
    stem = "diffusion_pytorch_model" if kind.__module__.startswith("diffusers.") else "model"
    found = folder_weights(folder, stem)
    module = kind.from_pretrained(  # type: ignore[attr-defined]
        str(folder), torch_dtype=dtype, variant=found.variant if found else None, use_safetensors=True, local_files_only=True
    )
    return module.eval().requires_grad_(False)
