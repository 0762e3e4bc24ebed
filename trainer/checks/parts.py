"""Files of text encoders and of a VAE that were chosen beside a model and give it nothing. Only headers are read."""

from __future__ import annotations

from pathlib import Path

from ..errors import AthanorError
from ..families.base import TEXT_PARTS, Family
from ..formats.header import read_model_header
from ..types import BaseModel

_VAE_PREFIXES = ("", "vae.", "first_stage_model.")


def unused_files(base: BaseModel, family: Family) -> tuple[str, ...]:
    """A sentence for each of them. Its other files must be known to be whole."""
    told, given = [], set[str]()
    for path in map(Path, base.text_encoder_paths):
        if Path(base.path).is_dir():
            told.append(f"The text encoder {path.name} does nothing, since the folder {base.name} has its own; set it back in Load Base Model.")
            continue
        parts = _text_parts(path, family)
        if parts is not None and not parts - given:
            why = f"{family.title} reads none of that kind" if not parts else "another of the files has the same"
            told.append(f"The text encoder {path.name} does nothing, since {why}; choose another in Load Base Model, or none.")
        given |= parts or set()
    if base.vae_path and not _has_vae(Path(base.vae_path), family.latent_channels):
        told.append(
            f"{Path(base.vae_path).name} is no VAE for {family.title}, whose latents have {family.latent_channels} channels; choose another in Load Base Model, or none."
        )
    return tuple(told)


def _text_parts(path: Path, family: Family) -> set[str] | None:
    """None where the file does not tell."""
    try:
        places = family.weights_in(read_model_header(path))
    except AthanorError:
        return None
    return {part for part in TEXT_PARTS if places.get(part)}


def _has_vae(path: Path, channels: int) -> bool:
    shapes = read_model_header(path).shapes
    return any(len(shape := shapes.get(f"{prefix}decoder.conv_in.weight", ())) == 4 and shape[1] == channels for prefix in _VAE_PREFIXES)
