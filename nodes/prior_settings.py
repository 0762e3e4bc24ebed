"""Prior Settings: what keeps the rest of the class as the base draws it."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

from ..trainer.settings import PriorSettings, Settings
from .settings import choice, flattened, from_widgets, widgets
from .types import SettingsWire

_OFF, _ON = "off", "on"
_DRAWN = ("class_images", "class_prompts", "class_negative_prompt", "class_steps", "class_guidance", "class_seed")
_HELD = ("hold_weight", "class_word")


class PriorSettingsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorPriorSettings",
            display_name="Prior Settings",
            category="Athanor/training/settings",
            description="Prior preservation: teaches your subject and keeps all others of its kind as they were, with class images that the base draws itself, or by holding the LoRA to the base's own answers.",
            search_aliases=["prior preservation", "dreambooth", "class images", "regularization", "differential output preservation"],
            inputs=[
                choice(
                    "draw_class_images",
                    "Whether the base draws class images before the training, where the regularization folder has too few. They are kept and used again.",
                    {_OFF: [], _ON: widgets(PriorSettings, {"class_images": 50, "class_prompts": "a photo of a cat"}, only=_DRAWN)},
                ),
                *widgets(PriorSettings, only=("class_target",)),
                choice(
                    "hold_to_base",
                    "Whether a LoRA is held to the base with the class word in the place of the trigger, without any class images.",
                    {_OFF: [], _ON: widgets(PriorSettings, {"hold_weight": 1.0, "class_word": "cat"}, only=_HELD)},
                ),
                SettingsWire.Input("settings", optional=True, tooltip="Settings of other sections, from another settings node."),
            ],
            outputs=[SettingsWire.Output("settings", display_name="settings")],
        )

    @classmethod
    def execute(cls, settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(dataclasses.replace(settings or Settings(), prior=from_widgets(PriorSettings(), flattened(values))))
