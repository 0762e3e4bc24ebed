"""Athanor's own files: the job.json of a run, and presets, which are the same sections in TOML with a sentence why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...config import from_json
from ...errors import AthanorError
from ...settings import Settings
from ...trainees.words import read_words
from .imported import Imported, Line, values_of

_SECTIONS = tuple(section.name for section in dataclasses.fields(Settings) if dataclasses.is_dataclass(section.default))

_PATHS = ("adapter.start_file", "adapter.merge_files", "adapter.files_sha256", "embedding.start_embedding", "embedding.embedding_sha256")
"""They would have a workflow that was sent to somebody read any file of theirs."""
_OF_THE_KIND = {"lora": ("adapter", "embedding"), "embedding": ("embedding",), "checkpoint": ("checkpoint",)}
_BESIDE_A_LORA = ("embedding.other_embeddings", "embedding.embedding_rate", "embedding.embedding_percent", "embedding.keep_norm")
_WHERE = {"adapter": "Adapter Settings", "embedding": "the training node"}


def is_job(data: Mapping[str, Any]) -> bool:
    return "format" in data and "base" in data and "dataset" in data


def is_preset(data: Mapping[str, Any]) -> bool:
    return "why" in data and all(key in ("why", *_SECTIONS) for key in data)


def read_job_settings(data: Mapping[str, Any]) -> Imported:
    """Every setting of a job. Raises AthanorError where one is unknown, missing or of the wrong type."""
    kind = str(data.get("kind", "lora"))
    if (
        kind not in _OF_THE_KIND
        or not isinstance(data["base"], dict)
        or not isinstance(data["dataset"], dict)
        or not isinstance(data["dataset"].get("samples"), list)
    ):
        raise AthanorError("This is no training's job.json, or one that was changed by hand: its kind, base or dataset is not one.")
    settings = Settings(**{name: _section(name, data[name]) for name in _SECTIONS if name in data})
    told = {path: value for path, value in values_of(settings).items() if path.split(".")[0] in data and _counts(path, kind)}
    with_files = any(word.start_file for word in read_words(settings.embedding.other_embeddings))
    paths = {*_PATHS, *(["embedding.other_embeddings"] if with_files else [])}
    values = tuple((path, value) for path, value in told.items() if path not in paths)
    lines = [
        Line("elsewhere", "base", str(data["base"].get("name", "…")), "choose it in Load Base Model."),
        Line("elsewhere", "dataset", f"{len(data['dataset'].get('samples', ()))} images", "choose it in Load Dataset."),
        Line("elsewhere", "name", str(data.get("name", "")), "the name is set in the training node."),
        *(
            Line("left out", path, _in_a_line(value), f"a file must not name others; choose it in {_WHERE[path.split('.')[0]]}.")
            for path, value in told.items()
            if path in paths and value
        ),
        *(Line("taken", path, _in_a_line(value), path) for path, value in values),
    ]
    return Imported("A run's job.json", values, tuple(lines))


def _counts(path: str, kind: str) -> bool:
    """Whether the setting means something for that kind of training."""
    section = path.split(".")[0]
    if path == "embedding.token":
        return False
    if section == "embedding" and kind == "lora":
        return path in _BESIDE_A_LORA
    if path in ("adapter.merge_files", "adapter.files_sha256"):
        return kind != "checkpoint"
    return section not in ("adapter", "embedding", "checkpoint") or section in _OF_THE_KIND[kind]


def _in_a_line(value: Any) -> str:
    return str(value).replace("\n", " / ")


def read_preset(data: Mapping[str, Any]) -> Imported:
    """The settings that a preset names. Raises AthanorError where one is unknown or of the wrong type."""
    values: list[tuple[str, Any]] = []
    for name in (key for key in data if key != "why"):
        section = _section(name, data[name])
        values += [(f"{name}.{key}", getattr(section, key)) for key in data[name] if f"{name}.{key}" not in _PATHS]
    return Imported("A preset", tuple(values), tuple(Line("taken", path, str(value), path) for path, value in values), str(data["why"]).strip())


def _section(name: str, data: Any) -> Any:
    kind = type(getattr(Settings(), name))
    if not isinstance(data, dict):
        raise AthanorError(f"{name} must hold settings, not {data!r}.")
    return from_json(kind, data, name)
