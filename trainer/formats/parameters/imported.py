"""What a parameter file became: settings, and a line for each of its keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from ...settings import Settings

Outcome = Literal["taken", "translated", "elsewhere", "not needed", "left out", "unknown"]

_TITLES: dict[Outcome, str] = {
    "taken": "Taken as they are",
    "translated": "Translated",
    "left out": "Left out: the result may differ",
    "unknown": "Not known: check their spelling",
    "elsewhere": "Set in another node",
    "not needed": "Not needed here",
}


@dataclass(frozen=True)
class Line:
    """What became of one key of the file."""

    outcome: Outcome
    key: str
    value: str
    sentence: str = ""
    """What it became, or why it did not."""


@dataclass(frozen=True)
class Imported:
    program: str
    """Whose file it is, for people."""
    values: tuple[tuple[str, Any], ...]
    """Pairs of "section.field" of Settings and its value."""
    lines: tuple[Line, ...]
    why: str = ""
    """What a preset says of itself."""

    def applied_to(self, settings: Settings, over_widgets: bool = True) -> Settings:
        """`settings` with the file's values; marked, if `over_widgets`, so that the training node's own widgets leave them as they are."""
        by_section: dict[str, dict[str, Any]] = {}
        for path, value in self.values:
            section, name = path.split(".")
            by_section.setdefault(section, {})[name] = value
        changed = {section: dataclasses.replace(getattr(settings, section), **values) for section, values in by_section.items()}
        told = tuple(path for path, _ in self.values)
        from_file = tuple(dict.fromkeys((*settings.from_file, *(told if over_widgets else ()))))
        return dataclasses.replace(settings, **changed, from_file=from_file, imported=tuple(dict.fromkeys((*settings.imported, *told))))

    def report(self) -> str:
        """Everything that became of the file, for people."""
        parts = [f"{self.program}: {len(self.values)} settings were taken over."]
        if self.why:
            parts.append(self.why)
        for outcome, title in _TITLES.items():
            lines = [line for line in self.lines if line.outcome == outcome]
            if lines:
                parts.append("\n".join([f"{title}:", *(_told(line) for line in lines)]))
        return "\n\n".join(parts)


RATES = ("rate", "text_encoder_rate", "weight_decay")
"""Fields of TrainSettings that suit one kind of training alone."""


def rates_are_for_another_kind(kind: str, paths: Iterable[str]) -> bool:
    """Whether a file that says `paths` ("section.field") was made for what learns at other rates than "lora", "embedding" or "checkpoint" does.

    Those of a LoRA are far too low for an embedding and far too high for a whole model, and the other way round.
    """
    sections = {path.split(".")[0] for path in paths}
    if kind == "embedding":
        return "adapter" in sections or "embedding" not in sections
    if kind == "checkpoint":
        return "adapter" in sections or ("embedding" in sections and "checkpoint" not in sections)
    return "adapter" not in sections and not sections.isdisjoint({"embedding", "checkpoint"})


def _told(line: Line) -> str:
    said = f"  {line.key} = {line.value}"
    if line.outcome in ("taken", "translated"):
        return f"{said} -> {line.sentence}"
    return f"{said}: {line.sentence}" if line.sentence else said


def values_of(settings: Settings) -> dict[str, Any]:
    """Every field of `settings` by "section.field"."""
    found: dict[str, Any] = {}
    for section in dataclasses.fields(settings):
        value = getattr(settings, section.name)
        if dataclasses.is_dataclass(value):
            found.update({f"{section.name}.{item.name}": getattr(value, item.name) for item in dataclasses.fields(value)})
    return found
