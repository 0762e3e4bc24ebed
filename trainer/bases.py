"""What a base model is, told from its headers: family, sizes, fingerprint. Reads no weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import AthanorError
from .families import all_families
from .families.base import Family
from .files import content_fingerprint
from .formats.header import Header, describe_contents, read_header
from .types import BaseModel

CHECKPOINT_ENDINGS = (".safetensors", ".ckpt")


def describe_base(path: Path, tokenizer_folders: Sequence[Path] = ()) -> BaseModel:
    """Recognises a checkpoint file or a diffusers folder. Raises AthanorError that says what `path` is instead."""
    if not path.exists():
        raise AthanorError(f"There is no model at {path}; put one there, or choose another.")
    family = _of_folder(path) if path.is_dir() else _of_file(path)
    native_px, bucket_step_px = family.sizes_px(path)
    return BaseModel(
        name=path.name if path.is_dir() else path.stem,
        family=family.name,
        path=str(path.resolve()),
        fingerprint=content_fingerprint(path),
        native_px=native_px,
        bucket_step_px=bucket_step_px,
        tokenizer_folders=tuple(str(folder) for folder in tokenizer_folders),
    )


def _known() -> str:
    return ", ".join(family.title for family in all_families())


def _of_folder(folder: Path) -> Family:
    for family in all_families():
        if family.matches_folder(folder):
            return family
    raise AthanorError(
        f"{folder} is not a diffusers folder of a family that can be trained ({_known()}); such a folder holds model_index.json and a folder for each part."
    )


def _of_file(path: Path) -> Family:
    if path.suffix.lower() not in CHECKPOINT_ENDINGS:
        raise AthanorError(f"{path} is not a model file; its name must end in {' or '.join(CHECKPOINT_ENDINGS)}.")
    header = read_header(path) if path.suffix.lower() == ".safetensors" else _pickled_header(path)
    for family in all_families():
        if family.matches(header):
            return family
    raise AthanorError(f"{path} is {describe_contents(header)}, not a checkpoint that can be trained upon. Choose one of: {_known()}.")


def _pickled_header(path: Path) -> Header:
    """Names and shapes of an old `.ckpt`, read without running any code in it."""
    import torch

    try:
        data = torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:
        raise AthanorError(f"{path} cannot be read as a checkpoint ({type(error).__name__}); convert it to safetensors.") from None
    state = data.get("state_dict", data)
    return Header({key: tuple(value.shape) for key, value in state.items() if hasattr(value, "shape")}, {}, {})
