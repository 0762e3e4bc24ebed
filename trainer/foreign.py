"""Epochs that other trainers saved: which files belong together, in which order they came, and what each is numbered.

What a file's metadata says comes first (`ss_epoch`, `ss_steps`, `ss_output_name`, `ss_num_epochs` of kohya's scripts);
the name is read where it says nothing:

    name-000004, name-step00000500, name              kohya's sd-scripts, musubi-tuner, and Athanor itself
    name_000000500, name                              ai-toolkit
    epoch4/adapter_model, step500/adapter_model       diffusion-pipe
    name_500_steps_00001_                             ComfyUI's own Save LoRA Weights
    name-save-500-4-0, name-backup-500-4-0            OneTrainer: step, epoch, step of the epoch
    name_rank16_bf16-step00000500                     FluxTrainer
    learned_embeds-steps-500, learned_embeds          diffusers' textual inversion

The last file of a training often has no number at all.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import AthanorError
from .formats.header import read_header

_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?P<name>.+?)_(?P<step>\d+)_steps_\d{5}_?",
        r"(?P<name>.*?)[-_]?(?:save|backup)-(?P<step>\d+)-(?P<epoch>\d+)-\d+",
        r"(?P<name>.+?)[-_]step(?:s-)?(?P<step>\d+)",
        r"(?P<name>.+?)-(?P<epoch>\d{6})",
        r"(?P<name>.+?)_(?P<step>\d{9})",
        r"(?P<name>.+?)[-_ ]?e(?:poch)?[-_ ]?(?P<epoch>\d+)",
    )
)
_FOLDERS = re.compile(r"(?:epoch(?P<epoch>\d+)|(?:step|checkpoint-)(?P<step>\d+))")
_FOLDER_FILES = ("adapter_model", "pytorch_lora_weights")
"""Names that say nothing: the folder does."""


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
    return Found(
        path=path,
        name=metadata.get("ss_output_name") or name,
        epoch=said_epoch if said_epoch is not None else epoch,
        step=said_step if said_step is not None else step,
        total_epochs=_number(metadata, "ss_num_epochs"),
    )


def series_of(files: Sequence[Path]) -> Series:
    """All of `files` as one training. Raises AthanorError if they belong to several, naming them, or if two have one number."""
    found = [read_found(file) for file in files]
    if not found:
        raise AthanorError("There is no safetensors file among them.")
    names = list(dict.fromkeys(each.name for each in found))
    if len(names) > 1:
        shown = ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
        raise AthanorError(
            f"The files belong to {len(names)} trainings ({shown}); write a pattern that only one of them matches, such as {names[0]}*."
        )
    epochs, steps = [each.epoch for each in found], [each.step for each in found]
    # Files that are saved every n steps share their epochs.
    by_epoch = (None not in epochs and (len(set(epochs)) == len(found) or None in steps)) or not any(step is not None for step in steps)
    unit = "epoch" if by_epoch else "step"
    numbered = [(each.epoch if by_epoch else each.step, each) for each in found]
    known = [number for number, _ in numbered if number is not None]
    last = [each for number, each in numbered if number is None]
    if len(last) > 1:
        raise AthanorError(f"{last[0].path.name} and {last[1].path.name} tell neither epoch nor step, so their order is unknown; choose one of them.")
    result = [(number, each.path) for number, each in numbered if number is not None]
    if last:
        total = last[0].total_epochs if by_epoch else None
        result.append((total if total is not None and total > max(known, default=0) else max(known, default=0) + 1, last[0].path))
    result.sort(key=lambda item: item[0])
    for (first, path), (second, other) in itertools.pairwise(result):
        if first == second:
            raise AthanorError(f"{path.name} and {other.name} are both {unit} {first}; write a pattern that only one of them matches.")
    return Series(names[0], unit, tuple(result))


def _of_name(path: Path) -> tuple[str, int | None, int | None]:
    if path.stem in _FOLDER_FILES:
        found = _FOLDERS.fullmatch(path.parent.name)
        if found:
            return path.parent.parent.name, _whole(found["epoch"]), _whole(found["step"])
        return path.parent.name, None, None
    for pattern in _PATTERNS:
        found = pattern.fullmatch(path.stem)
        if found:
            parts = found.groupdict()
            return parts["name"] or path.parent.name, _whole(parts.get("epoch")), _whole(parts.get("step"))
    return path.stem, None, None


def _whole(text: str | None) -> int | None:
    return int(text) if text else None


def _number(metadata: Mapping[str, str], key: str) -> int | None:
    text = metadata.get(key, "")
    return int(text) if re.fullmatch(r"\d+", text) else None
