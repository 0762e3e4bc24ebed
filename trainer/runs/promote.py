"""From a run's epochs to the files that people keep: under their final name, with times and a preview beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from ..errors import AthanorError
from ..families import family
from ..files import file_sha256, replace_atomically, safe_name
from ..formats.files import with_metadata
from ..formats.metadata import time_metadata
from ..scoring.files import best_by
from .choice import chosen_epoch
from .files_beside import files_beside
from .run import Epoch, Run


def pick_epochs(run: Run, which: str) -> tuple[Epoch, ...]:
    """`last`, `best` (lowest validation loss), `best by likeness` or another score, `chosen` (marked in the run), `all`, or numbers such as `2,4`.

    Raises AthanorError if one was not saved, if `best` cannot be told because nothing was held out, or if none was `chosen`.
    """
    epochs, word = run.epochs(), which.strip().lower()
    if not epochs:
        raise AthanorError(f"The run {run.name} has no saved epoch yet.")
    if word == "last":
        return epochs[-1:]
    if word == "all":
        return epochs
    if word == "chosen":
        chosen = chosen_epoch(run)
        if chosen is None:
            raise AthanorError(f'No epoch of {run.name} is marked as chosen; press "Use this epoch" in XY Plot Compare, or write numbers.')
        return (chosen,)
    if word == "best":
        best = run.best_epoch()
        if best is None or best.validation_loss is None:
            raise AthanorError(
                f"The best epoch of {run.name} cannot be told, since no image was held out; set held out % in Load Dataset, or save last, all or numbers."
            )
        return (best,)
    if by := re.fullmatch(r"best\s+by\s+(.+)", word):
        return (best_by(run, by[1]),)
    if not re.fullmatch(r"\s*\d+(\s*,\s*\d+)*\s*,?\s*", which):
        raise AthanorError(
            f"Epochs: {which!r} is not understood; write last, best, best by likeness (or another score), chosen, all, or numbers with commas, for example 2,4."
        )
    by_number = {epoch.number: epoch for epoch in epochs}
    wanted = list(dict.fromkeys(int(part) for part in which.split(",") if part.strip()))
    unknown = [number for number in wanted if number not in by_number]
    if unknown:
        raise AthanorError(f"Epochs: {unknown[0]} was not saved by {run.name}; saved are {', '.join(map(str, by_number))}.")
    return tuple(by_number[number] for number in wanted)


def promote(run: Run, epochs: Sequence[Epoch], folder: Path, name: str) -> tuple[Path, ...]:
    """Puts epochs into `folder` and returns their files. One epoch is called `name`, several `name-000003` and so on.

    A file of that name that holds something else stays; the new one then gets -2, -3 … behind its name. The newest
    sample picture of the epoch is put beside it as a preview.
    """
    final = safe_name(name or run.name)
    return tuple(_promote_one(run, epoch, folder, final if len(epochs) == 1 else f"{final}-{epoch.number:06d}") for epoch in epochs)


def promote_beside(run: Run, epochs: Sequence[Epoch], folder: Path, files: Sequence[Path]) -> tuple[Path, ...]:
    """Puts the text encoders that were trained with `epochs` into `folder`, under the names of the promoted `files` of these."""
    return tuple(
        _placed(beside, folder, f"{target.stem}-{beside.stem.rpartition('-')[2]}", _final_metadata(run, epoch))
        for epoch, target in zip(epochs, files, strict=True)
        for beside in files_beside(epoch.path)
    )


def promote_words(run: Run, epochs: Sequence[Epoch], folder: Path) -> tuple[Path, ...]:
    """As `promote`, of the embeddings that the epochs have beside their own files: each is called by its word."""
    return tuple(
        _promote_one(run, epoch, folder, safe_name(word if len(epochs) == 1 else f"{word}-{epoch.number:06d}"), path)
        for epoch in epochs
        for word, path in epoch.words
    )


def _promote_one(run: Run, epoch: Epoch, folder: Path, name: str, source: Path | None = None) -> Path:
    target = _placed(source or epoch.path, folder, name, _final_metadata(run, epoch))
    _write_preview(run, epoch, target)
    return target


def _placed(source: Path, folder: Path, name: str, metadata: dict[str, str]) -> Path:
    """A copy of `source` with further metadata. It is made beside its target, since a whole model may not fit onto the disk twice."""
    temporary = folder / f".{safe_name(name)}.promoted"
    try:
        with_metadata(source, temporary, metadata)
        target = _free_or_same(folder, name, temporary)
        if not target.exists():
            temporary.replace(target)
    except OSError as error:
        raise AthanorError(
            f"Cannot write into {folder}: {error.strerror or error}. Free some space or choose a folder that can be written."
        ) from error
    finally:
        with suppress(OSError):  # where there is no such folder, nothing was written
            temporary.unlink(missing_ok=True)
    return target


def _free_or_same(folder: Path, name: str, wanted: Path) -> Path:
    number, digest = 1, file_sha256(wanted)
    while True:
        target = folder / f"{name if number == 1 else f'{name}-{number}'}.safetensors"
        if not target.exists() or file_sha256(target) == digest:
            return target
        number += 1


def _final_metadata(run: Run, epoch: Epoch) -> dict[str, str]:
    events = run.events()
    if not events:
        return {}  # another program's file: it keeps what it says
    started = min((event["time"] for event in events if event["event"] == "start"), default=0.0)
    finished = next((event["time"] for event in events if event["event"] == "saved" and event["epoch"] == epoch.number), started)
    metadata = time_metadata(started, finished)
    if epoch.validation_loss is not None:
        metadata["athanor_validation_loss"] = f"{epoch.validation_loss:.6f}"
    return metadata


def _write_preview(run: Run, epoch: Epoch, target: Path) -> None:
    pictures = [picture for picture in run.samples() if picture.epoch == epoch.number and picture.path.is_file()]
    if not pictures:
        return
    with Image.open(pictures[0].path) as image:
        preview = image.convert("RGB")
    replace_atomically(target.with_suffix(".png"), lambda temporary: preview.save(temporary, format="PNG"))


def kind_folder(run: Run) -> str:
    """ComfyUI's name of the folder that the run's files belong into."""
    content = run.content()
    if content == "checkpoint" and not run.is_loaded:
        return "checkpoints" if family(run.train_job().base.family).saves_whole else "diffusion_models"
    return {"embedding": "embeddings", "checkpoint": "checkpoints"}.get(content, "loras")
