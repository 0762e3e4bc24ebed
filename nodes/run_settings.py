"""Run Settings and Sample Settings: how long, what is kept, and which pictures are drawn on the way."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

from ..trainer.errors import AthanorError
from ..trainer.sample_prompts import lines_of_file
from ..trainer.settings import RunSettings, SampleSettings, Settings
from . import host
from .settings import from_widgets, widgets
from .types import SettingsWire

_CATEGORY = "Athanor/training/settings"
_NO_FILE = "none"
_OWN = ("every_epochs", "every_steps", "at_start")


class RunSettingsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorRunSettings",
            display_name="Run Settings",
            category=_CATEGORY,
            description="Length in steps instead of epochs, which saved files stay, when the run ends early by itself, and how often its state is saved.",
            search_aliases=["max train steps", "save every n steps", "early stopping", "keep last"],
            inputs=[*widgets(RunSettings), _settings_input()],
            outputs=[SettingsWire.Output("settings", display_name="settings")],
        )

    @classmethod
    def execute(cls, settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(dataclasses.replace(settings or Settings(), run=from_widgets(RunSettings(), values)))


class SampleSettingsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorSampleSettings",
            display_name="Sample Settings",
            category=_CATEGORY,
            description="When sample pictures are drawn, and prompts from a file in kohya's syntax, TOML or JSON.",
            search_aliases=["sample prompts", "preview", "kohya"],
            inputs=[
                *widgets(SampleSettings, only=_OWN),
                io.Combo.Input(
                    "prompt_file",
                    options=[_NO_FILE, *host.prompt_files()],
                    default=_NO_FILE,
                    display_name="prompt file",
                    tooltip="A .txt, .toml or .json of prompts in ComfyUI's input folder, as kohya's trainers read them. Its prompts are drawn instead of those on the training node.",
                ),
                _settings_input(),
            ],
            outputs=[SettingsWire.Output("settings", display_name="settings")],
        )

    @classmethod
    def fingerprint_inputs(cls, prompt_file: str, **_: Any) -> str:
        """The file may change under its name."""
        path = host.prompt_files().get(prompt_file)
        return f"{path.stat().st_mtime_ns} {path.stat().st_size}" if path and path.is_file() else ""

    @classmethod
    def execute(cls, prompt_file: str, settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        given = settings or Settings()
        samples = from_widgets(given.samples, values)
        if prompt_file == _NO_FILE:
            return io.NodeOutput(dataclasses.replace(given, samples=samples))
        files = host.prompt_files()
        if prompt_file not in files:
            raise AthanorError(f"There is no prompt file {prompt_file!r} in ComfyUI's input folder; put it there and press R.")
        samples = dataclasses.replace(samples, prompts="\n".join(lines_of_file(files[prompt_file])))
        from_file = tuple(dict.fromkeys((*given.from_file, "samples.prompts")))
        return io.NodeOutput(dataclasses.replace(given, samples=samples, from_file=from_file))


def _settings_input() -> io.Input:
    return SettingsWire.Input("settings", optional=True, tooltip="Settings of other sections, from another settings node.")
