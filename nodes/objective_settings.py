"""Objective Settings, Caption Settings and Data Settings: only what applies is shown."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

from ..trainer.settings import CaptionSettings, DataSettings, ObjectiveSettings, Settings
from .settings import choice, flattened, from_widgets, widgets
from .types import SettingsWire

_AS_THEY_ARE, _CHANGED = "as they are", "changed each time"
_PLAIN, _OFFSET, _MULTIRES, _BOTH = "plain", "offset", "multiresolution", "offset and multiresolution"
_OFF, _ON = "off", "on"


class ObjectiveSettingsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        def fields(*names: str, **defaults: Any) -> list[io.Input]:
            return widgets(ObjectiveSettings, defaults, only=names)

        huber = ("huber_schedule", "huber_c", "huber_scale")
        offset, multires = ("noise_offset", "adaptive_noise_scale", "noise_offset_random"), ("multires_iterations", "multires_discount")
        return _schema(
            "AthanorObjectiveSettings",
            "Objective Settings",
            "What the training minimises: how much noise levels, masks and concepts count, and which noise is used. Leave a setting alone and it does what most trainings want.",
            ["loss", "min snr", "noise offset", "masked loss", "timestep"],
            [
                choice("weighting", _help("weighting"), {"none": [], "min_snr": fields("min_snr_gamma"), "debiased": []}),
                choice(
                    "noise",
                    "Kind of the noise. offset: for darker and brighter pictures; multiresolution: for large forms too. Both are for models that predict noise or v.",
                    {
                        _PLAIN: [],
                        _OFFSET: fields(*offset, noise_offset=0.05),
                        _MULTIRES: fields(*multires, multires_iterations=6),
                        _BOTH: fields(*offset, *multires, noise_offset=0.05, multires_iterations=6),
                    },
                ),
                choice(
                    "timestep_sampling",
                    _help("timestep_sampling"),
                    {
                        "auto": [],
                        "uniform": [],
                        "logit_normal": fields("logit_mean", "logit_std"),
                        "sigmoid": fields("logit_std"),
                        "mode": fields("mode_scale"),
                        "shifted": fields("shift", "logit_std"),
                        "resolution_shifted": fields("logit_std"),
                    },
                ),
                choice(
                    "masked_loss",
                    _help("masked_loss"),
                    {"plain": fields("unmasked_weight"), "normalized": fields("unmasked_weight"), "off": []},
                ),
                choice("loss", _help("loss"), {"mse": [], "l1": [], "huber": fields(*huber), "smooth_l1": fields(*huber)}),
                *fields("regularization_weight"),
                choice(
                    "extra_noise",
                    "Whether the model sees a little more noise than it should tell of (input perturbation): against learning single images by heart.",
                    {_OFF: [], _ON: fields("input_perturbation", "input_perturbation_random", input_perturbation=0.1)},
                ),
                *fields("min_timestep", "max_timestep", "concept_weights", "zero_terminal_snr"),
            ],
        )

    @classmethod
    def execute(cls, settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(dataclasses.replace(settings or Settings(), objective=from_widgets(ObjectiveSettings(), flattened(values))))


class CaptionSettingsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        changed = ("shuffle", "keep_tokens", "tag_dropout", "keep_tokens_separator", "tag_warmup", "tag_warmup_start", "variants")
        dropped = ("clip_l_dropout", "clip_g_dropout", "t5_dropout")
        return _schema(
            "AthanorCaptionSettings",
            "Caption Settings",
            "What is done to captions each time an image is trained: other orders, tags left out, no caption at all. Works with cached text encoders too.",
            ["shuffle", "keep tokens", "caption dropout", "tag dropout", "wildcards"],
            [
                choice(
                    "tags",
                    "Whether the tags of a caption are moved and left out, another time each.",
                    {_AS_THEY_ARE: [], _CHANGED: widgets(CaptionSettings, {"shuffle": True, "keep_tokens": 1}, only=changed)},
                ),
                *widgets(CaptionSettings, without=(*changed, *dropped)),
                choice(
                    "encoder_dropout",
                    "For SD3.5: whether its text encoders are left out at times, each by itself, as SD3 was made. Works with cached text encoders too.",
                    {_OFF: [], _ON: widgets(CaptionSettings, dict.fromkeys(dropped, 0.1), only=dropped)},
                ),
            ],
        )

    @classmethod
    def execute(cls, settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(dataclasses.replace(settings or Settings(), captions=from_widgets(CaptionSettings(), flattened(values))))


class DataSettingsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        varied = ("random_crop", "colors", "variants")
        return _schema(
            "AthanorDataSettings",
            "Data Settings",
            "How images are varied from one time to the next, and where what is encoded of them is kept.",
            ["augmentation", "flip", "mirror", "random crop", "color", "cache latents"],
            [
                *widgets(DataSettings, only=("mirror",)),
                choice(
                    "variation",
                    "Whether each image is seen in a few variants instead of one. Each variant is encoded once before the training.",
                    {_OFF: [], _ON: widgets(DataSettings, {"random_crop": True}, only=varied)},
                ),
                *widgets(DataSettings, without=("mirror", *varied)),
            ],
        )

    @classmethod
    def execute(cls, settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(dataclasses.replace(settings or Settings(), data=from_widgets(DataSettings(), flattened(values))))


def _help(name: str) -> str:
    return next(item.metadata["help"] for item in dataclasses.fields(ObjectiveSettings) if item.name == name)


def _schema(node_id: str, display_name: str, description: str, aliases: list[str], inputs: list[io.Input]) -> io.Schema:
    return io.Schema(
        node_id=node_id,
        display_name=display_name,
        category="Athanor/training/settings",
        description=description,
        search_aliases=aliases,
        inputs=[*inputs, SettingsWire.Input("settings", optional=True, tooltip="Settings of other sections, from another settings node.")],
        outputs=[SettingsWire.Output("settings", display_name="settings")],
    )
