"""Import Settings and Export Settings: files of other trainers, of earlier runs, and presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..trainer.errors import AthanorError
from ..trainer.files import replace_atomically
from ..trainer.formats.parameters import read_parameters, sd_scripts_toml
from ..trainer.runs.run import JOB_FILE, Run
from ..trainer.settings import Settings
from . import host
from .types import RunWire, SettingsWire

_NO_FILE = "none"
_RUN, _PRESET = "run: ", "preset: "
_EXPORTED = "sd-scripts.toml"


class ImportSettings(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorImportSettings",
            display_name="Import Settings",
            category="Athanor/training/settings",
            description="Takes settings from a preset, from an earlier run, or from a file of kohya_ss, sd-scripts or lora-scripts, and reports what became of each. What the file says counts more than the widgets of the training node.",
            search_aliases=["kohya", "preset", "toml", "json", "config", "sd-scripts", "lora-scripts", "parameters"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=[*_files()] or [_NO_FILE],
                    tooltip="A preset, a run of the output folder, or a .json or .toml in ComfyUI's input folder or in models/training_settings. Press R after you put one there.",
                ),
                io.Boolean.Input(
                    "over_widgets",
                    default=True,
                    display_name="over the training node's widgets",
                    tooltip="On: what the file says of rank, rates, epochs, prompts and so on counts, whatever the widgets of the training node show; what the file does not say stays theirs. Off: only what has no widget there is taken.",
                ),
                SettingsWire.Input(
                    "settings",
                    optional=True,
                    tooltip="Settings that this file adds to, for example another preset; where both say something, this file counts.",
                ),
            ],
            outputs=[
                SettingsWire.Output("settings", display_name="settings"),
                io.String.Output("report", display_name="report", tooltip="What was taken, translated, left out and why. Connect Preview as Text."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: Any) -> str:
        """A file may change under its name."""
        path = _files().get(file)
        return f"{path.stat().st_mtime_ns} {path.stat().st_size}" if path and path.is_file() else ""

    @classmethod
    def execute(cls, file: str, over_widgets: bool, settings: Settings | None = None) -> io.NodeOutput:
        files = _files()
        if file not in files:
            raise AthanorError(f"There is no file of settings {file!r}; put it into ComfyUI's input folder or models/training_settings and press R.")
        imported, given = read_parameters(files[file]), settings or Settings()
        return io.NodeOutput(imported.applied_to(given, over_widgets), imported.report())


class ExportSettings(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorExportSettings",
            display_name="Export Settings",
            category="Athanor/training/settings",
            description=f"Writes a run's settings as a --config_file of sd-scripts, {_EXPORTED}, into the run's folder. What sd-scripts does not have is said at its top.",
            search_aliases=["kohya", "toml", "config", "sd-scripts"],
            is_output_node=True,
            inputs=[RunWire.Input("run", tooltip="From a training node or Load Run.")],
            outputs=[io.String.Output("text", display_name="text", tooltip="The file's text.")],
        )

    @classmethod
    def execute(cls, run: Run) -> io.NodeOutput:
        text, _ = sd_scripts_toml(run.train_job())
        path = run.folder / _EXPORTED
        replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        return io.NodeOutput(text, ui={"text": [f"Written to {path}."]})


def _files() -> dict[str, Path]:
    """By the drop-down's entry: presets, files that a person put there, then runs."""
    found = {_PRESET + path.stem: path for path in host.preset_files()}
    found |= host.parameter_files()
    return found | {_RUN + name: host.runs_root() / name / JOB_FILE for name in host.run_names()}
