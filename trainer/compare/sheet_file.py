"""A planned comparison as a file, from which the page's viewer shows it.

Comparisons that draw alike share a folder and its pictures; each arrangement of them on axes has a file of its own there, named
by its content, so that a workflow of last week still shows the rows and columns it had.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from ..config import from_json
from ..errors import AthanorError
from ..files import replace_atomically
from .recipe import Recipe
from .sheet import Sheet

SHEETS_FOLDER = "sheets"
_ID = re.compile(r"[0-9a-f]{12}")


def sheet_id(sheet: Sheet) -> str:
    """Equal for sheets that show the same pictures at the same places under the same labels."""
    return hashlib.sha256(json.dumps(_plan(sheet), ensure_ascii=False, sort_keys=True).encode("utf-8")).hexdigest()[:12]


def write_sheet(sheet: Sheet, failed: Mapping[str, str]) -> Path:
    """Writes labels, and each cell's file and recipe. `failed` tells by file why a picture is missing."""
    path = sheet_path(sheet.folder, sheet_id(sheet))
    told = {file: reason for file, reason in failed.items() if file in sheet.files.values()}
    text = json.dumps({**_plan(sheet), "failed": told}, ensure_ascii=False)
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def sheet_path(folder: Path, name: str) -> Path:
    """Raises AthanorError for what is no id of a sheet."""
    if not _ID.fullmatch(name):
        raise AthanorError(f"{name[:40]!r} names no comparison.")
    return folder / SHEETS_FOLDER / f"{name}.json"


def read_sheet(folder: Path, name: str) -> tuple[Sheet, dict[str, str]]:
    """The sheet of that id, and by file why pictures are missing. Raises AthanorError if it is not there or not whole."""
    path = sheet_path(folder, name)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        pictures = [dict(each) for each in data["pictures"]]
        files = [str(each.pop("file")) for each in pictures]
        recipes = [from_json(Recipe, each, "picture") for each in pictures]
        sheet = Sheet(folder, *(_labels(data, key) for key in ("columns", "rows", "pages")), {}, dict(zip(recipes, files, strict=True)))
        places = product(range(len(sheet.pages)), range(len(sheet.rows)), range(len(sheet.columns)))
        cells = {(p, r, c): _recipe(recipes, data["cells"][p][r][c]) for p, r, c in places}
        return dataclasses.replace(sheet, cells=cells), {str(file): str(reason) for file, reason in data["failed"].items()}
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise AthanorError(f"{path.name} cannot be read as a comparison; queue XY Plot Compare again.") from error


def _plan(sheet: Sheet) -> dict[str, Any]:
    recipes = sheet.recipes
    index = {recipe: i for i, recipe in enumerate(recipes)}

    def at(page: int, row: int, column: int) -> int | None:
        recipe = sheet.cells[page, row, column]
        return index[recipe] if recipe is not None else None

    return {
        "columns": list(sheet.columns),
        "rows": list(sheet.rows),
        "pages": list(sheet.pages),
        "cells": [[[at(p, r, c) for c in range(len(sheet.columns))] for r in range(len(sheet.rows))] for p in range(len(sheet.pages))],
        "pictures": [{"file": sheet.files[recipe], **dataclasses.asdict(recipe)} for recipe in recipes],
    }


def _labels(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return from_json(tuple[str, ...], data[key], key)


def _recipe(recipes: list[Recipe], index: Any) -> Recipe | None:
    if index is None:
        return None
    if not isinstance(index, int) or not 0 <= index < len(recipes):
        raise ValueError(index)
    return recipes[index]
