"""The grid as a picture: cells under their column's heading and beside their row's, any language, nothing cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from PIL import Image, ImageDraw

from ..drawing.fonts import wrapped, wrapped_with_end
from ..drawing.mixed_font import MixedFont, draw_text, mixed_font
from ..drawing.palette import BACKGROUND, LINE, PANEL, TEXT, TEXT_DIM, WARNING

_MAX_LABEL_LINES, _MAX_TITLE_LINES = 4, 3
_WORD_ENDS = " ,-_/\\"


@dataclass(frozen=True)
class GridPage:
    """What stands in one grid, `pictures[row][column]`."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    pictures: tuple[tuple[Image.Image | str, ...], ...]
    """A text stands where there is no picture, and why."""


@dataclass(frozen=True)
class _Layout:
    """Where everything stands; all in px."""

    unit: int
    gap: int
    line: int
    row_label: int
    title: int
    heading: int
    size: tuple[int, int]
    font: MixedFont
    title_font: MixedFont
    title_lines: tuple[str, ...]
    headings: tuple[tuple[str, ...], ...]


def _layout(title: str, columns: Sequence[str], rows: Sequence[str], cell_px: tuple[int, int]) -> _Layout:
    unit = max(13, min(cell_px) // 14)
    gap, font = max(4, unit // 3), mixed_font(unit, "".join((*columns, *rows)))
    title_font = mixed_font(round(unit * 1.1), title)
    row_label_px = min(max(_width(font, rows), unit * 3), max(cell_px[0], unit * 9)) + 2 * gap
    total_px = row_label_px + len(columns) * (cell_px[0] + gap) + gap
    title_lines = tuple(wrapped_with_end(title, title_font, total_px - 4 * gap, _MAX_TITLE_LINES)) if title else ()
    headings = tuple(tuple(wrapped_with_end(label, font, cell_px[0] - gap, _MAX_LABEL_LINES)) for label in columns)
    line_px = round(unit * 1.35)
    title_px = len(title_lines) * round(line_px * 1.1) + (2 * gap if title_lines else gap)
    heading_px = max((len(lines) for lines in headings), default=0) * line_px + 2 * gap
    size_px = (total_px, title_px + heading_px + len(rows) * (cell_px[1] + gap) + gap)
    return _Layout(unit, gap, line_px, row_label_px, title_px, heading_px, size_px, font, title_font, title_lines, headings)


def grid_size_px(title: str, columns: Sequence[str], rows: Sequence[str], cell_px: tuple[int, int]) -> tuple[int, int]:
    """Width and height of what `draw_grid` would draw."""
    return _layout(title, columns, rows, cell_px).size


def draw_grid(page: GridPage, cell_px: tuple[int, int]) -> Image.Image:
    """An RGB picture of all cells of `cell_px` (width, height) each. A missing cell says why."""
    at = _layout(page.title, page.columns, page.rows, cell_px)
    unit, gap, line_px = at.unit, at.gap, at.line
    image = Image.new("RGB", at.size, BACKGROUND)
    pen = ImageDraw.Draw(image)
    _lines(pen, at.title_lines, at.title_font, TEXT, 2 * gap, gap + round(line_px * 0.55), round(line_px * 1.1), "lm")
    for column, lines in enumerate(at.headings):
        centre = at.row_label + column * (cell_px[0] + gap) + cell_px[0] // 2
        _lines(pen, lines, at.font, TEXT, centre, at.title + at.heading // 2 - (len(lines) - 1) * line_px // 2, line_px, "mm")
    for row, label in enumerate(page.rows):
        top = at.title + at.heading + row * (cell_px[1] + gap)
        lines = wrapped_with_end(label, at.font, at.row_label - 2 * gap, max(_MAX_LABEL_LINES, cell_px[1] // line_px))
        _lines(pen, lines, at.font, TEXT, at.row_label - gap, top + cell_px[1] // 2 - (len(lines) - 1) * line_px // 2, line_px, "rm")
        for column, picture in enumerate(page.pictures[row]):
            left = at.row_label + column * (cell_px[0] + gap)
            if isinstance(picture, str):
                _missing(pen, left, top, cell_px, picture, unit)
            else:
                image.paste(
                    picture.convert("RGB").resize(cell_px, Image.Resampling.LANCZOS) if picture.size != cell_px else picture.convert("RGB"),
                    (left, top),
                )
    return image


def without_common_prefix(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels without the whole words, or parts of names, that all of them begin with; their ends, which tell them apart, stay."""
    if len(labels) < 2:
        return tuple(labels)
    shared = sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*labels, strict=False)))
    start = labels[0][: min(shared, min(map(len, labels)) - 1)]
    cut = max(start.rfind(mark) for mark in _WORD_ENDS) + 1
    return tuple(label[cut:].lstrip() for label in labels)


def _width(font: MixedFont, labels: Sequence[str]) -> int:
    return round(max((font.getlength(" ".join(label.split())) for label in labels), default=0))


def _lines(
    pen: ImageDraw.ImageDraw, lines: Sequence[str], font: MixedFont, colour: tuple[int, int, int], x: int, y: int, line_px: int, anchor: str
) -> None:
    for i, line in enumerate(lines):
        draw_text(pen, (x, y + i * line_px), line, font, colour, anchor)


def _missing(pen: ImageDraw.ImageDraw, left: int, top: int, cell_px: tuple[int, int], why: str, unit: int) -> None:
    pen.rectangle((left, top, left + cell_px[0] - 1, top + cell_px[1] - 1), fill=PANEL, outline=LINE)
    font = mixed_font(round(unit * 0.9), why)
    line_px = round(unit * 1.25)
    lines = wrapped(why, font, cell_px[0] - unit, max(1, cell_px[1] // line_px - 1))
    middle = top + cell_px[1] // 2 - (len(lines) - 1) * line_px // 2
    _lines(pen, lines, font, WARNING if why.startswith("failed") else TEXT_DIM, left + cell_px[0] // 2, middle, line_px, "mm")
