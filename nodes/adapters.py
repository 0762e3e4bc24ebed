"""The adapter's widgets: the kind with what belongs to it on the training node, the rest in Adapter Settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..trainer.adapters import adapter as adapter_kind
from ..trainer.adapters.check import merges, names_can_be_chosen, with_files_hashed
from ..trainer.settings import AdapterSettings, Settings
from . import host
from .settings import choice, flattened, from_widgets, widgets
from .types import SettingsWire

_NONE = "none"
_KIND = "adapter"
_FRONT = {
    "lora": ("rank", "alpha"),
    "locon": ("rank", "alpha", "conv_rank", "conv_alpha"),
    "loha": ("rank", "alpha", "conv_rank", "conv_alpha"),
    "lokr": ("rank", "alpha", "factor", "conv_rank", "conv_alpha", "decompose_both", "full_matrix"),
    "dora": ("rank", "alpha", "conv_rank", "conv_alpha"),
    "ia3": ("stock_form",),
}
"""What each kind shows on the training node."""
_COMMON = ("targets", "blocks", "pattern", "rules")
"""What Adapter Settings shows for every kind."""


def kind_widget() -> io.DynamicCombo.Input:
    """The kind of adapter, and below it what this kind has."""
    help_text = next(item.metadata["help"] for item in dataclasses.fields(AdapterSettings) if item.name == "kind")
    options = [io.DynamicCombo.Option(kind, widgets(AdapterSettings, only=names)) for kind, names in _FRONT.items()]
    return io.DynamicCombo.Input(_KIND, options=options, display_name="adapter", tooltip=help_text)


def with_kind(settings: AdapterSettings, chosen: Mapping[str, Any]) -> AdapterSettings:
    """`settings` with what the kind's widgets say."""
    return from_widgets(dataclasses.replace(settings, kind=chosen[_KIND]), chosen)


def _own(kind: str) -> tuple[str, ...]:
    """What only some kinds have, this one too, and the training node does not show."""
    names = ("names",) if names_can_be_chosen(kind) else ()
    return (*(adapter_kind(kind).options - set(_FRONT[kind])), *names)


class AdapterSettingsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        helps = {item.name: item.metadata["help"] for item in dataclasses.fields(AdapterSettings)}
        return io.Schema(
            node_id="AthanorAdapterSettings",
            display_name="Adapter Settings",
            category="Athanor/training/settings",
            description="Which layers Train LoRA changes and how: targets, blocks, ranks and rates of single parts, dropout, going on from another LoRA.",
            search_aliases=["dropout", "lora+", "loraplus", "rslora", "block weights", "resume lora"],
            inputs=[
                choice(
                    _KIND,
                    "Choose the same adapter as in the training node; the options that it has appear below.",
                    {kind: widgets(AdapterSettings, only=_own(kind)) for kind in _FRONT},
                ),
                *widgets(AdapterSettings, only=_COMMON),
                io.Combo.Input("start_file", options=lora_names(), default=_NONE, display_name="start from", tooltip=helps["start_file"]),
                io.String.Input("merge_files", default="", multiline=True, display_name="merge first", tooltip=helps["merge_files"]),
                SettingsWire.Input("settings", optional=True, tooltip="Settings of other sections, from another settings node."),
            ],
            outputs=[SettingsWire.Output("settings", display_name="settings")],
        )

    @classmethod
    def fingerprint_inputs(cls, start_file: str, merge_files: str, **values: Any) -> str:
        """The files themselves may change under their names."""
        files = [start_file, *(name for name, _ in merges(AdapterSettings(merge_files=merge_files)))]
        return repr([host.changed_at(name) for name in files])

    @classmethod
    def execute(cls, start_file: str, merge_files: str, settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        given = settings or Settings()
        adapter = from_widgets(given.adapter, flattened(values))
        merged = [f"{host.lora_path(name)}: {strength:g}" for name, strength in merges(AdapterSettings(merge_files=merge_files))]
        start = lora_file(start_file)
        files = dataclasses.replace(adapter, start_file=str(start or ""), merge_files="\n".join(merged))
        return io.NodeOutput(dataclasses.replace(given, adapter=with_files_hashed(files)))


def lora_names() -> list[str]:
    """For drop-downs: no file, then those that ComfyUI lists."""
    return [_NONE, *host.lora_names()]


def lora_file(name: str) -> Path | None:
    """The file of a drop-down's entry; None for none."""
    return None if name == _NONE else host.lora_path(name)
