"""`athanor train --settings FILE`: settings of a preset, of a run or of another trainer as the options' defaults, so that options still count more."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import AthanorError
from ..formats.parameters import RATES, Imported, counts_for, rates_are_for_another_kind, read_parameters, settings_for
from ..settings import USUAL_KEPT_CHECKPOINTS, USUAL_OF_A_CHECKPOINT, USUAL_OF_AN_EMBEDDING, Settings

PRESETS = Path(__file__).parent.parent / "presets"
PREFIXES = {"captions": "caption_", "data": "image_", "samples": "sample_", "run": "run_"}
"""Of options whose names would mean several things without."""
_NO_OPTIONS = ("adapter.files_sha256", "optimizer.kind", "schedule.kind", "embedding.token", "embedding.embedding_sha256")


def read_given(names: Sequence[str]) -> tuple[Imported, ...]:
    """Of files, run directories, or presets by their names. Raises AthanorError for what is none of them."""
    return tuple(read_parameters(_file(name)) for name in names)


def _file(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        path = path / "job.json"
    if path.is_file():
        return path
    preset = PRESETS / f"{name}.toml"
    if preset.parent == PRESETS and preset.is_file():
        return preset
    known = ", ".join(sorted(each.stem for each in PRESETS.glob("*.toml")))
    raise AthanorError(f"There is no file of settings {name}; name a file, a run directory, or one of the presets: {known}.")


def as_defaults(given: Sequence[Imported], kind: str) -> dict[str, Any]:
    """By option what the files say, the later ones first in the saying, as far as it is for that kind of training."""
    found: dict[str, Any] = {}
    for imported in given:
        without = RATES if rates_are_for_another_kind(kind, [path for path, _ in imported.values]) else ()
        for path, value in imported.values:
            section, name = path.split(".")
            if path not in _NO_OPTIONS and _counts(path, kind) and not (section == "train" and name in without):
                found["adapter" if path == "adapter.kind" else PREFIXES.get(section, "") + name] = value
    return found


def usual_of(kind: str) -> dict[str, Any]:
    """By option what the training nodes begin with, where it is not what suits a LoRA."""
    if kind == "embedding":
        return dict(USUAL_OF_AN_EMBEDDING)
    return {**USUAL_OF_A_CHECKPOINT, "run_keep_last": USUAL_KEPT_CHECKPOINTS} if kind == "checkpoint" else {}


def usual_options(kind: str) -> str:
    """The same for people."""
    return ", ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in usual_of(kind).items())


def notes_of(given: Sequence[Imported], kind: str) -> list[str]:
    """Of each file, what it says in vain for that kind of training."""
    return [note for imported in given for note in settings_for(kind, imported.applied_to(Settings()))[1]]


def _counts(path: str, kind: str) -> bool:
    """Whether the setting means something for that kind of training; files of LoRAs to merge are given as options alone."""
    if path.startswith("adapter.") and kind != "lora":
        return False
    return counts_for(kind, path) and not (kind == "embedding" and path == "train.rate")


def with_defaults(parser: argparse.ArgumentParser, known: Mapping[str, Any]) -> None:
    """Puts them into the parser. Options of the same name elsewhere stay."""
    dests = {action.dest for action in parser._actions}
    parser.set_defaults(**{name: value for name, value in known.items() if name in dests})
