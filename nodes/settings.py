"""Widgets out of settings: names, ranges, defaults and tooltips stand once, in trainer/config.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from comfy_api.latest import io

Settings = TypeVar("Settings")


def widgets(
    settings: type,
    defaults: Mapping[str, Any] | None = None,
    without: tuple[str, ...] = (),
    prefix: str = "",
    only: tuple[str, ...] | None = None,
) -> list[io.Input]:
    """A widget for each field of a settings class (or those in `only`), its id with `prefix` in front. `defaults` replaces the class's own ones."""
    fields = [item for item in dataclasses.fields(settings) if item.name not in without and (only is None or item.name in only)]
    return [_widget(item, prefix + item.name, (defaults or {}).get(item.name, item.default)) for item in fields]


def choice(widget_id: str, tooltip: str, options: Mapping[str, list[io.Input]]) -> io.Input:
    """A drop-down that shows the widgets of the chosen option under it. The first option is the default."""
    listed = [io.DynamicCombo.Option(key, inputs) for key, inputs in options.items()]
    return io.DynamicCombo.Input(widget_id, options=listed, display_name=widget_id.replace("_", " "), tooltip=tooltip)


def flattened(values: Mapping[str, Any]) -> dict[str, Any]:
    """The widgets' values with those under drop-downs of `choice` beside the others."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(value if isinstance(value, Mapping) else {name: value})
    return flat


def from_widgets(settings: Settings, values: Mapping[str, Any], prefix: str = "") -> Settings:
    """`settings` with the values of the widgets `prefix` + name; fields without a widget stay as they are."""
    names = [item.name for item in dataclasses.fields(settings)]  # type: ignore[arg-type]
    return dataclasses.replace(settings, **{name: values[prefix + name] for name in names if prefix + name in values})  # type: ignore[type-var]


def _widget(item: dataclasses.Field, widget_id: str, default: Any) -> io.Input:
    limits, shown, advanced = item.metadata, widget_id.replace("_", " "), item.metadata["advanced"] or None
    if limits["choices"]:
        return io.Combo.Input(
            widget_id, options=list(limits["choices"]), default=default, display_name=shown, tooltip=limits["help"], advanced=advanced
        )
    if isinstance(default, bool):
        return io.Boolean.Input(widget_id, default=default, display_name=shown, tooltip=limits["help"], advanced=advanced)
    if isinstance(default, int):
        # A seed that changed by itself after each queueing would train anew each time.
        control = False if item.name == "seed" else None
        low, high = int(limits["minimum"]), int(limits["maximum"])
        return io.Int.Input(
            widget_id,
            default=default,
            min=low,
            max=high,
            display_name=shown,
            tooltip=limits["help"],
            control_after_generate=control,
            advanced=advanced,
        )
    if isinstance(default, float):
        step = limits["step"] or 0.01
        return io.Float.Input(
            widget_id,
            default=default,
            min=limits["minimum"],
            max=limits["maximum"],
            step=step,
            round=step,
            display_name=shown,
            tooltip=limits["help"],
            advanced=advanced,
        )
    return io.String.Input(widget_id, default=default, multiline=limits["multiline"], display_name=shown, tooltip=limits["help"], advanced=advanced)
