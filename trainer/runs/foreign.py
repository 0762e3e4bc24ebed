"""Epochs that other trainers saved: which files belong together, in which order they came, and what each is numbered.

What a file's metadata says comes first (`ss_epoch`, `ss_steps`, `ss_output_name`, `ss_num_epochs` of kohya's scripts,
`training_info` of ai-toolkit); the name is read where it says nothing:

    name-000004, name-step00000500, name              kohya's sd-scripts, musubi-tuner, and Athanor itself
    name_000000500, name                              ai-toolkit
    epoch4/adapter_model, step500/adapter_model       diffusion-pipe
    name_500_steps_00001_, name_00001_                ComfyUI's own Save LoRA Weights
    name2026-01-02_03-04-05-save-500-4-0              OneTrainer: time, step, epoch, step of the epoch
    …-backup-500-4-0/lora/lora                        OneTrainer's backups
    name_rank16_bf16-step00000500                     FluxTrainer
    checkpoint-500/pytorch_lora_weights               diffusers
    learned_embeds-steps-500, learned_embeds          diffusers' textual inversion
    name-4, name_500, ckpt-500, 3, epoch_3, name_s500 files that people or small scripts numbered, where several differ in that alone

The last file of a training often has no number at all, or is called `last` or `final`, and where the last step was saved by number,
too, both are one epoch.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import AthanorError
from ..formats.header import read_header

_TIME = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?P<name>.+?)_(?P<step>\d+)_steps_\d{5}_?",
        rf"(?P<name>.*?)[-_]?(?:{_TIME})?[-_]?(?:save|backup)-(?P<step>\d+)-(?P<epoch>\d+)-\d+",
        rf"(?P<name>.*?)[-_]?{_TIME}",
        r"(?P<name>.+?)[-_ ]steps?[-_ ]?(?P<step>\d+)",
        r"(?P<name>.+?)-(?P<epoch>\d{6})",
        r"(?P<name>.+?)_(?P<step>\d{9})",
        r"(?P<name>.+?)_(?P<epoch>\d{5})_",
        r"(?P<name>.+?)[-_ ]e(?:p(?:och)?)?[-_ ]?(?P<epoch>\d+)",
    )
)
_FOLDERS = re.compile(rf"(?:epoch[-_]?(?P<epoch>\d+)|(?:step|checkpoint|ckpt)[-_]?(?P<step>\d+)|(?:{_TIME}-)?backup-(?P<at>\d+)-(?P<of>\d+)-\d+)")
_NUMBERED = re.compile(r"(?:(?P<name>.+?)[-_ ])??(?:(?P<word>s|steps?|iter|ckpt|checkpoint|e|ep|epoch)[-_ ]?)?(?P<number>\d+)", re.IGNORECASE)
_STEP_WORDS = ("s", "step", "steps", "iter", "ckpt", "checkpoint")
_MANY_EPOCHS = 100
"""Numbers without a word that go beyond count steps."""
_LAST = re.compile(r"(?:(?P<name>.+)[-_ ])?(?:last|final|latest)", re.IGNORECASE)
_FOLDER_FILES = ("adapter_model", "pytorch_lora_weights", "lora")
"""Names that say nothing: the folder does."""
_INNER_FOLDERS = ("save", "backup", "lora")
"""In which OneTrainer keeps what belongs to the folder around them."""


@dataclass(frozen=True)
class Found:
    """What is known of one file."""

    path: Path
    name: str
    """Of the training; files of one have the same."""
    epoch: int | None
    step: int | None
    total_epochs: int | None = None


@dataclass(frozen=True)
class Series:
    """The epochs of one training, the oldest first."""

    name: str
    unit: str
    """"epoch", or "step" where the files tell only steps."""
    numbered: tuple[tuple[int, Path], ...]


def read_found(path: Path) -> Found:
    """From a file's metadata, and from its name where that says nothing. Raises AthanorError if it is no whole safetensors file."""
    metadata = read_header(path).metadata
    name, epoch, step = _of_name(path)
    said_epoch, said_step = _number(metadata, "ss_epoch"), _number(metadata, "ss_steps")
    if said_step is None:
        said_step = _step_of_info(metadata.get("training_info", ""))
    return Found(
        path=path,
        name=metadata.get("ss_output_name") or name,
        epoch=said_epoch if said_epoch is not None else epoch,
        step=said_step if said_step is not None else step,
        total_epochs=_number(metadata, "ss_num_epochs"),
    )


def series_of(files: Sequence[Path]) -> Series:
    """All of `files` as one training, of two with the same weights only one.

    Raises AthanorError if they belong to several trainings, naming them, if two others have one number, or if one is numbered 0.
    """
    found = _named_as_one(_last_ones_named([read_found(file) for file in files]))
    if not found:
        raise AthanorError("There is no safetensors file among them.")
    names = list(dict.fromkeys(each.name for each in found))
    if len(names) > 1:
        shown = ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
        raise AthanorError(
            f"The files belong to {len(names)} trainings ({shown}); write a pattern that only one of them matches, such as {names[0]}*."
        )
    by_epoch = _is_by_epoch(found)
    unit = "epoch" if by_epoch else "step"
    numbered = [(each.epoch if by_epoch else each.step, each) for each in found]
    known = [number for number, _ in numbered if number is not None]
    last = [each for number, each in numbered if number is None]
    if len(last) > 1:
        other = "step" if by_epoch else "epoch"
        if known and any(getattr(each, other) is not None for each in last):
            raise AthanorError(
                f"Some files tell their {unit}, others, such as {last[0].path.name}, only their {other}, so their order is unknown; write a pattern that only one kind matches."
            )
        raise AthanorError(f"{last[0].path.name} and {last[1].path.name} tell neither epoch nor step, so their order is unknown; choose one of them.")
    result = [(number, each.path) for number, each in numbered if number is not None]
    if last:
        total = last[0].total_epochs if by_epoch else None
        result.append((total if total is not None and total > max(known, default=0) else max(known, default=0) + 1, last[0].path))
    result.sort(key=lambda item: item[0])
    if result[0][0] == 0:
        raise AthanorError(f"{result[0][1].name} is {unit} 0, which stands for no training at all; leave it out, or rename it to its true {unit}.")
    return Series(names[0], unit, tuple(_without_twins(result, unit)))


def _is_by_epoch(found: Sequence[Found]) -> bool:
    epochs, steps = [each.epoch for each in found], [each.step for each in found]
    if all(step is None for step in steps):
        return True
    # Files that are saved every n steps share their epochs, and some trainers count epochs from 0.
    tell_apart = len(set(epochs)) == len({(each.epoch, each.step) for each in found}) and 0 not in epochs
    return None not in epochs and (tell_apart or None in steps)


def _last_ones_named(found: Sequence[Found]) -> list[Found]:
    """A file that is called just as the training of others is their last one, whatever its own name looks like."""
    names = {each.name for each in found}
    return [
        replace(each, name=each.path.stem, epoch=None, step=None)
        if each.name != each.path.stem and each.path.stem in names and not any(other.name == each.name for other in found if other is not each)
        else each
        for each in found
    ]


def _named_as_one(found: list[Found]) -> list[Found]:
    """Files of several names that differ in a number at the end alone, or are called last, as one training; others as they were."""
    if len({each.name for each in found}) < 2:
        return found
    counted = [_counted(each) for each in found]
    numbers = [each.epoch for each, is_step in counted if is_step is not None]
    by_step = any(is_step for _, is_step in counted) or max((number for number in numbers if number is not None), default=0) >= _MANY_EPOCHS
    made = [replace(each, epoch=None, step=each.epoch) if is_step is not None and by_step else each for each, is_step in counted]
    names = {each.name for each in made if not _is_last(each)}
    if len(names) != 1:
        return found
    (name,) = names
    made = [replace(each, name=name) if _is_last(each) and _LAST.fullmatch(each.name)["name"] in (None, name) else each for each in made]  # type: ignore[index]
    return made if len({each.name for each in made}) == 1 else found


def _counted(found: Found) -> tuple[Found, bool | None]:
    """With the number at the end of its name as its epoch, and whether a word says that it counts steps; None of a file that says its number otherwise."""
    numbered = _NUMBERED.fullmatch(found.name)
    if found.epoch is not None or found.step is not None or numbered is None:
        return found, None
    is_step = (numbered["word"] or "").lower() in _STEP_WORDS
    return replace(found, name=numbered["name"] or _outer(found.path.parent), epoch=int(numbered["number"])), is_step


def _is_last(found: Found) -> bool:
    return found.epoch is None and found.step is None and _LAST.fullmatch(found.name) is not None


def _without_twins(numbered: Sequence[tuple[int, Path]], unit: str) -> list[tuple[int, Path]]:
    kept: list[tuple[int, Path]] = []
    for number, path in numbered:
        if kept and kept[-1][0] == number:
            other = kept[-1][1]
            if not _same_weights(other, path):
                names = [each.name if other.name != path.name else f"{each.parent.name}/{each.name}" for each in (other, path)]
                raise AthanorError(f"{names[0]} and {names[1]} are both {unit} {number}; write a pattern that only one of them matches.")
            # The shorter name is the one that the trainer calls its result.
            kept[-1] = (number, min(other, path, key=lambda each: len(each.name)))
        else:
            kept.append((number, path))
    return kept


def _same_weights(first: Path, second: Path) -> bool:
    """Whether two safetensors files differ in their metadata alone."""
    one, other = read_header(first), read_header(second)
    if (one.shapes, one.dtypes) != (other.shapes, other.dtypes):
        return False
    return _weights_sha256(first) == _weights_sha256(second)


def _weights_sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + length)
        return hashlib.file_digest(file, "sha256").digest() if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read()).digest()


def _of_name(path: Path) -> tuple[str, int | None, int | None]:
    if path.stem in _FOLDER_FILES:
        folder = path.parent
        if path.stem == "lora" and folder.name == "lora":
            folder = folder.parent
        found = _FOLDERS.fullmatch(folder.name)
        if found:
            return _outer(folder.parent), _whole(found["epoch"] or found["of"]), _whole(found["step"] or found["at"])
        if path.stem != "lora":
            return path.parent.name, None, None
    for pattern in _PATTERNS:
        found = pattern.fullmatch(path.stem)
        if found:
            parts = found.groupdict()
            return parts["name"] or _outer(path.parent), _whole(parts.get("epoch")), _whole(parts.get("step"))
    return path.stem, None, None


def _outer(folder: Path) -> str:
    """The name of a training by its folder."""
    return (folder.parent if folder.name in _INNER_FOLDERS else folder).name


def _whole(text: str | None) -> int | None:
    return int(text) if text else None


def _step_of_info(text: str) -> int | None:
    """Of ai-toolkit's `training_info`: {"step": 500, "epoch": 4}."""
    try:
        step = json.loads(text)["step"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return step if type(step) is int and step >= 0 else None


def _number(metadata: Mapping[str, str], key: str) -> int | None:
    text = metadata.get(key, "")
    return int(text) if re.fullmatch(r"\d+", text) else None
