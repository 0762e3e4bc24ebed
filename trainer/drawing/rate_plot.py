"""Learning rates over a run as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from .fonts import label_font, shortened
from .palette import DARK, Theme

_FINE = 3
"""Lines are drawn this much larger and scaled down, which smooths them."""


def rate_plot(rates: Mapping[str, Sequence[float]], title: str, size_px: tuple[int, int] = (640, 360), theme: Theme = DARK) -> Image.Image:
    """One line for each name in `rates`, whose values are those of the steps 1, 2 and so on; from 0 to the largest of all.

    Gives an RGB image of `size_px`, at least 320 x 200.
    """
    width, height = max(320, size_px[0]), max(200, size_px[1])
    unit = max(11, round(min(width / 1.5, height) / 22))
    small, large = label_font(unit), label_font(round(unit * 1.25), title)
    num_steps = max([2, *(len(values) for values in rates.values())])
    top_rate = max([value for values in rates.values() for value in values], default=0.0) or 1.0
    ticks = [(top_rate * share, f"{top_rate * share:.3g}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    left, right = round(max(small.getlength(text) for _, text in ticks) + unit * 1.6), width - unit * 2
    top, bottom = round(unit * 3.4), height - round(unit * 2.8)

    def x(step: int) -> float:
        return left + (right - left) * (step - 1) / (num_steps - 1)

    def y(rate: float) -> float:
        return bottom - (bottom - top - unit // 2) * rate / top_rate

    picture = Image.new("RGB", (width, height), theme.background)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, right, bottom), fill=theme.panel)
    names = [name for name in rates if len(rates) > 1]
    legend_width = sum(small.getlength(name) + unit * 2.2 for name in names)
    draw.text((left, round(unit * 0.9)), shortened(title, large, right - left - legend_width), theme.text, large)
    for value, text in ticks:
        draw.line((left, y(value), right, y(value)), theme.line)
        draw.text((left - unit // 2, y(value)), text, theme.text_dim, small, anchor="rm")
    for step in (1, (num_steps + 1) // 2, num_steps):
        anchor = "la" if step == 1 else "ra" if step == num_steps else "ma"
        draw.text((x(step), bottom + round(unit * 0.6)), str(step) if step < num_steps else f"step {step}", theme.text_dim, small, anchor=anchor)
    lines = Image.new("L", (width * _FINE, height * _FINE))
    for number, (name, values) in enumerate(rates.items()):
        colour = theme.series[number % len(theme.series)]
        lines.paste(0, (0, 0, *lines.size))
        points = [(x(i + 1) * _FINE, y(rate) * _FINE) for i, rate in _thinned(values, (right - left) * 2)]
        if len(points) > 1:
            ImageDraw.Draw(lines).line(points, fill=255, width=round(unit * 0.2 * _FINE), joint="curve")
        picture.paste(colour, (0, 0, width, height), lines.resize((width, height), Image.Resampling.LANCZOS))
        if name in names:
            at = right - sum(small.getlength(later) + unit * 2.2 for later in names[number:])
            draw.line((at, unit * 1.8, at + unit, unit * 1.8), fill=colour, width=max(2, unit // 5))
            draw.text((at + unit * 1.4, unit * 1.8), name, theme.text_dim, small, anchor="lm")
    return picture


def _thinned(values: Sequence[float], most: int) -> list[tuple[int, float]]:
    """About `most` of the values with their places, the last one among them."""
    stride = max(1, len(values) // max(1, most))
    kept = list(range(0, len(values), stride))
    if values and kept[-1] != len(values) - 1:
        kept.append(len(values) - 1)
    return [(i, values[i]) for i in kept]
