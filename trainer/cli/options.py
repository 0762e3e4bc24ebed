"""Settings as options of a command, and back."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from ..errors import AthanorError
from ..runs.run import JOB_FILE, Run
from ..settings import value_type

Settings = TypeVar("Settings")


def existing_run(path: Path) -> Run:
    """The run of a directory, or of the job.json in it. Raises AthanorError where there is none: nothing is ever written into another folder by mistake."""
    folder = path.resolve()
    if folder.name == JOB_FILE and folder.is_file():
        folder = folder.parent
    if not (folder / JOB_FILE).is_file():
        raise AthanorError(f"{path} is no run directory: there is no {JOB_FILE} in it. Name one of those that athanor train and the nodes make.")
    return Run(folder)


def add_settings(parser: argparse.ArgumentParser, settings: type, prefix: str = "", without: tuple[str, ...] = ()) -> None:
    for item in dataclasses.fields(settings):
        if item.name not in without:
            option, sentence = f"--{prefix}{item.name.replace('_', '-')}", item.metadata["help"].replace("%", "%%")
            kind = value_type(settings, item.name)
            if kind is bool:
                parser.add_argument(option, action=argparse.BooleanOptionalAction, default=item.default, help=sentence)
            else:
                parser.add_argument(option, type=kind, default=item.default, choices=item.metadata["choices"] or None, help=sentence)


def settings_of(kind: type[Settings], options: dict[str, Any], prefix: str = "") -> Settings:
    names = [item.name for item in dataclasses.fields(kind)]  # type: ignore[arg-type]
    key = prefix.replace("-", "_")
    return kind(**{name: options[key + name] for name in names if key + name in options})
