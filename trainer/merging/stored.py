"""Where a base keeps the weight of each module, and reading them one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..families import family
from ..families._native import TensorFile
from ..families._weights import folder_weights
from ..families.base import PARTS, Part
from ..formats.header import read_header, read_model_header
from ..formats.native import Place
from ..types import BaseModel

if TYPE_CHECKING:
    import torch

_WEIGHT = ".weight"
_FOLDERS = {"denoiser": (("unet", "diffusion_pytorch_model"), ("transformer", "diffusion_pytorch_model"))}


@dataclass(frozen=True)
class StoredWeight:
    path: Path
    name: str
    place: Place
    shape: tuple[int, ...]
    """Of the module's weight: (out, in), or (out, in, height, width) of a convolution."""


class StoredWeights:
    """The weights of the linear layers and convolutions that adapters are made for, by part and by the module's name. Opens each file once."""

    def __init__(self, base: BaseModel):
        self.by_part: dict[Part, dict[str, StoredWeight]] = _of_folder(base) if Path(base.path).is_dir() else _of_files(base)
        self._files: dict[Path, TensorFile] = {}

    def read(self, part: Part, module: str) -> tuple[torch.Tensor, torch.dtype]:
        """In fp32, fp8's scales worked in; and the precision in which the file has it."""
        import torch

        held = self.by_part[part][module]
        file = self._files.get(held.path)
        if file is None:
            file = self._files[held.path] = TensorFile(held.path)
        return file.rows(held.name, held.place, torch.float32), file.stored(held.name).dtype


def _of_files(base: BaseModel) -> dict[Part, dict[str, StoredWeight]]:
    found: dict[Part, dict[str, StoredWeight]] = {}
    for path in map(Path, (*base.text_encoder_paths, base.path)):
        header = read_model_header(path)
        for part, places in family(base.family).weights_in(header).items():
            if part in found or not places:
                continue
            held = {}
            for module, (name, place) in places.items():
                rows, *others = header.shapes[name]
                if others:
                    held[module] = StoredWeight(path, name, place, (rows * place.size // place.of, *others))
            found[part] = held
    return {part: found[part] for part in PARTS if part in found}


def _of_folder(base: BaseModel) -> dict[Part, dict[str, StoredWeight]]:
    found: dict[Part, dict[str, StoredWeight]] = {}
    for part in PARTS:
        for folder, stem in _FOLDERS.get(part, ((part, "model"),)):
            weights = folder_weights(Path(base.path) / folder, stem)
            for path in weights.files if weights else ():
                for name, shape in read_header(path).shapes.items():
                    module = name.removesuffix(_WEIGHT)
                    if name.endswith(_WEIGHT) and len(shape) > 1 and (part == "denoiser" or "embed" not in module):
                        found.setdefault(part, {})[module] = StoredWeight(path, name, Place(""), shape)
    return found
