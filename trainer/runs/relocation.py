"""A job on another machine: the same model and the same pictures, in other folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath, PureWindowsPath

from ..bases import base_fingerprint
from ..config import TrainJob
from ..errors import AthanorError
from ..types import BaseModel, Dataset, Sample


def relocated(job: TrainJob, base: Path | None, images: Path | None, tokenizers: Sequence[Path] = ()) -> TrainJob:
    """`job` with its base at `base` and its pictures and masks below `images`; None where they lie as before.

    The same run: nothing that decides the result changes. Raises AthanorError if what lies there is something else.
    """
    moved = job
    if base is not None or tokenizers:
        moved = replace(moved, base=_moved_base(job.base, base or Path(job.base.path), tokenizers))
    if images is not None:
        moved = replace(moved, dataset=_moved_dataset(job.dataset, images))
    return moved


def _moved_base(known: BaseModel, path: Path, tokenizers: Sequence[Path]) -> BaseModel:
    if not path.exists():
        raise AthanorError(f"There is no model at {path}; put {_written(known.path).name} there, or name its place.")
    encoders = [_beside(_written(each), path) for each in known.text_encoder_paths]
    vae = _beside(_written(known.vae_path), path) if known.vae_path else None
    if base_fingerprint(path, encoders, vae) != known.fingerprint:
        raise AthanorError(f"{path} is not {known.name}, which this run was begun with; name the same model, or make a new run.")
    kept = [Path(folder) for folder in known.tokenizer_folders if Path(folder).is_dir()]
    return replace(
        known,
        path=str(path.resolve()),
        text_encoder_paths=tuple(str(each.resolve()) for each in encoders),
        vae_path=str(vae.resolve()) if vae else "",
        tokenizer_folders=tuple(str(folder) for folder in (*tokenizers, *kept)),
    )


def _written(path: str) -> PurePath:
    """A path as the machine wrote it that the job comes from: with a drive or a share it was Windows."""
    windows = PureWindowsPath(path)
    return windows if windows.drive else PurePath(path)


def _beside(known: PurePath, base: Path) -> Path:
    """A further file of the model: where it was, or by its name in the base's folder or in one beside that, as ComfyUI keeps them."""
    places = [Path(known), base.parent / known.name, *sorted(base.parent.parent.glob(f"*/{known.name}"))]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise AthanorError(f"{known.name}, a part of the model, lies neither in {base.parent} nor in a folder beside it; put it there.")
    return found


def _moved_dataset(dataset: Dataset, folder: Path) -> Dataset:
    if not folder.is_dir():
        raise AthanorError(f"There is no folder {folder}; name the one that holds this run's pictures.")
    by_name: dict[str, list[Path]] = {}
    for path in sorted(folder.resolve().rglob("*")):
        if path.is_file():
            by_name.setdefault(path.name, []).append(path)
    missing: list[str] = []

    def place(known: str) -> str:
        found = _likest(_written(known), by_name)
        if found is None:
            missing.append(_written(known).name)
        return str(found or known)

    samples = tuple(_moved_sample(sample, place) for sample in dataset.samples)
    if missing:
        raise AthanorError(f"{len(missing)} of this run's pictures and masks are not below {folder}, the first is {missing[0]}; copy them all.")
    other = [sample.path for sample in samples if sample.num_bytes not in (None, Path(sample.path).stat().st_size)]
    if other:
        raise AthanorError(f"{other[0]} is another picture than the one this run was begun with; copy the pictures as they were.")
    return replace(dataset, samples=samples)


def _moved_sample(sample: Sample, place: Callable[[str], str]) -> Sample:
    mask = place(sample.mask) if sample.mask not in (None, "alpha") else sample.mask
    return replace(sample, path=place(sample.path), mask=mask)


def _likest(known: PurePath, by_name: dict[str, list[Path]]) -> Path | None:
    """Of the files of that name the one whose folders are called alike furthest up."""

    def alike(path: Path) -> int:
        pairs = zip(reversed(path.parts), reversed(known.parts), strict=False)
        return next((i for i, (one, other) in enumerate(pairs) if one != other), len(known.parts))

    return max(by_name.get(known.name, []), key=alike, default=None)
