"""Several fonts as one: no font has the letters of every language, and one label may hold several."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from .fonts import Font, draws, label_font

if TYPE_CHECKING:
    from PIL import ImageDraw

_JOINED = ("Mn", "Me", "Mc", "Cf")
"""Categories of characters that belong to the one before them: accents, joiners, variants of emoji."""


@dataclass(frozen=True)
class MixedFont:
    """A font for most of a text, and others for the characters that it lacks."""

    first: Font
    others: Mapping[str, Font]
    """By character."""

    def getlength(self, text: str) -> float:
        """In px, as of Pillow's fonts."""
        return sum(font.getlength(part) for part, font in self.runs(text))

    def runs(self, text: str) -> list[tuple[str, Font]]:
        """The text in pieces, each with its font. Blanks and signs between two pieces of one font go with them, since a script that is
        written from right to left must stay whole."""
        fonts: list[Font | None] = []
        for char in text:
            if fonts and unicodedata.category(char) in _JOINED:
                fonts.append(fonts[-1])
            else:
                fonts.append(self.others.get(char) or (None if char.isascii() and not char.isalnum() else self.first))
        for i, font in enumerate(fonts):
            if font is None:
                before = fonts[i - 1] if i else None
                after = next((each for each in fonts[i:] if each is not None), None)
                fonts[i] = before if before is not None and before is after else self.first
        pieces = groupby(zip(text, fonts, strict=True), key=lambda pair: id(pair[1]))
        return [("".join(char for char, _ in each), each[0][1] or self.first) for each in (list(piece) for _, piece in pieces)]


def mixed_font(size_px: int, text: str) -> MixedFont:
    """For `text`: the font that has most of its characters, and for the others whichever installed font has them."""
    first = label_font(size_px, text)
    lacking = {char for char in text if not char.isascii() and not char.isspace() and not draws(first, char)}
    found = {char: label_font(size_px, char) for char in lacking}
    return MixedFont(first, {char: font for char, font in found.items() if draws(font, char)})


def undrawable(text: str) -> str:
    """The characters of `text` that no font on this computer has, each once."""
    font = mixed_font(16, text)
    return "".join(
        char for char in dict.fromkeys(text) if not char.isascii() and char not in font.others and _shows(char) and not draws(font.first, char)
    )


def draw_text(pen: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, font: MixedFont, fill: tuple[int, int, int], anchor: str) -> None:
    """As Pillow's `text`, `anchor` one of lm, mm and rm."""
    x, y = xy
    x -= {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * font.getlength(text)
    for part, each in font.runs(text):
        pen.text((x, y), part, font=each, fill=fill, anchor=f"l{anchor[1]}")
        x += each.getlength(part)


def _shows(char: str) -> bool:
    return not char.isspace() and unicodedata.category(char) not in _JOINED
