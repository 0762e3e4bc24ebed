"""A parameter file by whichever program wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import AthanorError
from . import kohya_gui, lora_scripts, own
from .imported import Imported
from .sheet import Sheet
from .translate import translate

_MAX_BYTES = 4 << 20
_NETWORK_ARGUMENTS = "network_args"
_READ = "choose a file of kohya_ss, sd-scripts or lora-scripts, a preset, or a run's job.json"


def read_parameters(path: Path) -> Imported:
    """Reads a kohya_ss .json, an sd-scripts or lora-scripts .toml, a preset, or a run's job.json.

    Raises AthanorError if it is none of these, or cannot be read.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        raise AthanorError(f"{path.name} is YAML, as ai-toolkit and others write it, which is not read here; {_READ}.")
    data = _content(path)
    if own.is_job(data):
        return own.read_job_settings(data)
    if own.is_preset(data):
        return own.read_preset(data)
    program = _other_program(data)
    if program:
        raise AthanorError(
            f"{path.name} is a file of {program}, which is not read here: its settings mean other things. {_READ[0].upper()}{_READ[1:]}."
        )
    if "datasets" in data:
        raise AthanorError(f"{path.name} describes a dataset, not settings; choose it in Load Dataset.")
    flat = _flattened(data)
    if kohya_gui.looks_like_it(flat):
        program, (arguments, names) = "A file of kohya_ss", kohya_gui.as_arguments(flat)
    elif lora_scripts.looks_like_it(flat):
        program, (arguments, names) = "A file of lora-scripts", lora_scripts.as_arguments(_with_custom(flat))
    else:
        program, arguments, names = "A file of sd-scripts", flat, {}
    for key, value in _network_arguments(arguments.pop(_NETWORK_ARGUMENTS, ())).items():
        arguments.setdefault(key, value)
    sheet = Sheet(arguments, names)
    translate(sheet)
    if not sheet.values and all(line.outcome == "unknown" for line in sheet.lines):
        raise AthanorError(f"{path.name} holds no setting that is known; choose a file of kohya_ss, sd-scripts or lora-scripts, or a run's job.json.")
    return sheet.imported(program)


def _other_program(data: Mapping[str, Any]) -> str:
    """Of which some keys have the names of sd-scripts, with another meaning; empty where there is no sign of one."""
    keys = set(data)
    if {"training_method", "__version"} & keys or {"base_model_name", "output_model_destination"} <= keys:
        return "OneTrainer"
    if {"job", "config"} <= keys:
        return "ai-toolkit"
    if "micro_batch_size_per_gpu" in keys:
        return "diffusion-pipe"
    return "SimpleTuner" if any(key.startswith("--") for key in keys) else ""


def _content(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise AthanorError(f"{path.name} is too large for a file of settings.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AthanorError(f"{path.name} cannot be read: {error}.") from None
    data = parse_toml(text, path.name) if path.suffix.lower() == ".toml" else _json(text, path.name)
    if not isinstance(data, dict) or not data:
        raise AthanorError(f"{path.name} holds no settings.")
    return data


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise AthanorError(f"{name} cannot be read as JSON: {error}.") from None


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Raises AthanorError if it is no TOML."""
    try:
        import tomllib
    except ImportError:
        try:
            import tomli as tomllib  # type: ignore[no-redef]
        except ImportError:
            raise AthanorError(f"{name} cannot be read: Python 3.10 knows no TOML. Install tomli (pip install tomli).") from None
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        raise AthanorError(f"{name} cannot be read as TOML: {error}.") from None


def _flattened(data: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of a TOML file are there for the eye only, as in sd-scripts."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if key == "metadata" and isinstance(value, dict):
            # Name and author of a template of lora-scripts.
            continue
        flat.update(value if isinstance(value, dict) else {key: value})
    return flat


def _with_custom(data: dict[str, Any]) -> dict[str, Any]:
    """What was typed into the field for further parameters, as TOML."""
    custom = str(data.pop("ui_custom_params", "") or "").strip()
    return {**data, **_flattened(parse_toml(custom, "ui_custom_params"))} if custom else data


def _network_arguments(items: Any) -> dict[str, Any]:
    pairs = items if isinstance(items, (list, tuple)) else str(items).split()
    return {key.strip(): value.strip() for key, _, value in (str(pair).partition("=") for pair in pairs) if key.strip()}
