"""A sheet as pictures: one grid a page, more where one would be too large to open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..files import replace_atomically
from .grid import GridPage, draw_grid, grid_size_px, without_common_prefix
from .kinds import BARE_LABELS
from .sheet import Sheet

MAX_SIDE_PX = 16_384
"""What image viewers, browsers and graphics cards open without trouble."""
MAX_AREA_PX = 100_000_000
_MIN_CELL_PX = 160
_LABEL_SHARE = 1.35
"""Room for labels and gaps, as a multiple of the pictures' own; generous."""
_LONG_LABEL = 24


def shown_cell_px(picture_px: tuple[int, int]) -> tuple[int, int]:
    """Small pictures are shown enlarged by a whole number, so that the labels have room."""
    times = max(1, -(-_MIN_CELL_PX // max(picture_px)))
    return picture_px[0] * times, picture_px[1] * times


def page_parts(num_columns: int, num_rows: int, cell_px: tuple[int, int]) -> list[tuple[range, range]]:
    """Columns and rows of each grid of one page, so that none is larger than the limits."""
    width, height = cell_px[0] * _LABEL_SHARE, cell_px[1] * _LABEL_SHARE
    per_row = max(1, min(num_columns, int(MAX_SIDE_PX // width)))
    per_column = max(1, min(num_rows, int(MAX_SIDE_PX // height), int(MAX_AREA_PX // (per_row * width * height))))
    rows = [range(start, min(start + per_column, num_rows)) for start in range(0, num_rows, per_column)]
    columns = [range(start, min(start + per_row, num_columns)) for start in range(0, num_columns, per_row)]
    return [(across, down) for down in rows for across in columns]


def write_grids(sheet: Sheet, title: str, failed: Mapping[str, str], picture_px: tuple[int, int]) -> list[Path]:
    """Draws every page as it is now into the sheet's folder; pictures that are not there yet leave a gap that says so."""
    cell_px = shown_cell_px(picture_px)
    paths = []
    for part in _parts(sheet, title, cell_px):
        pictures = tuple(tuple(_picture(sheet, part.page, row, column, failed) for column in part.across) for row in part.down)
        path = sheet.folder / f"grid-{len(paths) + 1:02d}.png"
        image = draw_grid(GridPage(part.title, part.columns, part.rows, pictures), cell_px)
        replace_atomically(path, lambda temporary, image=image: image.save(temporary, format="PNG"))
        paths.append(path)
    return paths


def grid_sizes_px(sheet: Sheet, title: str, picture_px: tuple[int, int]) -> list[tuple[int, int]]:
    """Width and height of each picture that `write_grids` would draw."""
    cell_px = shown_cell_px(picture_px)
    return [grid_size_px(part.title, part.columns, part.rows, cell_px) for part in _parts(sheet, title, cell_px)]


@dataclass(frozen=True)
class _Part:
    """What one grid shows of a page."""

    page: int
    across: range
    down: range
    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]


def _parts(sheet: Sheet, title: str, cell_px: tuple[int, int]) -> list[_Part]:
    columns, rows = _short(sheet.columns), _short(sheet.rows)
    return [
        _Part(page, across, down, " · ".join(filter(None, (title, heading))), tuple(columns[i] for i in across), tuple(rows[i] for i in down))
        for page, heading in enumerate(sheet.pages)
        for across, down in page_parts(len(columns), len(rows), cell_px)
    ]


def _short(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Prompts and names that begin alike lose what they share; "strength 0.5" keeps its word, and "no LoRA" shares nothing with any."""
    named = [label for label in labels if label not in BARE_LABELS]
    if max(map(len, named), default=0) <= _LONG_LABEL:
        return labels
    cut = dict(zip(named, without_common_prefix(named), strict=True))
    return tuple(cut.get(label, label) for label in labels)


def _picture(sheet: Sheet, page: int, row: int, column: int, failed: Mapping[str, str]) -> Image.Image | str:
    recipe = sheet.cells[page, row, column]
    if recipe is None:
        return "no such epoch"
    path = sheet.path(recipe)
    if path.is_file():
        with Image.open(path) as image:
            return image.convert("RGB")
    reason = failed.get(sheet.files[recipe])
    return f"failed: {reason}" if reason else "not drawn"
