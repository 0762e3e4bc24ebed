"""The settings nodes: each replaces one section of what goes on to the training, so that they can be chained in any order."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

from ..trainer.settings import OptimizerSettings, Settings
from .settings import from_widgets, widgets
from .types import SettingsWire


class OptimizerSettingsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return _schema(
            "AthanorOptimizerSettings", "Optimizer Settings", "Finer settings of the optimizer that the training node names.", OptimizerSettings
        )

    @classmethod
    def execute(cls, settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        given = settings or Settings()
        return io.NodeOutput(dataclasses.replace(given, optimizer=from_widgets(given.optimizer, values)))


def _schema(node_id: str, display_name: str, description: str, section: type) -> io.Schema:
    return io.Schema(
        node_id=node_id,
        display_name=display_name,
        category="Athanor/training/settings",
        description=description,
        inputs=[*widgets(section), SettingsWire.Input("settings", optional=True, tooltip="Settings of other sections, from another settings node.")],
        outputs=[SettingsWire.Output("settings", display_name="settings")],
    )
