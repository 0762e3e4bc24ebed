"""The loss over a run as a picture, drawn with Pillow: ComfyUI does not bring matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .fonts import Font, label_font, wrapped_with_end
from .palette import DARK, Colour, Theme, mixed
from .thinned import thinned
from .ticks import even_ticks, limits, log_ticks

_FINE = 3
"""Lines are drawn this much larger and scaled down, which smooths them."""


@dataclass(frozen=True)
class _Axes:
    left: int
    top: int
    right: int
    bottom: int
    last_step: int
    low: float
    high: float
    """Limits of the loss, as logarithms on a logarithmic scale."""
    is_log: bool
    margin: int
    """Left and right of the first and the last step, so that their dots are whole."""

    def x(self, step: float) -> float:
        return self.left + self.margin + (self.right - self.left - 2 * self.margin) * step / self.last_step

    def y(self, loss: float) -> float:
        value = math.log10(loss) if self.is_log else loss
        share = (value - self.low) / (self.high - self.low)
        return self.bottom - (self.bottom - self.top) * min(1.0, max(0.0, share))


def loss_plot(
    losses: Sequence[float],
    validation: Mapping[int, float],
    saved_steps: Sequence[int],
    title: str,
    size_px: tuple[int, int] = (1024, 640),
    log_scale: bool = False,
    theme: Theme = DARK,
    nothing: str = "no loss yet",
) -> Image.Image:
    """A run's loss: `losses[i]` is that of step i + 1, `validation` the held-out loss by step (0 is the untrained base).

    Each step is drawn faint, its running mean (exponential, with the bias of its start corrected) bold, the held-out
    loss as dots, and saved epochs as ticks. Values that are no finite numbers leave a gap and are told in red; on a
    logarithmic scale values of 0 and below do too. Single spikes run out of the picture rather than flatten the rest.
    `nothing` stands where there is no loss at all. Gives an RGB image of `size_px`, at least 320 x 200.
    """
    size_px = (max(320, size_px[0]), max(200, size_px[1]))
    unit = max(11, round(min(size_px[0] / 1.5, size_px[1]) / 36))
    small, large = label_font(unit), label_font(round(unit * 1.35), title)
    last_step = max([1, len(losses), *validation, *saved_steps])
    raw = [(i + 1, loss) for i, loss in enumerate(losses) if _is_drawable(loss, log_scale)]
    held_out = [(step, loss) for step, loss in sorted(validation.items()) if _is_drawable(loss, log_scale)]
    smooth = smoothed(losses)
    smooth_line = [(i + 1, loss) for i, loss in enumerate(smooth) if _is_drawable(loss, log_scale)]
    bad_steps = [i + 1 for i, loss in enumerate(losses) if not math.isfinite(loss)]
    low, high = limits([loss for _, loss in raw], [loss for _, loss in (*held_out, *smooth_line)], log_scale)
    y_ticks = log_ticks(low, high) if log_scale else even_ticks(low, high, max(3, size_px[1] // 90))
    label_width = max([small.getlength(text) for _, text in y_ticks], default=0)
    left, top = round(label_width + unit * 2), round(unit * 5.2)
    axes = _Axes(left, top, size_px[0] - unit * 2, size_px[1] - round(unit * 3.6), last_step, low, high, log_scale, unit)

    picture = Image.new("RGB", size_px, theme.background)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((axes.left, axes.top, axes.right, axes.bottom), fill=theme.panel)
    draw.text((axes.left, round(unit * 1.1)), "".join(wrapped_with_end(title, large, axes.right - axes.left, 1)), theme.text, large)
    _draw_grid(draw, axes, y_ticks, small, unit, theme)
    picture = _draw_lines(picture, axes, raw, smooth_line, held_out, saved_steps, bad_steps, theme)
    draw = ImageDraw.Draw(picture)
    _draw_legend(draw, axes, small, unit, raw, held_out, saved_steps, theme)
    if bad_steps:
        told = f"no number at step {bad_steps[0]}" if len(bad_steps) == 1 else f"no number at {len(bad_steps)} steps, first at {bad_steps[0]}"
        draw.text((axes.right - unit // 2, axes.top + unit // 2), told, theme.warning, small, anchor="ra")
    if not raw and not held_out:
        draw.text(((axes.left + axes.right) // 2, (axes.top + axes.bottom) // 2), nothing, theme.text_dim, large, anchor="mm")
    return picture


def smoothed(losses: Sequence[float]) -> list[float]:
    """The exponential running mean of `losses`, each divided by the weight gathered so far (Kingma & Ba 2014, section 3).

    Its memory is about a thirtieth of the run, from 3 to 2000 steps. Values that are no finite numbers are passed over;
    before the first finite one the mean is NaN.
    """
    beta = 1 - 1 / min(2000, max(3, len(losses) / 30))
    mean, weight, result = 0.0, 0.0, []
    for loss in losses:
        if math.isfinite(loss):
            mean = beta * mean + (1 - beta) * loss
            weight = beta * weight + (1 - beta)
        result.append(mean / weight if weight else math.nan)
    return result


def _is_drawable(loss: float, log_scale: bool) -> bool:
    return math.isfinite(loss) and (loss > 0 or not log_scale)


def _draw_grid(draw: ImageDraw.ImageDraw, axes: _Axes, y_ticks: list[tuple[float, str]], font: Font, unit: int, theme: Theme) -> None:
    for value, text in y_ticks:
        y = round(axes.y(value))
        draw.line((axes.left, y, axes.right, y), theme.line)
        draw.text((axes.left - unit // 2, y), text, theme.text_dim, font, anchor="rm")
    num_ticks = max(2, (axes.right - axes.left) // (unit * 7))
    for value, text in even_ticks(0, axes.last_step, min(num_ticks, axes.last_step)):
        if value == round(value):
            x = round(axes.x(value))
            draw.line((x, axes.bottom, x, axes.bottom + unit // 3), theme.line)
            draw.text((x, axes.bottom + round(unit * 0.6)), text, theme.text_dim, font, anchor="ma")
    draw.text((axes.right, axes.bottom + round(unit * 2.0)), "step", theme.text_dim, font, anchor="ra")


def _draw_lines(
    picture: Image.Image,
    axes: _Axes,
    raw: list[tuple[int, float]],
    smooth: list[tuple[int, float]],
    held_out: list[tuple[int, float]],
    saved_steps: Sequence[int],
    bad_steps: list[int],
    theme: Theme,
) -> Image.Image:
    box = (axes.left, axes.top, axes.right + 1, axes.bottom + 1)
    plate = picture.crop(box).resize(((box[2] - box[0]) * _FINE, (box[3] - box[1]) * _FINE), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(plate)

    def at(step: float, loss: float) -> tuple[float, float]:
        return (axes.x(step) - axes.left) * _FINE, (axes.y(loss) - axes.top) * _FINE

    bottom, width = plate.height - 1, max(2, plate.height // 500)
    for step in saved_steps:
        x = at(step, 10**axes.low if axes.is_log else axes.low)[0]
        draw.line((x, 0, x, bottom), mixed(theme.panel, theme.series[2], 0.3), width)
        draw.line((x, bottom - plate.height // 30, x, bottom), theme.series[2], width * 2)
    for step in bad_steps:
        x = at(step, 10**axes.low if axes.is_log else axes.low)[0]
        draw.line((x, 0, x, bottom), mixed(theme.panel, theme.warning, 0.6), width)
    faint = mixed(theme.panel, theme.series[0], 0.45)
    for run in _runs(raw):
        _draw_line(draw, [at(*point) for point in thinned(run, plate.width)], faint, width)
    for run in _runs(smooth):
        _draw_line(draw, [at(*point) for point in thinned(run, plate.width // _FINE)], theme.series[0], width * 3)
    dots = [at(*point) for point in held_out]
    if len(dots) > 1:
        draw.line(dots, theme.series[1], width * 2, joint="curve")
    radius = min(plate.height / 90, max(width * 2.0, plate.width / max(1, len(dots)) / 4))
    for x, y in dots:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), theme.series[1], theme.panel, max(1, width // 2))
    picture.paste(plate.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.LANCZOS), box[:2])
    return picture


def _runs(points: list[tuple[int, float]]) -> list[list[tuple[int, float]]]:
    """Split where steps are missing."""
    runs: list[list[tuple[int, float]]] = []
    for point in points:
        if runs and runs[-1][-1][0] + 1 == point[0]:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _draw_line(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: Colour, width: int) -> None:
    if len(points) == 1:
        x, y = points[0]
        draw.ellipse((x - 2 * width, y - 2 * width, x + 2 * width, y + 2 * width), colour)
    else:
        draw.line(points, colour, width, joint="curve")


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    axes: _Axes,
    font: Font,
    unit: int,
    raw: list[tuple[int, float]],
    held_out: list[tuple[int, float]],
    saved_steps: Sequence[int],
    theme: Theme,
) -> None:
    entries: list[tuple[Colour, str]] = []
    if raw:
        entries += [(mixed(theme.panel, theme.series[0], 0.5), "each step"), (theme.series[0], "smoothed")]
    if held_out:
        entries.append(
            (theme.series[1], "held out" + (f", {held_out[0][1]:.3g} to {held_out[-1][1]:.3g}" if len(held_out) > 1 else f", {held_out[0][1]:.3g}"))
        )
    if saved_steps:
        entries.append((theme.series[2], "saved"))
    x, y = float(axes.left), axes.top - round(unit * 1.1)
    for colour, text in entries:
        if x + unit * 1.6 + font.getlength(text) > axes.right:
            break
        draw.rounded_rectangle((x, y - unit * 0.25, x + unit * 1.2, y + unit * 0.25), unit * 0.2, colour)
        draw.text((x + unit * 1.6, y), text, theme.text_dim, font, anchor="lm")
        x += unit * 3.4 + font.getlength(text)
