"""Charts beside and below each other in one picture: lines with bands, dots, marks; dark or light. Drawn with Pillow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

from .fonts import Font, label_font, shortened, wrapped, wrapped_with_end
from .palette import Colour, Theme, mixed
from .thinned import thinned
from .ticks import even_ticks, limits, log_ticks

_FINE = 3
"""Lines are drawn this much larger and scaled down, which smooths them."""
_MIN_SPREAD = 1e-9


@dataclass(frozen=True)
class Series:
    name: str
    """For the legend; empty leaves it out there."""
    colour: int
    """Which of the theme's colours."""
    points: tuple[tuple[float, float], ...]
    """In the order of x. A y that is no finite number leaves a gap."""
    style: Literal["line", "faint", "dots", "dashed"] = "line"
    band: tuple[tuple[float, float], ...] = ()
    """Lowest and highest value beside each point."""
    ringed: frozenset[float] = frozenset()
    """The x of the points that stand out."""


@dataclass(frozen=True)
class Panel:
    title: str
    series: tuple[Series, ...]
    note: str = ""
    """One or two lines below the title."""
    marks: tuple[tuple[float, int], ...] = ()
    """Ticks at the bottom: x and colour."""
    is_log: bool = False
    x_label: str = "step"
    x_ticks: tuple[float, ...] = ()
    """Where numbers stand along the bottom, as far as there is room; empty for round numbers."""


@dataclass(frozen=True)
class _Place:
    """The panel's field, and what it shows."""

    left: int
    top: int
    right: int
    bottom: int
    first: float
    last: float
    low: float
    high: float
    is_log: bool
    margin: int

    def x(self, value: float) -> float:
        return self.left + self.margin + (self.right - self.left - 2 * self.margin) * (value - self.first) / max(self.last - self.first, _MIN_SPREAD)

    def y(self, value: float) -> float:
        share = ((math.log10(value) if self.is_log else value) - self.low) / (self.high - self.low)
        return self.bottom - (self.bottom - self.top) * min(1.0, max(0.0, share))


def draw_panels(panels: Sequence[Panel], title: str, theme: Theme, num_columns: int = 1, panel_px: tuple[int, int] = (960, 420)) -> Image.Image:
    """An RGB picture of all panels, each `panel_px` (width, height) with its labels, row by row in `num_columns` columns."""
    num_columns = max(1, min(num_columns, len(panels)))
    num_rows = -(-len(panels) // num_columns)
    unit = max(12, round(min(panel_px[0] / 1.7, panel_px[1]) / 24))
    small, large = label_font(unit), label_font(round(unit * 1.35), title)
    width_px = panel_px[0] * num_columns + unit
    names = [(series.name, series.colour, series.style) for panel in panels for series in panel.series if series.name]
    legend = _legend_lines(list(dict.fromkeys(names)), label_font(unit, "".join(name for name, *_ in names)), width_px - 3 * unit, unit)
    head_px = round(unit * 2.9) + len(legend) * round(unit * 1.7)
    picture = Image.new("RGB", (width_px, head_px + panel_px[1] * num_rows + unit), theme.background)
    draw = ImageDraw.Draw(picture)
    draw.text((2 * unit, unit), "".join(wrapped_with_end(title, large, width_px - 4 * unit, 1)), theme.text, large)
    for row, entries in enumerate(legend):
        _draw_legend(draw, entries, 2 * unit, round(unit * (3.5 + 1.7 * row)), unit, theme)
    scales = [_scale(panel, panel_px[1]) for panel in panels]
    labels_px = [max((small.getlength(text) for _, text in scale.ticks), default=0.0) for scale in scales]
    places = [x for panel in panels for x in _places(panel)]
    for number, panel in enumerate(panels):
        column = number % num_columns
        corner = (column * panel_px[0], head_px + number // num_columns * panel_px[1])
        left = corner[0] + round(max(labels_px[column::num_columns]) + unit * 2.6)
        _draw_panel(picture, panel, scales[number], corner, left, _ends(places or [0.0, 1.0]), panel_px, small, unit, theme)
    return picture


@dataclass(frozen=True)
class _Scale:
    """How far a panel's upright axis reaches, as logarithms on a logarithmic one, and what is written along it."""

    low: float
    high: float
    ticks: list[tuple[float, str]]


def _scale(panel: Panel, height_px: int) -> _Scale:
    faint = [y for series in panel.series if series.style == "faint" for _, y in _drawable(series, panel.is_log)]
    certain = [y for series in panel.series if series.style != "faint" for _, y in _drawable(series, panel.is_log)]
    certain += [edge for series in panel.series for pair in series.band for edge in pair if math.isfinite(edge) and (edge > 0 or not panel.is_log)]
    low, high = limits(faint, certain, panel.is_log)
    return _Scale(low, high, log_ticks(low, high) if panel.is_log else even_ticks(low, high, max(3, height_px // 80)))


def _places(panel: Panel) -> list[float]:
    return [x for series in panel.series for x, _ in series.points] + [x for x, _ in panel.marks]


def _ends(places: Sequence[float]) -> tuple[float, float]:
    return min(places), max(max(places), min(places) + 1)


def _draw_panel(
    picture: Image.Image,
    panel: Panel,
    scale: _Scale,
    corner: tuple[int, int],
    left: int,
    ends: tuple[float, float],
    size_px: tuple[int, int],
    small: Font,
    unit: int,
    theme: Theme,
) -> None:
    draw, note_font = ImageDraw.Draw(picture), label_font(round(unit * 0.9), panel.note)
    note = wrapped(panel.note, note_font, corner[0] + size_px[0] - unit - left, 2)
    top = corner[1] + round(unit * (2.5 + 1.5 * len(note)))
    right, bottom = corner[0] + size_px[0] - unit, corner[1] + size_px[1] - round(unit * 2.6)
    at = _Place(left, top, right, bottom, *ends, scale.low, scale.high, panel.is_log, unit)
    drawn = [_drawable(series, panel.is_log) for series in panel.series]
    room_px = at.right - at.left
    draw.text((at.left, corner[1] + round(unit * 0.7)), shortened(panel.title, small, room_px), theme.text, small)
    for i, line in enumerate(note):
        draw.text((at.left, corner[1] + round(unit * (2.3 + 1.4 * i))), line, theme.text_dim, note_font)
    draw.rectangle((at.left, at.top, at.right, at.bottom), fill=theme.panel)
    for value, text in scale.ticks:
        y = round(at.y(value))
        draw.line((at.left, y, at.right, y), theme.line)
        draw.text((at.left - unit // 2, y), text, theme.text_dim, small, anchor="rm")
    _draw_x_axis(draw, at, panel, small, unit, theme)
    _draw_lines(picture, at, panel, drawn, theme)
    if not any(drawn):
        draw.text(((at.left + at.right) // 2, (at.top + at.bottom) // 2), "nothing measured", theme.text_dim, small, anchor="mm")


def _draw_x_axis(draw: ImageDraw.ImageDraw, at: _Place, panel: Panel, font: Font, unit: int, theme: Theme) -> None:
    ticks = [(value, f"{value:g}") for value in panel.x_ticks] or even_ticks(at.first, at.last, max(2, (at.right - at.left) // (unit * 8)))
    # The last number stands in the label, where it is at the edge.
    at_edge = [text for value, text in ticks if value == round(value) and round(at.x(value)) + font.getlength(text) / 2 >= at.right - unit * 2]
    label = f"{panel.x_label} {at_edge[-1]}" if at_edge else panel.x_label
    free, end = -math.inf, at.right - font.getlength(label) - unit / 2
    for value, text in ticks:
        x, half = round(at.x(value)), font.getlength(text) / 2
        if value != round(value) or x - half < free:
            continue
        draw.line((x, at.bottom, x, at.bottom + unit // 3), theme.line)
        if x + half < end:
            draw.text((x, at.bottom + round(unit * 0.6)), text, theme.text_dim, font, anchor="ma")
            free = x + half + unit
    draw.text((at.right, at.bottom + round(unit * 0.6)), label, theme.text_dim, font, anchor="ra")


def _draw_lines(picture: Image.Image, at: _Place, panel: Panel, drawn: Sequence[list[tuple[float, float]]], theme: Theme) -> None:
    box = (at.left, at.top, at.right + 1, at.bottom + 1)
    plate = picture.crop(box).resize(((box[2] - box[0]) * _FINE, (box[3] - box[1]) * _FINE), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(plate)
    width = max(3, plate.height // 220)

    def place(x: float, y: float) -> tuple[float, float]:
        return (at.x(x) - at.left) * _FINE, (at.y(y) - at.top) * _FINE

    rows, tick = list(dict.fromkeys(colour for _, colour in panel.marks)), plate.height // 28
    for x, colour in panel.marks:
        # One row for each colour, so that none hides another.
        column, bottom = (at.x(x) - at.left) * _FINE, plate.height - rows.index(colour) * tick
        draw.line((column, bottom - tick + width, column, bottom), _colour(theme, colour), width * 3 // 2)
    for series in panel.series:
        edges = [(x, *pair) for (x, _), pair in zip(series.points, series.band, strict=False) if all(map(math.isfinite, pair))]
        if len(edges) > 1:
            outline = [place(x, low) for x, low, _ in edges] + [place(x, high) for x, _, high in reversed(edges)]
            draw.polygon(outline, mixed(theme.panel, _colour(theme, series.colour), 0.22))
        for x, low, high in edges:
            draw.line((*place(x, low), *place(x, high)), mixed(theme.panel, _colour(theme, series.colour), 0.5), width // 2)
    order = {"faint": 0, "dashed": 1, "line": 2, "dots": 3}
    for series, points in sorted(zip(panel.series, drawn, strict=True), key=lambda pair: order[pair[0].style]):
        _draw_series(draw, series, [place(x, y) for x, y in points], width, plate.width, theme)
        for x, y in points:
            if x in series.ringed:
                column, row, radius = *place(x, y), width * 5
                draw.ellipse((column - radius, row - radius, column + radius, row + radius), outline=theme.text, width=max(3, width * 2 // 3))
    picture.paste(plate.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.LANCZOS), box[:2])


def _draw_series(draw: ImageDraw.ImageDraw, series: Series, points: list[tuple[float, float]], width: int, room: int, theme: Theme) -> None:
    colour = _colour(theme, series.colour)
    if series.style == "dashed":
        _dashes(draw, points, colour, width)
        return
    if series.style == "faint":
        draw.line(thinned(points, room), mixed(theme.panel, colour, 0.4), max(2, width // 2), joint="curve")
        return
    if len(points) > 1:
        draw.line(thinned(points, room // 2), colour, width * 3 // 2 if series.style == "dots" else width * 2, joint="curve")
    if series.style == "dots" or len(points) == 1:
        radius = width * 2.6
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour, theme.panel, max(2, width // 2))


def _dashes(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: Colour, width: int) -> None:
    dash, passed = width * 5.0, 0.0
    period = 1.8 * dash
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0)
        if not length:
            continue
        number = math.floor(passed / period)
        while number * period < passed + length:
            start, end = (min(1.0, max(0.0, (edge - passed) / length)) for edge in (number * period, number * period + dash))
            if end > start:
                draw.line((x0 + (x1 - x0) * start, y0 + (y1 - y0) * start, x0 + (x1 - x0) * end, y0 + (y1 - y0) * end), colour, width)
            number += 1
        passed += length


def _drawable(series: Series, is_log: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in series.points if math.isfinite(y) and (y > 0 or not is_log)]


def _colour(theme: Theme, number: int) -> Colour:
    return theme.series[number % len(theme.series)]


_Entry = tuple[str, int, str]


def _legend_lines(entries: Sequence[_Entry], font: Font, room_px: float, unit: int) -> list[list[tuple[_Entry, Font]]]:
    """Broken into lines; no name is left out, and one that is wider than a line keeps its beginning and its end."""
    lines: list[list[tuple[_Entry, Font]]] = []
    used = math.inf
    for name, colour, style in entries:
        shown = "".join(wrapped_with_end(name, font, int(room_px - 4 * unit), 1))
        needed = unit * 4 + font.getlength(shown)
        if used + needed > room_px:
            lines.append([])
            used = 0.0
        lines[-1].append(((shown, colour, style), font))
        used += needed
    return lines


def _draw_legend(draw: ImageDraw.ImageDraw, entries: Sequence[tuple[_Entry, Font]], left: int, y: int, unit: int, theme: Theme) -> None:
    x = float(left)
    for (name, number, style), font in entries:
        colour = _colour(theme, number)
        middle, half = x + unit * 0.8, max(1, unit // 8)
        if style == "dots":
            draw.line((x, y, x + unit * 1.6, y), colour, half)
            radius = unit * 0.32
            draw.ellipse((middle - radius, y - radius, middle + radius, y + radius), colour)
        elif style == "dashed":
            for part in (0.0, 0.62, 1.24):
                draw.line((x + unit * part, y, x + unit * (part + 0.38), y), colour, 2 * half)
        else:
            draw.line((x, y, x + unit * 1.6, y), mixed(theme.panel, colour, 0.4) if style == "faint" else colour, 3 * half)
        draw.text((x + unit * 2.1, y), name, theme.text_dim, font, anchor="lm")
        x += unit * 4 + font.getlength(name)
