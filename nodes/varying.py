"""Vary Settings and Collect Runs: the same training several times, one after the other, and what came out of it together."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

from comfy_api.latest import io, ui

from ..trainer.errors import AthanorError, raise_problems
from ..trainer.runs.run import Run
from ..trainer.settings import Settings, range_problems, value_type
from .types import RunWire, SettingsWire

_FIRST = (
    "adapter.rank", "adapter.alpha", "train.rate", "train.text_encoder_rate", "train.epochs", "train.batch_size", "train.optimizer",
    "train.schedule", "train.seed", "optimizer.accumulation", "optimizer.ema_decay", "run.steps",
)  # fmt: skip
_LEFT_OUT = (
    "optimizer.kind", "schedule.kind", "adapter.start_file", "adapter.merge_files", "adapter.files_sha256",
    "embedding.token", "embedding.start_embedding", "embedding.other_embeddings", "embedding.embedding_sha256",
)  # fmt: skip
"""Those that go with the optimizer and the schedule, and files, which a workflow may name only on their own node."""
_SWITCH = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}
_MAX_VALUES = 64
_NUM_SOCKETS = 4


def _fields() -> dict[str, tuple[str, dataclasses.Field]]:
    """By "section.field" its section and the field, the most usual first."""
    sections = [item.name for item in dataclasses.fields(Settings) if dataclasses.is_dataclass(item.default)]
    found = {
        f"{section}.{item.name}": (section, item)
        for section in sections
        for item in dataclasses.fields(getattr(Settings(), section))
        if item.metadata
    }
    ordered = {path: found[path] for path in _FIRST} | found
    return {path: each for path, each in ordered.items() if path not in _LEFT_OUT}


class VarySettings(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorVarySettings",
            display_name="Vary Settings",
            category="Athanor/training/settings",
            description="A queue of runs: the training behind it is done once for each value, one after the other, each as a run of its own. If one fails, the others are trained all the same. Two of these nodes in a row give every combination.",
            search_aliases=["queue", "sweep", "batch", "rank", "list", "grid search"],
            inputs=[
                io.Combo.Input(
                    "setting", options=list(_fields()), tooltip="What changes from run to run. It counts more than the widget of the training node."
                ),
                io.String.Input(
                    "values",
                    default="8, 16, 32",
                    multiline=True,
                    tooltip="With commas, or one a line where a value has a comma itself. true and false for switches.",
                ),
                SettingsWire.Input("settings", optional=True, tooltip="Settings that all runs share, from another settings node."),
            ],
            outputs=[SettingsWire.Output("settings", display_name="settings", is_output_list=True, tooltip="To the training node.")],
        )

    @classmethod
    def execute(cls, setting: str, values: str, settings: Settings | None = None) -> io.NodeOutput:
        fields = _fields()
        if setting not in fields:
            raise AthanorError(f"Vary Settings: there is no setting {setting!r}; choose one of the list.")
        texts = _texts(values)
        if not texts or len(texts) > _MAX_VALUES:
            raise AthanorError(f"Vary Settings: there are {len(texts)} values; write 1 to {_MAX_VALUES}, such as 8, 16, 32.")
        section, item = fields[setting]
        given = settings or Settings()
        varied, problems = [], []
        for text in texts:
            try:
                changed = dataclasses.replace(getattr(given, section), **{item.name: _value(getattr(given, section), item.name, text)})
            except ValueError:
                problems.append(f"Vary Settings: {setting} cannot be {text!r}; {_wanted(value_type(type(getattr(given, section)), item.name))}.")
                continue
            problems += [each for each in range_problems(changed, "Vary Settings") if f" {item.name} " in each]
            label = "-".join(filter(None, (given.label, _label(item.name, text))))
            paths = tuple(dict.fromkeys((*given.varied, setting)))
            varied.append(dataclasses.replace(given, **{section: changed}, varied=paths, label=label))
        raise_problems(problems)
        return io.NodeOutput(varied)


class CollectRuns(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        more = [
            RunWire.Input(f"run_{number}", optional=True, display_name=f"run {number}", tooltip="Of another training node, or from Load Run.")
            for number in range(2, _NUM_SOCKETS + 1)
        ]
        return io.Schema(
            node_id="AthanorCollectRuns",
            display_name="Collect Runs",
            category="Athanor/training",
            description="Brings the runs of a queue, or of several training nodes, together for one comparison: connect run, and names to the X values of XY Plot Compare, whose X axis is set to run.",
            search_aliases=["queue", "compare runs", "list"],
            is_input_list=True,
            inputs=[RunWire.Input("run", tooltip="From a training node; with Vary Settings all its runs."), *more],
            outputs=[
                RunWire.Output("run", display_name="run", tooltip="The first of them."),
                io.String.Output("names", display_name="names", tooltip="Of all runs, one a line: the values of XY Plot Compare's axis run."),
            ],
        )

    @classmethod
    def execute(cls, run: list[Run], **more: Any) -> io.NodeOutput:
        runs = list(dict.fromkeys(itertools.chain(run, *(more[name] or [] for name in sorted(more)))))
        loaded = [each.name for each in runs if each.is_loaded]
        if loaded:
            raise AthanorError(f"Collect Runs takes trainings of Athanor; {loaded[0]} holds files of another program, which are compared alone.")
        names = "\n".join(each.name for each in runs)
        return io.NodeOutput(runs[0], names, ui=ui.PreviewText(names))


def _texts(values: str) -> list[str]:
    lines = [line.strip() for line in values.splitlines()]
    parts = lines if len(lines) > 1 else values.replace("，", ",").split(",")
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _value(section: Any, name: str, text: str) -> Any:
    """Raises ValueError where the text is no value of that setting."""
    kind = value_type(type(section), name)
    if kind is bool:
        if text.lower() not in _SWITCH:
            raise ValueError(text)
        return _SWITCH[text.lower()]
    if kind is int:
        return int(text.replace("_", ""))
    return float(text) if kind is float else text


def _wanted(kind: type) -> str:
    return {bool: "write true or false", int: "write a whole number", float: "write a number such as 0.0001 or 1e-4"}.get(
        kind, "write a word of the list"
    )


def _label(name: str, text: str) -> str:
    """A piece of a file's name that is also one word in prompts."""
    return name.replace("_", "") + re.sub(r"[^\w.]+", "", text)[:40]
