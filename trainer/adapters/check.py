"""What is wrong with adapter settings, told before anything loads. No torch."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from ..errors import AthanorError
from ..files import file_sha256
from ..formats.header import is_safe, read_header
from ..settings import AdapterSettings
from . import adapter, all_adapters
from .plan import parse_rules

_FOR_EVERY_KIND = frozenset({"kind", "targets", "blocks", "pattern", "rules", "start_file", "merge_files", "names", "files_sha256"})
_OF_THE_FILE = ("conv_rank", "conv_alpha", "factor", "decompose_both", "full_matrix", "targets", "blocks", "pattern", "rank_stabilised")
"""What a LoRA to start from decides, beside its rank and alpha."""


UNPACKED_ONLY = ("loha", "lokr")
"""Kinds that peft makes by the shape of a layer's weight, which nf4 packs away."""
_UNPACKED_KEY = re.compile(r"\.(?:hada|lokr)_")


def needs_unpacked(path: Path) -> bool:
    """Whether a LoRA's file is of such a kind."""
    return is_safe(path) and any(_UNPACKED_KEY.search(key) for key in read_header(path).shapes)


def adapter_problems(settings: AdapterSettings) -> list[str]:
    """A sentence for each option that is wrong, or that has no effect for the kind."""
    try:
        kind = adapter(settings.kind)
    except AthanorError as error:
        return [str(error)]
    problems = []
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if item.name not in kind.options | _FOR_EVERY_KIND and value != item.default:
            others = [other.title for other in all_adapters().values() if item.name in other.options]
            problems.append(
                f"Adapter: {item.name} is {value}, which has no effect for {kind.title}; set it back to {item.default}, or choose {' or '.join(others)}."
            )
    if settings.kind == "lokr" and settings.full_matrix:
        problems += [
            f"Adapter: {name} has no effect while full_matrix keeps LoKr's factors whole; set it back, or full_matrix off."
            for name, off in (("decompose_both", False), ("conv_alpha", 0.0), ("rank_stabilised", False))
            if getattr(settings, name) != off
        ]
    if settings.names != "auto" and not names_can_be_chosen(settings.kind):
        problems.append(f"Adapter: names is {settings.names}, in which only LoRA and LoCon can be written; set it back to auto for {kind.title}.")
    if settings.kind == "lora" and settings.targets == "full":
        problems.append("Adapter: targets is full, which takes the convolutions as well; choose LoCon for that, or linear as targets.")
    try:
        re.compile(settings.pattern)
    except re.error as error:
        problems.append(f"Adapter: the pattern {settings.pattern!r} is not a regular expression ({error}); leave it empty to take all layers.")
    try:
        parse_rules(settings.rules)
    except AthanorError as error:
        problems.append(str(error))
    if settings.conv_alpha > 0 and settings.conv_rank == 0 and settings.kind != "locon":
        problems.append("Adapter: conv_alpha has no effect while conv_rank is 0; set a conv_rank, or conv_alpha to 0.")
    if settings.start_file:
        fixed = [item.name for item in dataclasses.fields(settings) if item.name in _OF_THE_FILE and getattr(settings, item.name) != item.default]
        fixed += ["rank or alpha of the rules"] if _rules_change_form(settings.rules) else []
        problems += [f"Adapter: {name} has no effect where training goes on from a LoRA, whose file decides it; set it back." for name in fixed]
    if settings.start_file and not Path(settings.start_file).is_file():
        problems.append(f"Adapter: the LoRA to start from, {settings.start_file}, is not there.")
    try:
        problems += [f"Adapter: the LoRA to merge, {path}, is not there." for path, _ in merges(settings) if not Path(path).is_file()]
    except AthanorError as error:
        problems.append(str(error))
    return problems


def names_can_be_chosen(kind: str) -> bool:
    """Whether files of this kind can have their layers named in more than one way."""
    return kind in ("lora", "locon")


def with_files_hashed(settings: AdapterSettings) -> AdapterSettings:
    """The settings with the content of their files in them, so that a file that was replaced makes a new run."""
    files = [path for path in (settings.start_file, *(path for path, _ in merges(settings))) if path and Path(path).is_file()]
    return dataclasses.replace(settings, files_sha256=" ".join(file_sha256(Path(path)) for path in files))


def _rules_change_form(rules: str) -> bool:
    try:
        return any(rule.rank is not None or rule.alpha is not None for rule in parse_rules(rules))
    except AthanorError:
        return False


def merges(settings: AdapterSettings) -> tuple[tuple[str, float], ...]:
    """The files to merge and their strengths, from lines such as `D:/loras/style.safetensors: 0.7`.

    Raises AthanorError for a strength that is no number.
    """
    found = []
    for line in (raw.strip() for raw in settings.merge_files.splitlines()):
        if not line or line.startswith("#"):
            continue
        path, separator, strength = line.rpartition(":")
        # A drive's colon stands before its path.
        if not separator or not strength.strip() or "/" in strength or "\\" in strength or strength.lower().endswith(".safetensors"):
            found.append((line, 1.0))
            continue
        try:
            found.append((path.strip(), float(strength)))
        except ValueError:
            raise AthanorError(
                f"LoRAs to merge: {strength.strip()!r} in {line!r} is not a strength; write for example style.safetensors: 0.7."
            ) from None
    return tuple(found)
