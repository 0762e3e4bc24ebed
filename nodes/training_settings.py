"""Optimizer Settings and Schedule Settings: each replaces one section of what goes on to the training, and shows only what applies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from comfy_api.latest import io

from ..trainer.drawing.rate_plot import rate_plot
from ..trainer.optimizing import optimizers, schedules
from ..trainer.settings import OptimizerSettings, PerformanceSettings, ScheduleSettings, Settings
from ..trainer.settings.performance import CHECKPOINTING
from ..trainer.settings.schedule import chosen_options
from .images import to_comfy
from .settings import choice, flattened, from_widgets, widgets
from .types import SettingsWire

_WHICHEVER = "as the training node says"
_OFF, _ON = "off", "on"
_AS_FIRST, _OWN_RATE = "as the first", "own rate"
_CATEGORY = "Athanor/training/settings"


class OptimizerSettingsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorOptimizerSettings",
            display_name="Optimizer Settings",
            category=_CATEGORY,
            description="Finer settings of the optimizer: its own options, gradient accumulation, and a running mean of the weights (EMA).",
            search_aliases=["ema", "gradient accumulation", "prodigy", "adamw", "betas"],
            inputs=[
                io.DynamicCombo.Input(
                    "optimizer",
                    options=_options(OptimizerSettings, optimizers.OPTIMIZERS.names(), optimizers.own_options, first=_WHICHEVER),
                    tooltip="Choose the same optimizer as in the training node to set its own options; they appear below.",
                ),
                *widgets(OptimizerSettings, only=("accumulation",)),
                choice(
                    "ema",
                    "Whether a running mean of the weights is saved and drawn instead of the weights as they are: steadier, above all at high rates.",
                    {_OFF: [], _ON: widgets(OptimizerSettings, {"ema_decay": 0.999}, only=("ema_decay", "ema_on_cpu"))},
                ),
                choice(
                    "second_text_encoder",
                    "For models with two text encoders that can be trained (SDXL, SD3.5): whether the second learns as fast as the first.",
                    {_AS_FIRST: [], _OWN_RATE: widgets(OptimizerSettings, {"text_encoder_2_rate": 5e-5}, only=("text_encoder_2_rate",))},
                ),
                choice(
                    "t5",
                    "For models with T5 (FLUX.1, SD3.5): whether it is trained too, at a rate of its own. It costs much memory and is hardly ever needed.",
                    {_OFF: [], _OWN_RATE: widgets(OptimizerSettings, {"t5_rate": 1e-5}, only=("t5_rate",))},
                ),
                _settings_input(),
            ],
            outputs=[SettingsWire.Output("settings", display_name="settings")],
        )

    @classmethod
    def execute(cls, optimizer: Mapping[str, Any], settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        given = settings or Settings()
        name = optimizer["optimizer"]
        kind = {"kind": "" if name == _WHICHEVER else name}
        chosen = {**flattened(values), **optimizer, **kind}
        return io.NodeOutput(dataclasses.replace(given, optimizer=from_widgets(OptimizerSettings(), chosen)))


class ScheduleSettingsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorScheduleSettings",
            display_name="Schedule Settings",
            category=_CATEGORY,
            description="How the learning rate rises and falls over the run, drawn as a curve.",
            search_aliases=["scheduler", "warmup", "cosine", "learning rate"],
            inputs=[
                io.DynamicCombo.Input(
                    "schedule",
                    options=_options(
                        ScheduleSettings, ("cosine", *(each for each in schedules.SCHEDULES.names() if each != "cosine")), _schedule_options
                    ),
                    tooltip="Choose the same schedule as in the training node; its own options appear below.",
                ),
                *widgets(ScheduleSettings, only=("warmup_steps",)),
                io.Int.Input(
                    "drawn_steps",
                    default=1000,
                    min=2,
                    max=1_000_000,
                    display_name="drawn steps",
                    tooltip="Length of the run that the curve is drawn for. Changes only the picture.",
                ),
                _settings_input(),
            ],
            outputs=[
                SettingsWire.Output("settings", display_name="settings"),
                io.Image.Output("curve", display_name="curve", tooltip="The factor of the learning rate over the run."),
            ],
        )

    @classmethod
    def execute(cls, schedule: Mapping[str, Any], drawn_steps: int, settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        given, name = settings or Settings(), schedule["schedule"]
        section = from_widgets(ScheduleSettings(), {**values, **schedule, "kind": name})
        warmup = section.warmup_steps or round(drawn_steps * given.train.warmup_percent / 100)
        options = chosen_options(section)
        factors = [schedules.rate_factor(name, step, drawn_steps, warmup, options, section.min_ratio) for step in range(drawn_steps)]
        return io.NodeOutput(dataclasses.replace(given, schedule=section), to_comfy([rate_plot({name: factors}, name)]))


class PerformanceSettingsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorPerformanceSettings",
            display_name="Performance Settings",
            category=_CATEGORY,
            description="Speed and memory: what makes a step faster or lets it fit a smaller GPU, without changing what is learned.",
            search_aliases=["gradient checkpointing", "torch compile", "vram", "offload", "memory"],
            inputs=[
                choice(
                    "gradient_checkpointing",
                    _help(PerformanceSettings, "gradient_checkpointing"),
                    # Offloaded blocks free memory only where they are computed twice.
                    {how: widgets(PerformanceSettings, only=("block_offload",) if how in ("auto", "full") else ()) for how in CHECKPOINTING},
                ),
                *widgets(PerformanceSettings, without=("gradient_checkpointing", "block_offload")),
                _settings_input(),
            ],
            outputs=[SettingsWire.Output("settings", display_name="settings")],
        )

    @classmethod
    def execute(cls, settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        given = settings or Settings()
        return io.NodeOutput(dataclasses.replace(given, performance=from_widgets(PerformanceSettings(), flattened(values))))


def _schedule_options(name: str) -> dict[str, Any]:
    """What only this schedule has, and how far it falls, if it does."""
    return {**schedules.own_options(name), **({"min_ratio": 0.0} if name != "constant" else {})}


def _options(
    section: type, names: Sequence[str], own_options: Callable[[str], Mapping[str, Any]], first: str | None = None
) -> list[io.DynamicCombo.Option]:
    """One for each name, with the widgets of the options that only it has, at their defaults."""
    listed = [io.DynamicCombo.Option(first, [])] if first else []
    for name in names:
        options = own_options(name)
        listed.append(io.DynamicCombo.Option(name, widgets(section, options, only=tuple(options))))
    return listed


def _help(section: type, name: str) -> str:
    return next(item.metadata["help"] for item in dataclasses.fields(section) if item.name == name)


def _settings_input() -> io.Input:
    return SettingsWire.Input("settings", optional=True, tooltip="Settings of other sections, from another settings node.")
