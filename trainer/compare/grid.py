"""The grid as a picture: cells under their column's heading and beside their row's, any language, nothing cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ..fonts import Font, label_font, wrapped
from ..palette import BACKGROUND, LINE, PANEL, TEXT, TEXT_DIM, WARNING

_MAX_LABEL_LINES, _MAX_TITLE_LINES = 4, 3


@dataclass(frozen=True)
class GridPage:
    """What stands in one grid, `pictures[row][column]`."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    pictures: tuple[tuple[Image.Image | str, ...], ...]
    """A text stands where there is no picture, and why."""


def draw_grid(page: GridPage, cell_px: tuple[int, int]) -> Image.Image:
    """An RGB picture of all cells of `cell_px` (width, height) each. A missing cell says why."""
    unit = max(13, min(cell_px) // 14)
    gap, font = max(4, unit // 3), label_font(unit, "".join((*page.columns, *page.rows)))
    title_font = label_font(round(unit * 1.1), page.title)
    row_label_px = min(max(_width(font, page.rows), unit * 3), max(cell_px[0], unit * 9)) + 2 * gap
    total_px = row_label_px + len(page.columns) * (cell_px[0] + gap) + gap
    title_lines = wrapped(page.title, title_font, total_px - 4 * gap, _MAX_TITLE_LINES) if page.title else ()
    headings = [wrapped(label, font, cell_px[0] - gap, _MAX_LABEL_LINES) for label in page.columns]
    line_px = round(unit * 1.35)
    title_px = len(title_lines) * round(line_px * 1.1) + (2 * gap if title_lines else gap)
    heading_px = max((len(lines) for lines in headings), default=0) * line_px + 2 * gap

    image = Image.new("RGB", (total_px, title_px + heading_px + len(page.rows) * (cell_px[1] + gap) + gap), BACKGROUND)
    pen = ImageDraw.Draw(image)
    _lines(pen, title_lines, title_font, TEXT, 2 * gap, gap + round(line_px * 0.55), round(line_px * 1.1), "lm")
    for column, lines in enumerate(headings):
        centre = row_label_px + column * (cell_px[0] + gap) + cell_px[0] // 2
        _lines(pen, lines, font, TEXT, centre, title_px + heading_px // 2 - (len(lines) - 1) * line_px // 2, line_px, "mm")
    for row, label in enumerate(page.rows):
        top = title_px + heading_px + row * (cell_px[1] + gap)
        lines = wrapped(label, font, row_label_px - 2 * gap, _MAX_LABEL_LINES)
        _lines(pen, lines, font, TEXT, row_label_px - gap, top + cell_px[1] // 2 - (len(lines) - 1) * line_px // 2, line_px, "rm")
        for column, picture in enumerate(page.pictures[row]):
            left = row_label_px + column * (cell_px[0] + gap)
            if isinstance(picture, str):
                _missing(pen, left, top, cell_px, picture, unit)
            else:
                image.paste(
                    picture.convert("RGB").resize(cell_px, Image.Resampling.LANCZOS) if picture.size != cell_px else picture.convert("RGB"),
                    (left, top),
                )
    return image


def without_common_prefix(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels without the words that all of them begin with; their ends, which tell them apart, stay."""
    words = [label.split(" ") for label in labels]
    num_shared = 0
    while len(words) > 1 and all(len(each) > num_shared + 1 for each in words) and len({each[num_shared] for each in words}) == 1:
        num_shared += 1
    return tuple(" ".join(each[num_shared:]) for each in words)


def _width(font: Font, labels: Sequence[str]) -> int:
    return round(max((font.getlength(" ".join(label.split())) for label in labels), default=0))


def _lines(
    pen: ImageDraw.ImageDraw, lines: Sequence[str], font: Font, colour: tuple[int, int, int], x: int, y: int, line_px: int, anchor: str
) -> None:
    for i, line in enumerate(lines):
        pen.text((x, y + i * line_px), line, font=font, fill=colour, anchor=anchor)


def _missing(pen: ImageDraw.ImageDraw, left: int, top: int, cell_px: tuple[int, int], why: str, unit: int) -> None:
    pen.rectangle((left, top, left + cell_px[0] - 1, top + cell_px[1] - 1), fill=PANEL, outline=LINE)
    font = label_font(round(unit * 0.9), why)
    line_px = round(unit * 1.25)
    lines = wrapped(why, font, cell_px[0] - unit, max(1, cell_px[1] // line_px - 1))
    middle = top + cell_px[1] // 2 - (len(lines) - 1) * line_px // 2
    _lines(pen, lines, font, WARNING if why.startswith("failed") else TEXT_DIM, left + cell_px[0] // 2, middle, line_px, "mm")
