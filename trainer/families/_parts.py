"""Which file, and what prefix in it, has each part of a model that people keep in one file or in several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.cache_folder import BASES
from ..errors import AthanorError
from ..formats.contents import packed_as
from ..formats.header import Header, is_safe, read_header, read_model_header
from ..types import BaseModel
from ._native import TensorFile

_T5_KEY = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"
_VAE_KEY = "decoder.conv_in.weight"


@dataclass(frozen=True)
class PartKind:
    """A part as it is looked for: where its tensors begin in files of one part and of all parts, and what tells it from others."""

    title: str
    usual_file: str
    folder: str
    """Of ComfyUI's models."""
    prefixes: tuple[str, ...]
    key: str
    fits: Callable[[tuple[int, ...]], bool]
    """From the shape of `key`."""

    def prefix_in(self, header: Header) -> str | None:
        for prefix in self.prefixes:
            shape = header.shapes.get(prefix + self.key)
            if shape is not None and self.fits(shape):
                return prefix
        return None


T5 = PartKind(
    "T5-XXL",
    "t5xxl_fp16.safetensors",
    "text_encoders",
    ("text_encoders.t5xxl.transformer.", "t5xxl.transformer.", ""),
    _T5_KEY,
    lambda shape: True,
)


def vae(usual_file: str) -> PartKind:
    return PartKind("VAE", usual_file, "vae", ("vae.", "first_stage_model.", ""), _VAE_KEY, lambda shape: len(shape) == 4 and shape[1] == 16)


def find_part(kind: PartKind, paths: Iterable[str | Path]) -> tuple[Path, str] | None:
    """The first of the files that has the part, and the prefix of its tensors there. Files that cannot be read have none."""
    for path in map(Path, paths):
        try:
            header = read_model_header(path)
        except AthanorError:
            continue
        prefix = kind.prefix_in(header)
        if prefix is not None:
            return path, prefix
    return None


def broken_files(base: BaseModel) -> tuple[str, ...]:
    """A sentence for each of the base's files that is not there any more, or is cut off."""
    told = []
    for path in map(Path, base.files):
        if not path.exists():
            advice = "queue the graph again, which writes it anew" if path.parent.name == BASES else "choose another one in Load Base Model"
            told.append(f"The base model {path} is not there any more; {advice}.")
        elif path.is_file():
            told += damage(path) or packed(path)
    return tuple(told)


def damage(path: Path) -> tuple[str, ...]:
    """What is wrong with a file of weights; empty where it is whole, as far as its header tells."""
    try:
        read_model_header(path)
    except AthanorError as error:
        return (f"{error} Get it again, or choose another.",)
    return ()


def packed(path: Path) -> tuple[str, ...]:
    """A sentence where a file's weights are kept in a way that cannot be trained upon."""
    kept = packed_as(read_header(path)) if is_safe(path) else ""
    return (f"{path} keeps its weights as {kept}, which cannot be trained upon; get the bf16, fp16 or fp8 file of this model.",) if kept else ()


def text_paths(base: BaseModel) -> tuple[str, ...]:
    return (*base.text_encoder_paths, base.path)


def vae_paths(base: BaseModel) -> tuple[str, ...]:
    return (base.vae_path, base.path) if base.vae_path else (base.path,)


def open_part(kind: PartKind, paths: Iterable[str | Path]) -> TensorFile:
    """Raises AthanorError if none of the files has the part."""
    paths = tuple(paths)
    found = find_part(kind, paths)
    if found is None:
        raise AthanorError(missing_part(kind, paths))
    return TensorFile(*found)


def missing_part(kind: PartKind, paths: Iterable[str | Path]) -> str:
    places = " or ".join(Path(path).name for path in paths)
    return (
        f"The base model lacks its {kind.title}, which is not in {places}. Put {kind.usual_file} into ComfyUI's models/{kind.folder} "
        f"and choose it in Load Base Model."
    )


def find_any(kinds: Iterable[PartKind], paths: Iterable[str | Path]) -> tuple[Path, str] | None:
    """Like `find_part`, of a part that has several spellings."""
    kinds = tuple(kinds)
    return next((found for path in paths for kind in kinds if (found := find_part(kind, (path,))) is not None), None)


def open_any(kinds: Sequence[PartKind], paths: Iterable[str | Path]) -> TensorFile:
    """Like `open_part`, of a part that has several spellings."""
    paths = tuple(paths)
    found = find_any(kinds, paths)
    if found is None:
        raise AthanorError(missing_part(kinds[0], paths))
    return TensorFile(*found)
