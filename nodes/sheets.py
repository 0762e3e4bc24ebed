"""Comparisons as the viewer of XY Plot Compare looks at them, found by their names and never by a path."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from ..trainer.compare.recipe import BASELINE, Recipe
from ..trainer.compare.sheet import Sheet
from ..trainer.compare.sheet_file import read_sheet, sheet_id, sheet_path, write_sheet
from ..trainer.errors import AthanorError
from ..trainer.runs.choice import choose_epoch, chosen_epoch
from ..trainer.runs.run import JOB_FILE, LOADED_FOLDER, Epoch, Run
from . import host, watching

SHEET_EVENT = "athanor.sheet"
"""What XY Plot Compare tells every page when it begins: `node` and `sheet` (its name)."""
MAX_PICTURE_BYTES = 100_000_000
_COMPARE, _CELLS = "compare", "cells"
_NAME = re.compile(r"(?P<loaded>\.loaded/)?(?P<run>[^/]+)/(?P<look>[0-9a-f]{12})/(?P<id>[0-9a-f]{12})")

_DRAWING: set[str] = set()
_DRAWING_LOCK = threading.Lock()


@contextmanager
def shown_while_drawn(sheet: Sheet, node_id: str | None) -> Iterator[None]:
    """Lets the page follow the drawing of a sheet that is only planned yet."""
    write_sheet(sheet, {})
    name = name_of(sheet)
    with _DRAWING_LOCK:
        _DRAWING.add(name)
    if node_id is not None:
        host.tell_pages(SHEET_EVENT, {"node": node_id, "sheet": name})
    try:
        yield
    finally:
        with _DRAWING_LOCK:
            _DRAWING.discard(name)


def name_of(sheet: Sheet) -> str:
    """As the page calls it: run, kind of drawing, and arrangement."""
    run_folder = sheet.folder.parent.parent
    prefix = f"{LOADED_FOLDER}/" if Run(run_folder).is_loaded else ""
    return f"{prefix}{run_folder.name}/{sheet.folder.name}/{sheet_id(sheet)}"


@dataclass(frozen=True)
class FoundSheet:
    name: str
    run: Run
    """The run that it was drawn for; an axis may name others."""
    sheet: Sheet
    failed: Mapping[str, str]

    def told(self) -> dict[str, Any]:
        """What the page shows, without what changes while it is drawn."""
        sheet = self.sheet
        index = {recipe: i for i, recipe in enumerate(sheet.recipes)}
        num_rows, num_columns = range(len(sheet.rows)), range(len(sheet.columns))
        at = {place: index[recipe] if recipe is not None else None for place, recipe in sheet.cells.items()}
        return {
            "sheet": self.name,
            "run": self.run.name,
            "columns": sheet.columns,
            "rows": sheet.rows,
            "pages": sheet.pages,
            "cells": [[[at[p, r, c] for c in num_columns] for r in num_rows] for p in range(len(sheet.pages))],
            "pictures": [_facts(recipe) for recipe in sheet.recipes],
            **self.state(),
        }

    def state(self) -> dict[str, Any]:
        """What is drawn, what failed, what was chosen: `drawn` tells by picture when it was written, in ms; null if it is not there."""
        drawn = self._written()
        files = [self.sheet.files[recipe] for recipe in self.sheet.recipes]
        return {
            "running": self.name in _DRAWING,
            "drawn": [drawn.get(file) for file in files],
            "failed": [self.failed.get(file) for file in files],
            "chosen": self._chosen(),
            "size": self._size(drawn),
        }

    def drawn_files(self) -> frozenset[str]:
        return frozenset(self._written()) & frozenset(self.sheet.files.values())

    def picture(self, number: int) -> Path:
        """Raises KeyError for a number or a file that is none of the comparison's own."""
        recipes = self.sheet.recipes
        if not 0 <= number < len(recipes):
            raise KeyError(number)
        path = self.sheet.path(recipes[number]).resolve()
        if path.parent != self.sheet.folder / _CELLS or path.suffix != ".png" or not path.is_file() or path.stat().st_size > MAX_PICTURE_BYTES:
            raise KeyError(number)
        return path

    def choose(self, number: int) -> tuple[Run, Epoch]:
        """Marks the epoch of that picture in its run. Raises AthanorError where there is none, KeyError for an unknown picture or run."""
        recipes = self.sheet.recipes
        if not 0 <= number < len(recipes):
            raise KeyError(number)
        recipe = recipes[number]
        if recipe.epoch == BASELINE:
            raise AthanorError("This picture was drawn without any epoch; choose one of the others.")
        run = self._run_of(recipe)
        return run, choose_epoch(run, recipe.epoch)

    def _run_of(self, recipe: Recipe) -> Run:
        return self.run if recipe.run == self.run.name else Run(watching.find_folder(recipe.run))

    def _chosen(self) -> dict[str, int]:
        found = {}
        for name in dict.fromkeys(recipe.run for recipe in self.sheet.recipes if recipe.epoch != BASELINE):
            try:
                run = self.run if name == self.run.name else Run(watching.find_folder(name))
                epoch = chosen_epoch(run)
            except (KeyError, OSError, ValueError, AthanorError):
                continue
            if epoch is not None:
                found[name] = epoch.number
        return found

    def _written(self) -> dict[str, int]:
        try:
            with os.scandir(self.sheet.folder / _CELLS) as entries:
                return {f"{_CELLS}/{entry.name}": entry.stat().st_mtime_ns // 1_000_000 for entry in entries if entry.name.endswith(".png")}
        except OSError:
            return {}

    def _size(self, drawn: Mapping[str, int]) -> tuple[int, int] | None:
        for number, recipe in enumerate(self.sheet.recipes):
            if self.sheet.files[recipe] in drawn:
                try:
                    return _size_px(str(self.picture(number)))
                except (KeyError, OSError):
                    return None
        return None


def find_sheet(name: str) -> FoundSheet:
    """Raises KeyError if there is none of that name below ComfyUI's output folder, links followed, AthanorError if it is not whole."""
    parts = _NAME.fullmatch(name)
    if not parts:
        raise KeyError(name)
    run_folder = _loaded_folder(parts["run"]) if parts["loaded"] else watching.find_folder(parts["run"])
    folder = (run_folder / _COMPARE / parts["look"]).resolve()
    file = sheet_path(folder, parts["id"])
    if folder.parent != run_folder / _COMPARE or file.resolve() != file or not file.is_file():
        raise KeyError(name)
    sheet, failed = _read(folder, parts["id"], file.stat().st_mtime_ns)
    return FoundSheet(name, Run(run_folder), sheet, failed)


def _loaded_folder(name: str) -> Path:
    """Of a run of another trainer. Raises KeyError if there is none."""
    root = (host.runs_root() / LOADED_FOLDER).resolve()
    if name.startswith(".") or re.search(r'[\x00-\x1f/\\:*?"<>|]', name):
        raise KeyError(name)
    folder = (root / name).resolve()
    if folder.parent != root or root.parent != host.runs_root().resolve() or not (folder / JOB_FILE).is_file():
        raise KeyError(name)
    return folder


@lru_cache(maxsize=16)
def _read(folder: Path, name: str, _written_ns: int) -> tuple[Sheet, dict[str, str]]:
    return read_sheet(folder, name)


@lru_cache(maxsize=64)
def _size_px(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def _facts(recipe: Recipe) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in _FACTS}


_FACTS = (
    "checkpoint",
    "run",
    "epoch",
    "strength_model",
    "strength_text",
    "prompt",
    "negative_prompt",
    "seed",
    "steps",
    "guidance",
    "flux_guidance",
    "sampler",
    "scheduler",
)
