"""Components out of the files that people have: a diffusers folder, or one checkpoint file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AthanorError

if TYPE_CHECKING:
    import torch
    from torch import nn


def read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AthanorError(f"{path} cannot be read: {error}.") from None
    if not isinstance(data, dict):
        raise AthanorError(f"{path} is not a JSON object.")
    return data


def folder_weights(folder: Path, stem: str) -> tuple[Path, str | None] | None:
    """The weights file of a component's folder and its variant: the plain one first, then the fp16 one."""
    for variant in (None, "fp16"):
        name = f"{stem}.safetensors" if variant is None else f"{stem}.{variant}.safetensors"
        if (folder / name).is_file() or (folder / f"{name}.index.json").is_file():
            return folder / name, variant
    return None


def read_tensors(path: Path, prefixes: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint whose names begin with one of `prefixes`; the others are not read.

    An old `.ckpt` is a pickle: it is read with `weights_only=True`, which runs no code.
    """
    if path.suffix.lower() == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefixes)}  # noqa: SIM118
    import torch

    data = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    state = data.get("state_dict", data)
    return {key: value for key, value in state.items() if key.startswith(prefixes)}


def load_component(model_class: type, base_path: Path, subfolder: str, configs: Path, prefix: str, dtype: torch.dtype) -> nn.Module:
    """A diffusers model, frozen and in evaluation mode, from a folder or from the part of a checkpoint under `prefix`."""
    if base_path.is_dir():
        found = folder_weights(base_path / subfolder, "diffusion_pytorch_model")
        module = model_class.from_pretrained(
            base_path / subfolder, torch_dtype=dtype, variant=found[1] if found else None, use_safetensors=True, local_files_only=True
        )
    else:
        module = model_class.from_single_file(
            read_tensors(base_path, (prefix,)), config=str(configs), subfolder=subfolder, torch_dtype=dtype, local_files_only=True
        )
    return module.eval().requires_grad_(False)
