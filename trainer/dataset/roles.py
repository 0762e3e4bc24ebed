"""Images with a part of their own: regularization images, and those that measure the loss."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import AthanorError
from ..types import Dataset, Sample
from .notes import listed, several


def counted_regularization(samples: Sequence[Sample], num_train_draws: int) -> tuple[Sample, ...]:
    """As sd-scripts counts them: as many draws an epoch as there are training draws.

    The first pass takes each with its own repeats until that number is reached, and leaves the rest unused. Where there are
    too few, they go round, one more repeat each time, so that the first ones may repeat once more than the last.
    """
    taken: list[Sample] = []
    num_draws = 0
    for sample in samples:
        if num_draws >= num_train_draws:
            break
        taken.append(sample)
        num_draws += sample.repeats
    rounds, rest = divmod(max(0, num_train_draws - num_draws), len(taken)) if taken else (0, 0)
    return tuple(replace(sample, role="regularization", repeats=sample.repeats + rounds + (i < rest)) for i, sample in enumerate(taken))


def with_regularization(dataset: Dataset, regularization: Dataset) -> Dataset:
    """The images of `regularization` behind those of `dataset`, repeated to as many draws as there are training draws."""
    num_draws = sum(sample.repeats for sample in dataset.with_role("train"))
    taken = counted_regularization(regularization.samples, num_draws)
    unused = regularization.samples[len(taken) :]
    return dataset.with_samples((*dataset.samples, *taken), *regularization.notes, *regularization_notes(taken, unused))


def regularization_notes(taken: Sequence[Sample], unused: Sequence[Sample]) -> list[str]:
    notes = []
    if unused:
        names = listed([Path(sample.path).name for sample in unused])
        notes.append(
            f"{several(len(unused), 'regularization image')} beyond the number of training images left out, as kohya's trainers do: {names}."
        )
    if taken:
        notes.append(f"{several(len(taken), 'regularization image')} mixed in, as many an epoch as there are training images.")
    return notes


def with_validation(dataset: Dataset, validation: Dataset) -> Dataset:
    """The images of `validation` behind those of `dataset`, all held out; none is trained on at the same time.

    The same file, or a copy of it under another name, is taken out of the training images and named in a note.
    Raises AthanorError if none is left to train on.
    """
    held_out = tuple(replace(sample, role="validation") for sample in validation.samples)
    copies = copies_among(dataset.samples, held_out)
    kept = tuple(sample for sample in dataset.samples if sample.path not in copies)
    if dataset.with_role("train") and not any(sample.role == "train" for sample in kept):
        raise AthanorError("All images lie in the validation folder too, so that none is left to train on; choose another validation folder.")
    notes = list(validation.notes)
    if copies:
        names = listed([Path(path).name for path in copies])
        notes.append(f"{several(len(copies), 'image')} not trained on, for they lie in the validation folder too: {names}.")
    return dataset.with_samples((*kept, *held_out), *notes)


def without_copies_of_held_out(dataset: Dataset) -> Dataset:
    """No picture is trained on that is measured on: copies of held-out images under other names are left out, and named in a note."""
    held_out, trained = dataset.with_role("validation"), dataset.with_role("train")
    copies = copies_among(trained, held_out) if held_out else {}
    if not copies or len(copies) == len(trained):
        return dataset
    names = listed([Path(path).name for path in copies])
    note = f"{several(len(copies), 'image')} not trained on, for they are copies of held-out ones: {names}."
    return dataset.with_samples(tuple(sample for sample in dataset.samples if sample.path not in copies), note)


def copies_among(samples: Sequence[Sample], others: Sequence[Sample]) -> dict[str, None]:
    """Paths of those of `samples` that are files of `others` or have the content of one. Only files of equal size are read."""
    real = {Path(other.path).resolve() for other in others}
    sizes = {sample.path: _size_bytes(sample) for sample in (*samples, *others)}
    shared = {sizes[sample.path] for sample in samples} & {sizes[other.path] for other in others} - {-1}
    digests = {_digest(Path(other.path)) for other in others if sizes[other.path] in shared}
    return {
        sample.path: None
        for sample in samples
        if Path(sample.path).resolve() in real or (sizes[sample.path] in shared and _digest(Path(sample.path)) in digests)
    }


def _digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return path.name.encode()


def _size_bytes(sample: Sample) -> int:
    told, dash, _ = sample.fingerprint.partition("-")
    if dash and told.isdecimal():
        return int(told)
    try:
        return Path(sample.path).stat().st_size
    except OSError:
        return -1
