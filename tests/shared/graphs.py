"""Workflows in API format in which only what matters is written: every other widget has its default."""

from __future__ import annotations

import urllib.parse
from pathlib import Path
from typing import Any

from comfyui_server import ComfyUI
from tiny import make_base

from athanor.trainer.runs.run import Run

BASE = "tiny base"
Prompt = dict[str, Any]


def node(server: ComfyUI, class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node of a prompt; `inputs` are values or links such as ["data", 0]."""
    info = server.get(f"/object_info/{urllib.parse.quote(class_type)}")[class_type]
    values = _defaults(info["input"].get("required", {}), inputs)
    return {"class_type": class_type, "inputs": {**{name: value for name, value in values.items() if value is not None}, **inputs}}


def _defaults(specs: dict[str, Any], chosen: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Of each input that is not chosen; of a drop-down with inputs under it also theirs, as `drop-down.input`."""
    values: dict[str, Any] = {}
    for name, spec in specs.items():
        key = prefix + name
        options = (spec[1] if len(spec) > 1 else {}).get("options") or []
        if options and isinstance(options[0], dict):
            picked = chosen.get(key, options[0]["key"])
            inner = next(option["inputs"] for option in options if option["key"] == picked)
            values |= {key: picked, **_defaults({**inner.get("required", {}), **inner.get("optional", {})}, chosen, f"{key}.")}
        else:
            values[key] = _default(spec)
    return {key: value for key, value in values.items() if key not in chosen}


def _default(spec: list[Any]) -> Any:
    options = spec[1] if len(spec) > 1 else {}
    choices = spec[0] if isinstance(spec[0], list) else options.get("options", [])
    return options.get("default", choices[0] if choices else None)


def training(server: ComfyUI, folder: str, name: str, **settings: Any) -> Prompt:
    """Tiny base, `folder`, buckets and a LoRA in fp32: nodes `base`, `data`, `bucket`, `train`."""
    if not (server.models_folder / "diffusers" / BASE).exists():
        make_base(server.models_folder / "diffusers" / BASE)
    chosen = {
        "adapter.rank": 2,
        "adapter.alpha": 2.0,
        "batch_size": 2,
        "rate": 1e-2,
        "text_encoder_rate": 1e-3,
        "precision": "fp32",
        "sample_steps": 2,
        **settings,
    }
    return {
        "base": node(server, "AthanorLoadBaseModel", model=BASE),
        "data": node(server, "AthanorLoadDataset", folder=folder, trigger="subject", validation_percent=20.0),
        "bucket": node(server, "AthanorBucket", dataset=["data", 0], base_model=["base", 0]),
        "train": node(server, "AthanorTrainLora", base_model=["base", 0], dataset=["bucket", 0], name=name, **chosen),
    }


def comparing(server: ComfyUI, run: str, **look: Any) -> Prompt:
    """The tiny base and XY Plot Compare over a run of it, in small pictures: nodes `base`, `run`, `xy`, `chosen`."""
    return {
        "base": node(server, "AthanorLoadBaseModel", model=BASE),
        "run": node(server, "AthanorLoadRun", run=run),
        "xy": node(
            server,
            "AthanorXYPlotCompare",
            run=["run", 0],
            base_model=["base", 0],
            **{"prompts": "subject", "steps": 2, "width": 32, "height": 32, **look},
        ),
        "chosen": node(server, "PreviewAny", source=["xy", 2]),
    }


def run_of(server: ComfyUI, folder_name: str) -> Run:
    return Run(server.output_folder / "athanor" / folder_name)


def user_files(server: ComfyUI) -> dict[Path, int]:
    """Every file of the server's folders but its own log and database, with the time of its last change."""
    parts = (server.input_folder, server.output_folder, server.models_folder)
    return {path: path.stat().st_mtime_ns for part in parts for path in part.rglob("*") if path.is_file()}
