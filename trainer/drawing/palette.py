"""The colours of charts, sheets and grids: dark and calm, to sit on ComfyUI's canvas; and light ones, for paper."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]

BACKGROUND: Colour = (30, 31, 34)
PANEL: Colour = (40, 42, 46)
LINE: Colour = (62, 65, 71)
TEXT: Colour = (226, 228, 232)
TEXT_DIM: Colour = (150, 155, 164)
ACCENT: Colour = (232, 152, 74)
"""What the training itself does: bars, the smoothed loss."""
HELD_OUT: Colour = (94, 176, 214)
"""What is held out: the validation loss, its images."""
SAVED: Colour = (134, 190, 126)
WARNING: Colour = (226, 100, 96)
NEUTRAL: Colour = (132, 124, 176)


@dataclass(frozen=True)
class Theme:
    background: Colour
    panel: Colour
    line: Colour
    text: Colour
    text_dim: Colour
    warning: Colour
    series: tuple[Colour, ...]
    """For lines beside each other; told apart by the colour-blind too, by their brightness."""


DARK = Theme(
    BACKGROUND, PANEL, LINE, TEXT, TEXT_DIM, WARNING, (ACCENT, HELD_OUT, SAVED, (226, 136, 186), (222, 206, 104), (158, 148, 222), (196, 200, 208))
)
LIGHT = Theme(
    (248, 248, 249),
    (255, 255, 255),
    (221, 223, 228),
    (30, 32, 36),
    (95, 100, 109),
    (186, 44, 40),
    ((200, 98, 8), (20, 106, 164), (44, 124, 52), (172, 52, 122), (132, 108, 0), (92, 78, 168), (84, 88, 96)),
)
THEMES = {"dark": DARK, "light": LIGHT}


def mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """`colour` with a `share` (0 to 1) of `other`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue
