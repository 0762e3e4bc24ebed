"""From which score on a tag is taken, category by category."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

from .categories import ARTIST, CHARACTER, COPYRIGHT, GENERAL, META, MODEL, YEAR, category
from .errors import TaggerError

THRESHOLDS_CSV, THRESHOLD_JSON = "thresholds.csv", "threshold.json"
"""Beside some models their makers' thresholds: `category,name,threshold`, or by category name and mode."""

_MODE = "balanced"


@dataclass(frozen=True)
class Thresholds:
    """Tags with a higher score are taken; 1 leaves a category out. Ratings and quality have none: the likeliest one counts."""

    general: float = 0.35
    character: float = 0.85
    copyright: float = 1.0
    artist: float = 1.0
    meta: float = 1.0
    """For years, too."""
    model: float = 1.0

    def of(self, number: int) -> float:
        """The threshold of a category (`categories`). Ratings, quality and unknown ones have 1."""
        name = _FIELDS.get(number)
        return 1.0 if name is None else getattr(self, name)

    def or_own(self, own: Thresholds) -> Thresholds:
        """`own` ones for all categories that are not left out here and of which `own` says something else than 1."""
        taken = {field.name: value for field in fields(self) if getattr(self, field.name) < 1 and (value := getattr(own, field.name)) < 1}
        return replace(self, **taken)

    def told(self) -> str:
        """For people: what is not left out, `general 0.35, character 0.85`."""
        return ", ".join(f"{field.name} {getattr(self, field.name):.4g}" for field in fields(self) if getattr(self, field.name) < 1)


_FIELDS = {GENERAL: "general", CHARACTER: "character", COPYRIGHT: "copyright", ARTIST: "artist", META: "meta", YEAR: "meta", MODEL: "model"}


def read_thresholds(folder: Path, otherwise: Thresholds) -> Thresholds:
    """The thresholds beside a model in `folder`; `otherwise` for categories that have none. Raises TaggerError for a broken file."""
    try:
        if (file := folder / THRESHOLDS_CSV).is_file():
            with file.open(encoding="utf-8-sig", newline="") as lines:
                found = [(row["category"], float(row["threshold"])) for row in csv.DictReader(lines)]
        elif (file := folder / THRESHOLD_JSON).is_file():
            data = json.loads(file.read_text(encoding="utf-8-sig"))
            found = [(name, float(modes[_MODE]["threshold"])) for name, modes in data.items() if _MODE in modes]
        else:
            return otherwise
        taken = {_FIELDS[number]: value for name, value in found if (number := category(name)) in _FIELDS and number != YEAR}
        return replace(otherwise, **taken)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise TaggerError(f"{file} cannot be read as thresholds ({type(error).__name__}: {error}). Delete it or download it again.") from error
