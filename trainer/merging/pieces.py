"""The files that a base is kept in, and which of its parts each has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..families import family
from ..families.base import TEXT_PARTS, ModulePlaces, Part
from ..formats.header import read_model_header
from ..trainees.checkpoint_file import part_as_saved
from ..types import BaseModel
from .additions import Weights
from .sources import Precision, Sources, header_of, in_precision, sources_of_file

_BESIDE_THE_DENOISER = ("first_stage_model.", "vae.", "cond_stage_model.", "conditioner.", "text_encoders.")


@dataclass(frozen=True)
class Piece:
    """One file of the base, as it will be written."""

    path: Path
    """Of the base's own file or folder."""
    folder: Literal["checkpoints", "diffusion_models", "text_encoders"]
    """Of ComfyUI's models, where its loader looks for such a file."""
    sources: Sources
    places: Mapping[Part, ModulePlaces]
    metadata: Mapping[str, str]

    @property
    def weights(self) -> Weights:
        return Weights(self.places, {name: source.planned.shape for name, source in self.sources.items()})

    @property
    def is_main(self) -> bool:
        return self.folder != "text_encoders"


def pieces_of(base: BaseModel, precision: Precision) -> tuple[Piece, ...]:
    """The file with the denoiser first, then those of text encoders. Raises AthanorError for a file that cannot be read."""
    if Path(base.path).is_dir():
        return _pieces_of_folder(base, precision)
    encoders = [_encoder_piece(base, Path(path), precision) for path in base.text_encoder_paths]
    main = _main_piece(base, precision)
    pieces, taken = [], set()
    # As the loaders do, text encoders in files of their own come before those in the checkpoint.
    for piece in (*encoders, main):
        places = {part: found for part, found in piece.places.items() if found and part not in taken}
        taken |= places.keys()
        pieces.append(Piece(piece.path, piece.folder, piece.sources, places, piece.metadata))
    return (pieces[-1], *(piece for piece in pieces[:-1] if piece.places))


def _main_piece(base: BaseModel, precision: Precision) -> Piece:
    path = Path(base.path)
    header = read_model_header(path)
    folder = "checkpoints" if header.any_key(*_BESIDE_THE_DENOISER) else "diffusion_models"
    return Piece(path, folder, in_precision(sources_of_file(path), precision), family(base.family).weights_in(header), header.metadata)  # type: ignore[arg-type]


def _encoder_piece(base: BaseModel, path: Path, precision: Precision) -> Piece:
    header = read_model_header(path)
    places = {part: found for part, found in family(base.family).weights_in(header).items() if part in TEXT_PARTS}
    return Piece(path, "text_encoders", in_precision(sources_of_file(path), precision), places, header.metadata)


def _pieces_of_folder(base: BaseModel, precision: Precision) -> tuple[Piece, ...]:
    """One checkpoint where the family has such; otherwise a file for each part but the VAE, which loaders take from the folder."""
    of_family, path = family(base.family), Path(base.path)
    files: dict[str, Sources] = {}
    for saved in of_family.saved_parts(base):
        files.setdefault("" if of_family.saves_whole else saved.file, {}).update(part_as_saved(saved, trained={}))
    pieces = []
    for name, sources in files.items():
        folder = "text_encoders" if name else "checkpoints" if of_family.saves_whole else "diffusion_models"
        places = {part: found for part, found in of_family.weights_in(header_of(sources)).items() if found and (not name or part in TEXT_PARTS)}
        pieces.append(Piece(path / name if name else path, folder, in_precision(sources, precision), places, {}))  # type: ignore[arg-type]
    return tuple(pieces)
