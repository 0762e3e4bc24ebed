from __future__ import annotations

import pytest
from PIL import Image, ImageDraw, ImageFont

from athanor.trainer.drawing import mixed_font as mixed
from athanor.trainer.drawing.mixed_font import draw_text, mixed_font, undrawable


class Known:
    """A font that has some letters, each of one width."""

    def __init__(self, name: str, letters: str, width_px: int):
        self.name, self.letters, self.width_px = name, letters, width_px

    def __repr__(self) -> str:
        return self.name

    def getlength(self, text: str) -> float:
        return self.width_px * len(text)


LATIN, HAN, ARABIC = Known("latin", "é", 10), Known("han", "中文", 20), Known("arabic", "ابت", 7)


@pytest.fixture(autouse=True)
def three_fonts(monkeypatch):
    """The first is taken for most, as where no font has all."""
    monkeypatch.setattr(mixed, "label_font", lambda _, text: next((font for font in (HAN, ARABIC) if len(text) == 1 and text in font.letters), LATIN))
    monkeypatch.setattr(mixed, "draws", lambda font, char: char.isascii() or char in font.letters)


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("epoch 1", [("epoch 1", LATIN)]),
        ("é 中 文, 1", [("é ", LATIN), ("中 文", HAN), (", 1", LATIN)]),
        ("ab ابت, ت", [("ab ", LATIN), ("ابت, ت", ARABIC)]),
        ("中\ufe0f文", [("中\ufe0f文", HAN)]),
        ("", []),
    ],
)
def test_each_script_gets_a_font_that_has_it_and_stays_whole(text, runs):
    font = mixed_font(12, text)
    assert font.runs(text) == runs
    assert font.getlength(text) == sum(each.getlength(part) for part, each in runs)


def test_what_no_font_has_is_told_once():
    assert undrawable("é 中文 猫 кот 猫\ufe0f") == "猫кот"


def test_texts_stand_where_their_anchor_says(monkeypatch):
    font = mixed.MixedFont(ImageFont.load_default(20), {"b": ImageFont.load_default(30)})
    for anchor, place in (("lm", 20), ("mm", 100), ("rm", 180)):
        picture = Image.new("L", (200, 60))
        draw_text(ImageDraw.Draw(picture), (place, 30), "aba", font, 255, anchor)
        left, _, right, _ = picture.getbbox()
        start = place - {"l": 0, "m": 0.5, "r": 1}[anchor[0]] * font.getlength("aba")
        assert left == pytest.approx(start, abs=3) and right == pytest.approx(start + font.getlength("aba"), abs=3)
