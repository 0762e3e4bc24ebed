"""Adapters worked into a base's weights for good, as the files that stock loaders take; one tensor after the other."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from ..bases import describe_base
from ..errors import AthanorError, raise_problems
from ..families import family
from ..files import file_sha256, require_space, safe_name, told_bytes
from ..formats.files import Streamed, save_streamed
from ..formats.header import read_header
from ..formats.metadata import model_implementation
from ..types import BaseModel
from .additions import Addition, Change, apply, family_problems, gather
from .pieces import Piece, pieces_of
from .sources import Precision

if TYPE_CHECKING:
    import torch

_OF_THE_OLD_FILE = ("sshs_", "modelspec.hash", "modelspec.thumbnail", "athanor_")
_RECIPE = "athanor_recipe"
_MAX_TOLD = 3


@dataclass(frozen=True)
class SaveFolders:
    """Where each kind of file goes, so that its stock loader finds it."""

    checkpoints: Path
    diffusion_models: Path
    text_encoders: Path


@dataclass(frozen=True)
class Baked:
    base: BaseModel
    """With the changes in it: new files where something changed, the old ones elsewhere."""
    files: tuple[Path, ...]
    report: str


def merge_into_checkpoint(
    base: BaseModel,
    additions: Sequence[Addition],
    folders: SaveFolders,
    name: str,
    precision: Precision = "as it is",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Baked:
    """Writes the base with the adapters in it under `name`; a part of the base that is a file of its own stays one, and is written if it changes.

    The weights are W + Σ sᵢ ΔWᵢ, summed in fp32 and rounded once, as stock loaders have them in memory. The same base, files,
    strengths and precision are written once; other files of that name are left alone. `on_progress` is told how many tensors
    of all are done, and may raise to stop. Raises InvalidJobError with all that is wrong before anything is written.
    """
    _check(base, additions)
    pieces = pieces_of(base, precision)
    gathered = gather(additions, family(base.family), [piece.weights for piece in pieces])
    raise_problems(gathered.problems)
    written = [(piece, changes) for piece, changes in zip(pieces, gathered.changes, strict=True) if changes or Path(base.path).is_dir()]
    metadata = _metadata(base, additions, name, precision)
    targets = [_target(getattr(folders, piece.folder), _file_name(name, piece), metadata[_RECIPE]) for piece, _ in written]
    missing = [(piece, changes, target) for (piece, changes), target in zip(written, targets, strict=True) if not target.exists()]
    _require_space(missing)
    _write(missing, metadata, on_progress)
    new = {piece.path: target for (piece, _), target in zip(written, targets, strict=True)}
    return Baked(_with_files(base, new), tuple(targets), _report(additions, written, targets, gathered.left))


def _check(base: BaseModel, additions: Sequence[Addition]) -> None:
    problems = []
    if not additions:
        problems.append("There is nothing to merge; connect a run or name a LoRA.")
    problems += [f"There is no file {addition.path}; choose another." for addition in additions if not addition.path.is_file()]
    twice = [path.name for path, count in Counter(addition.path for addition in additions).items() if count > 1]
    problems += [f"{name} is named twice; name it once, with one strength." for name in twice]
    if additions and not any(addition.strength_model or addition.strength_text for addition in additions):
        problems.append("Every strength is 0, so that nothing would change; give one file another.")
    problems += family_problems([addition for addition in additions if addition.path.is_file()], family(base.family), base.name)
    raise_problems(problems)


def _file_name(name: str, piece: Piece) -> str:
    return safe_name(name if piece.is_main else f"{name}-{piece.path.stem}")


def _metadata(base: BaseModel, additions: Sequence[Addition], name: str, precision: Precision) -> dict[str, str]:
    of_family, parts = family(base.family), [[each.path.name, file_sha256(each.path), each.strength_model, each.strength_text] for each in additions]
    recipe = json.dumps([base.fingerprint, [part[1:] for part in parts], precision])
    titles = [read_header(each.path).metadata.get("modelspec.title", each.path.stem) for each in additions]
    values = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": of_family.modelspec_architecture(base),
        "modelspec.implementation": model_implementation(of_family),
        "modelspec.title": name,
        "modelspec.date": datetime.now(tz=timezone.utc).replace(microsecond=0).isoformat(),
        "modelspec.prediction_type": "" if base.prediction == "flow" else base.prediction,
        "modelspec.merged_from": ", ".join([base.name, *titles]),
        "athanor_merged_base": json.dumps(
            [[Path(path).name, file_sha256(Path(path))] for path in base.files if Path(path).is_file()], ensure_ascii=False
        ),
        "athanor_merged_from": json.dumps(parts, ensure_ascii=False),
        _RECIPE: hashlib.sha256(recipe.encode("utf-8")).hexdigest(),
    }
    return {key: value for key, value in values.items() if value}


def _target(folder: Path, name: str, recipe: str) -> Path:
    """The first name that is free, or that has the very same merge."""
    number = 1
    while True:
        target = folder / f"{name if number == 1 else f'{name}-{number}'}.safetensors"
        if not target.exists() or _recipe_of(target) == recipe:
            return target
        number += 1


def _recipe_of(path: Path) -> str:
    try:
        return read_header(path).metadata.get(_RECIPE, "")
    except AthanorError:
        return ""


Work = Sequence[tuple[Piece, dict[str, list[Change]], Path]]


def _require_space(work: Work) -> None:
    needed: Counter[Path] = Counter()
    for piece, _, target in work:
        needed[target.parent] += sum(source.planned.num_bytes for source in piece.sources.values())
    # On one disk for all that is known: better told too early than stopped half-way.
    for folder in needed:
        require_space(folder, needed.total())


def _write(work: Work, metadata: dict[str, str], on_progress: Callable[[int, int], None]) -> None:
    total, done, made = sum(len(piece.sources) for piece, _, _ in work), 0, []

    def changed(source: Streamed, changes: Sequence[Change]) -> Callable[[], torch.Tensor]:
        def read() -> torch.Tensor:
            nonlocal done
            on_progress(done, total)
            done += 1
            return apply(source.read(), changes) if changes else source.read()

        return read

    try:
        for piece, changes, target in work:
            kept = {key: value for key, value in piece.metadata.items() if not key.startswith(_OF_THE_OLD_FILE)}
            streamed = {key: dataclasses.replace(source, read=changed(source, changes.get(key, []))) for key, source in piece.sources.items()}
            save_streamed(target, streamed, {**kept, **metadata})
            made.append(target)
    except BaseException:
        for target in made:
            target.unlink(missing_ok=True)
        raise
    on_progress(total, total)


def _with_files(base: BaseModel, new: dict[Path, Path]) -> BaseModel:
    def moved(path: str) -> Path:
        return new.get(Path(path), Path(path))

    encoders, vae = [moved(each) for each in base.text_encoder_paths], Path(base.vae_path) if base.vae_path else None
    if Path(base.path).is_dir():
        encoders = [target for source, target in new.items() if source != Path(base.path)]
        # A checkpoint has the VAE in it.
        in_folder = Path(base.path) / "vae" / "diffusion_pytorch_model.safetensors"
        vae = vae or (in_folder if encoders and in_folder.is_file() else None)
    folders = [Path(folder) for folder in base.tokenizer_folders]
    made = describe_base(moved(base.path), folders, encoders, vae, base.clip_skip, may_download=base.may_download)
    return dataclasses.replace(made, prediction=base.prediction, zero_terminal_snr=base.zero_terminal_snr)


def _report(
    additions: Sequence[Addition], written: Sequence[tuple[Piece, dict[str, list[Change]]]], targets: Sequence[Path], left: Sequence[str]
) -> str:
    lines = [f"{each.strength_model:+.4g} (text {each.strength_text:+.4g}) × {each.path.name}" for each in additions]
    for (piece, changes), target in zip(written, targets, strict=True):
        lines.append(f"{piece.folder}/{target.name}: {len(changes)} of {len(piece.sources)} tensors changed, {told_bytes(target.stat().st_size)}")
    if left:
        more = f" and {len(left) - _MAX_TOLD} more" if len(left) > _MAX_TOLD else ""
        lines.append(f"{len(left)} layers fit nothing in this base and are left out: {', '.join(left[:_MAX_TOLD])}{more}")
    return "\n".join(lines)
