"""Athanor's own files: the job.json of a run, and presets, which are the same sections in TOML with a sentence why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...config import from_json
from ...errors import AthanorError
from ...settings import Settings
from .imported import Imported, Line, values_of

_SECTIONS = tuple(section.name for section in dataclasses.fields(Settings) if dataclasses.is_dataclass(section.default))

_PATHS = ("adapter.start_file", "adapter.merge_files", "adapter.files_sha256")
"""They would have a workflow that was sent to somebody read any file of theirs."""


def is_job(data: Mapping[str, Any]) -> bool:
    return "format" in data and "base" in data and "dataset" in data


def is_preset(data: Mapping[str, Any]) -> bool:
    return "why" in data and all(key in ("why", *_SECTIONS) for key in data)


def read_job_settings(data: Mapping[str, Any]) -> Imported:
    """Every setting of a job. Raises AthanorError where one is unknown, missing or of the wrong type."""
    lines = [Line("elsewhere", key, str(data[key].get("name", "…")), f"choose it in Load {noun}.") for key, noun in (("base", "Base Model"),)]
    lines.append(Line("elsewhere", "dataset", f"{len(data['dataset'].get('samples', ()))} images", "choose it in Load Dataset."))
    lines.append(Line("elsewhere", "name", str(data.get("name", "")), "the name is set in the training node."))
    settings = Settings(**{name: _section(name, data[name]) for name in _SECTIONS if name in data})
    values = tuple((path, value) for path, value in values_of(settings).items() if path.split(".")[0] in data and path not in _PATHS)
    named = [(path, value) for path, value in values_of(settings).items() if path in _PATHS and value]
    lines += [
        Line("left out", path, str(value).replace("\n", " / "), "a file must not name others; choose it in Adapter Settings.")
        for path, value in named
    ]
    lines += [Line("taken", path, str(value).replace("\n", " / "), path) for path, value in values]
    return Imported("A run's job.json", values, tuple(lines))


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
