"""A trained model as files that ComfyUI's own loaders take: what was trained from memory, everything else from the base's files.

Tensors are made one after the other while the file is written, so that the model is in memory once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..families._native import RUNNING_MEAN, TensorFile, is_of_arithmetic
from ..families._whole import Native, SavedPart, Source
from ..families.base import Family
from ..formats.files import Planned, Streamed, save_streamed
from ..formats.header import read_model_header
from ..runs.files_beside import TEXT_FOLDER, files_beside
from ..types import BaseModel

if TYPE_CHECKING:
    import torch

Trained = Mapping[str, Mapping[str, "torch.Tensor"]]
"""By part and by the module's name of the tensor."""
_V_MARKS = ("sd15", "sdxl")
"""Families whose files tell by an empty tensor that they predict v."""


def save_checkpoint(
    path: Path, family: Family, base: BaseModel, trained: Trained, names: Mapping[str, Sequence[str]], metadata: Mapping[str, str], precision: str
) -> str:
    """Writes the trained model and returns the sha256 of its file.

    `names`: of all tensors of each trained part's module. What was trained, and the rest of its part, is written in
    `precision`; parts that were not trained are copied bit for bit. Text encoders that do not belong into the same file
    lie in the folder text_encoders beside it.
    """
    parts = family.saved_parts(base)
    main: dict[str, Streamed] = {}
    for each in parts:
        if each.file and each.part not in trained:
            continue
        entries = part_as_saved(each, trained.get(each.part, {}), names.get(each.part, ()), precision)
        if each.file:
            _save(path.parent / TEXT_FOLDER / f"{path.stem}-{each.file}.safetensors", entries, metadata)
        else:
            main.update(entries)
    return _save(path, {**main, **_others(family, base, parts)}, metadata)


def planned_bytes(family: Family, base: BaseModel, trained_parts: Iterable[str], precision: str) -> int:
    """About how large the files of one epoch will be. Reads headers alone."""
    width, total, whole = {"fp32": 4, "fp16": 2, "bf16": 2}[precision], 0, set(trained_parts)
    for each in family.saved_parts(base):
        if each.file and each.part not in whole:
            continue
        source = each.open()
        for name in source.names:
            tensor = source.stored(name)
            total += tensor.numel() * (width if each.part in whole else tensor.element_size())
    return total


def take_checkpoint(path: Path, family: Family, base: BaseModel, trained: Trained) -> None:
    """Puts the numbers of a saved model into the tensors of `trained`. Raises AthanorError where it is another kind of model."""
    import torch

    files = {file.stem.rpartition("-")[2]: file for file in files_beside(path)}
    for each in family.saved_parts(base):
        if each.part not in trained:
            continue
        source = TensorFile(files.get(each.file, path), "" if each.file else each.prefix)
        for name, tensor in trained[each.part].items():
            native = each.native(name)
            assert native is not None, "every trained tensor has its place"
            found = next((choice for choice in native.names if choice in source.names), None)
            value = None if found is None else source.rows(found, native.place, torch.float32)
            if value is None or value.numel() != tensor.numel():
                raise AthanorError(f"{path.name} lacks {native.names[0]}, or has it in another size; it is no checkpoint of this training.")
            with torch.no_grad():
                tensor.copy_((value.t() if native.turned else value).reshape(tensor.shape))


def _save(path: Path, entries: Mapping[str, Streamed], metadata: Mapping[str, str]) -> str:
    return save_streamed(path, {name: entries[name] for name in sorted(entries)}, metadata)


def part_as_saved(part: SavedPart, trained: Mapping[str, torch.Tensor], names: Sequence[str] = (), precision: str = "fp32") -> dict[str, Streamed]:
    """The tensors of a part by their names in the file; with nothing `trained` those of the base as it has them. See `save_checkpoint`."""
    source = part.open()
    if not trained:
        if part.is_native(source):
            return {part.prefix + name: _copied(source, name) for name in source.names if "." in name or name in _ROOTS}
        names = sorted(source.names)
    dtype = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}[precision] if trained else ""
    found: dict[str, Streamed] = {}
    for name, pieces in _gathered(part, source, trained, names).items():
        found[part.prefix + name] = _assembled(pieces, dtype)
    if trained and part.is_native(source):
        rest = (name for name in source.names if part.prefix + name not in found and not is_of_arithmetic(name))
        found.update({part.prefix + name: _copied(source, name) for name in rest if "." in name or name in _ROOTS})
    return found


_ROOTS = ("positional_embedding", "text_projection", "logit_scale", "pos_embed")
"""Tensors of whole parts, in no module of theirs."""


@dataclass(frozen=True)
class _Piece:
    native: Native
    read: Callable[[], torch.Tensor]
    """In the module's own form."""


def _gathered(part: SavedPart, source: Source, trained: Mapping[str, torch.Tensor], names: Sequence[str]) -> dict[str, list[_Piece]]:
    """What each native tensor is made of; of modules' tensors that share one, as T5's two tables do, the trained one."""
    by_plain = {part.plain(name): name for name in source.names}
    is_native = part.is_native(source)
    found: dict[str, list[_Piece]] = {}
    for name in (*trained, *(each for each in names if each not in trained)):
        native = part.native(name)
        if native is None:
            continue
        target = next((choice for choice in native.names if choice in source.names), native.names[0]) if is_native else native.names[0]
        if native.place.whole and target in found:
            continue
        if name in trained:
            read = trained[name].detach
        elif is_native:
            read = _rows_of(source, target, native)
        else:
            read = _rows_of(source, by_plain[part.plain(name)], Native((), turned=False))
        found.setdefault(target, []).append(_Piece(native, read))
    return found


def _rows_of(source: Source, name: str, native: Native) -> Callable[[], torch.Tensor]:
    def read() -> torch.Tensor:
        # Scales of fp8 come in as fp32; without them the file's own numbers go through.
        tensor = source.stored(name)
        rows = source.rows(name, native.place, tensor.dtype if tensor.element_size() > 1 else _float32())
        return rows.t() if native.turned else rows

    return read


def _float32() -> torch.dtype:
    import torch

    return torch.float32


def _assembled(pieces: Sequence[_Piece], dtype: str) -> Streamed:
    """`dtype` as safetensors writes it; "" is that of the first piece."""
    ordered = sorted(pieces, key=lambda piece: piece.native.place.start)
    read = [piece.read for piece in ordered]
    natives = [piece.native for piece in ordered]
    whole = _joined(natives, [tensor().to("meta") for tensor in read])
    planned = Planned.like(whole)
    return Streamed(Planned(dtype or planned.dtype, planned.shape), lambda: _joined(natives, [tensor() for tensor in read]))


def _joined(natives: Sequence[Native], tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The native tensor that these rows are."""
    import torch

    first, tensor = natives[0], tensors[0]
    if not first.place.whole:
        ends = [0, *(native.place.start + native.place.size for native in natives)]
        if ends[-1] != first.place.of or any(native.place.start != end for native, end in zip(natives, ends, strict=False)):
            raise AthanorError(f"{first.names[0]} is not whole: a part of the base is missing. Get the base model again.")
        tensor = torch.cat([each.float() if len({each.dtype for each in tensors}) > 1 else each for each in tensors])
    if first.place.swapped:
        tensor = torch.cat(tensor.chunk(2)[::-1])
    if first.turned:
        tensor = tensor.t()
    return tensor.reshape(*tensor.shape, 1, 1) if first.is_pixel and tensor.ndim == 2 else tensor


def _copied(source: Source, name: str) -> Streamed:
    return Streamed(Planned.like(source.stored(name)), lambda: source.stored(name))


def _others(family: Family, base: BaseModel, parts: Sequence[SavedPart]) -> dict[str, Streamed]:
    """What a whole checkpoint holds beside its parts, without the running mean of its own training; and what tells that it predicts v."""
    import torch

    if not family.saves_whole:
        return {}
    found: dict[str, Streamed] = {}
    path = Path(base.path)
    if path.is_file() and any(name.startswith(parts[0].prefix) for name in read_model_header(path).shapes):
        source = TensorFile(path)
        taken = (*(each.prefix for each in parts), RUNNING_MEAN, "cond_stage_model.", "conditioner.", "first_stage_model.")
        found = {name: _copied(source, name) for name in source.names if not name.startswith(taken)}
    if base.prediction == "v" and family.name in _V_MARKS:
        marks = ("v_pred", "ztsnr") if base.zero_terminal_snr else ("v_pred",)
        found.update({mark: Streamed(Planned("F32", (0,)), lambda: torch.zeros(0)) for mark in marks if mark not in found})
    for mark in ("v_pred", "ztsnr"):
        if mark in found and (base.prediction != "v" or (mark == "ztsnr" and not base.zero_terminal_snr)):
            del found[mark]
    return found
