"""The colours of charts, sheets and grids: dark and calm, to sit on ComfyUI's canvas."""

from __future__ import annotations

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


def mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """`colour` with a `share` (0 to 1) of `other`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue
