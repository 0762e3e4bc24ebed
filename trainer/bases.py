"""What a base model is, told from its headers: family, sizes, fingerprint. Reads no weights."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .errors import AthanorError
from .families import all_families
from .families._weights import folder_weights
from .families.base import BaseFacts, Family
from .files import content_fingerprint
from .formats.contents import describe_contents, packed_as
from .formats.header import MODEL_ENDINGS, read_header, read_model_header
from .types import BaseModel

_DENOISERS = ("unet", "transformer")
"""Folders of diffusers."""
_DENOISER_PREFIX = "model.diffusion_model."


def describe_base(
    path: Path,
    tokenizer_folders: Sequence[Path] = (),
    text_encoders: Sequence[Path] = (),
    vae: Path | None = None,
    clip_skip: int = 0,
    prediction: str = "auto",
    may_download: bool = False,
) -> BaseModel:
    """Recognises a checkpoint file, a diffusers folder or a denoiser's file; `text_encoders` and `vae` are files beside it.

    `prediction` is "auto", "epsilon" or "v". Raises AthanorError that says what `path` is instead.
    """
    for each in (path, *text_encoders, *((vae,) if vae else ())):
        if not each.exists():
            raise AthanorError(f"There is no model at {each}; put one there, or choose another.")
    family, facts = _of_folder(path) if path.is_dir() else _of_file(path)
    if prediction != "auto":
        if facts.prediction == "flow":
            raise AthanorError(f"{path.name} is {family.title}, which predicts neither noise nor v; leave the prediction at auto.")
        facts = replace(facts, prediction=prediction, zero_terminal_snr=facts.zero_terminal_snr and prediction == "v")
    return BaseModel(
        name=path.name if path.is_dir() else path.stem,
        family=family.name,
        path=str(path.resolve()),
        fingerprint=base_fingerprint(path, text_encoders, vae),
        native_px=facts.native_px,
        bucket_step_px=facts.bucket_step_px,
        tokenizer_folders=tuple(str(folder) for folder in tokenizer_folders),
        text_encoder_paths=tuple(str(each.resolve()) for each in text_encoders),
        vae_path=str(vae.resolve()) if vae else "",
        prediction=facts.prediction,
        zero_terminal_snr=facts.zero_terminal_snr,
        variant=facts.variant,
        clip_skip=clip_skip,
        may_download=may_download,
    )


def base_fingerprint(path: Path, text_encoders: Sequence[Path] = (), vae: Path | None = None) -> str:
    """Of the content of all files; one file alone has its own."""
    parts = [content_fingerprint(each) for each in (path, *text_encoders, *((vae,) if vae else ()))]
    return parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode("ascii")).hexdigest()


def count_denoiser_weights(base: BaseModel) -> int:
    """From the headers of its files alone."""
    path = Path(base.path)
    if path.is_dir():
        weights = next(found for each in _DENOISERS if (found := folder_weights(path / each, "diffusion_pytorch_model")) is not None)
        return sum(math.prod(shape) for file in weights.files for shape in read_header(file).shapes.values())
    shapes = read_model_header(path).shapes
    inside = [shape for key, shape in shapes.items() if key.startswith(_DENOISER_PREFIX)]
    return sum(math.prod(shape) for shape in inside or shapes.values())


def _known() -> str:
    return ", ".join(family.title for family in all_families())


def _of_folder(folder: Path) -> tuple[Family, BaseFacts]:
    for family in all_families():
        if family.matches_folder(folder):
            return family, family.facts_of_folder(folder)
    raise AthanorError(
        f"{folder} is not a diffusers folder of a family that can be trained ({_known()}); such a folder holds model_index.json and a folder for each part."
    )


def _of_file(path: Path) -> tuple[Family, BaseFacts]:
    if path.suffix.lower() == ".gguf":
        raise AthanorError(f"{path} keeps its weights as GGUF, which cannot be trained upon; choose the bf16, fp16 or fp8 file of this model.")
    if path.suffix.lower() not in MODEL_ENDINGS:
        raise AthanorError(f"{path} is not a model file; its name must end in {', '.join(MODEL_ENDINGS[:-1])} or {MODEL_ENDINGS[-1]}.")
    header = read_model_header(path)
    if packed := packed_as(header):
        raise AthanorError(f"{path} keeps its weights as {packed}, which cannot be trained upon; choose the bf16, fp16 or fp8 file of this model.")
    try:
        for family in all_families():
            if family.matches(header):
                return family, family.facts_of_file(header)
    except AthanorError as error:
        raise AthanorError(f"{path}: {error}") from None
    raise AthanorError(f"{path} is {describe_contents(header)}, not a checkpoint that can be trained upon. Choose one of: {_known()}.")
