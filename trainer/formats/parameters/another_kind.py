"""What a file says for another kind of training than the one that takes it: put back, and told."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ...checks.words import OF_A_LORA
from ...settings import Settings
from .imported import RATES, rates_are_for_another_kind, values_of

TITLES = {"lora": "a LoRA", "embedding": "an embedding", "checkpoint": "a whole model"}
_FOR = {"adapter": "lora", "embedding": "embedding", "checkpoint": "checkpoint"}
_MERGES = ("merge_files", "files_sha256")
_OF_A_LORA_ALONE = ("embedding_rate", "embedding_percent")


def counts_for(kind: str, path: str) -> bool:
    """Whether the setting "section.field" means something for a training of that kind."""
    section, name = path.split(".")
    if section == "adapter":
        return kind == "lora" or (kind == "embedding" and name in _MERGES)
    if section == "embedding":
        return name == "token" or (kind == "embedding" and name not in _OF_A_LORA_ALONE) or (kind == "lora" and name in OF_A_LORA)
    if section == "prior":
        return kind != "embedding"
    return section not in _FOR or _FOR[section] == kind


def settings_for(kind: str, given: Settings) -> tuple[Settings, tuple[str, ...]]:
    """`given` without what files say for another kind of training, and a sentence of what that was. What was set by hand stays, to be refused."""
    values, usual = values_of(given), values_of(Settings())
    changed = [path for path in given.imported if path not in given.varied and values[path] != usual[path]]
    useless = [path for path in changed if not counts_for(kind, path)]
    for path in useless:
        section, name = path.split(".")
        given = dataclasses.replace(given, **{section: dataclasses.replace(getattr(given, section), **{name: usual[path]})})
    notes = [_note(kind, useless, values)] if useless else []
    rates = [path for path in changed if path in given.from_file and path in {f"train.{name}" for name in RATES} and path not in useless]
    if rates and rates_are_for_another_kind(kind, given.from_file):
        notes.append(
            f"The file's {_listed(rates, values)} {'is' if len(rates) == 1 else 'are'} for another kind of training: for {TITLES[kind]} the training node's own count."
        )
    return given, tuple(notes)


def _note(kind: str, paths: Sequence[str], values: dict) -> str:
    return f"The file's {_listed(paths, values)} {'does' if len(paths) == 1 else 'do'} nothing for {TITLES[kind]}."


def _listed(paths: Sequence[str], values: dict) -> str:
    told = [f"{path} = {str(values[path])[:60]}" for path in paths]
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"
