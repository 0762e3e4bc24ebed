"""Diffusers folders: a part each, with its configuration beside its weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

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
    """A sentence for each file that is absent; `parts` are folders and the beginning of their weights' names."""
    missing = []
    for part, stem in parts:
        if not (folder / part / "config.json").is_file():
            missing.append(f"The base model lacks {folder / part / 'config.json'}; copy it there from the model's page.")
        if folder_weights(folder / part, stem) is None:
            missing.append(f"The base model lacks {folder / part / (stem + '.safetensors')}; copy it there from the model's page.")
    return tuple(missing)


def component(kind: type, folder: Path, dtype: torch.dtype) -> nn.Module:
    """A model of diffusers or transformers, frozen and in evaluation mode."""
    stem = "diffusion_pytorch_model" if kind.__module__.startswith("diffusers.") else "model"
    found = folder_weights(folder, stem)
    module = kind.from_pretrained(  # type: ignore[attr-defined]
        str(folder), torch_dtype=dtype, variant=found[1] if found else None, use_safetensors=True, local_files_only=True
    )
    return module.eval().requires_grad_(False)
