import pytest
from PIL import ImageFont

from athanor.trainer.drawing import fonts
from athanor.trainer.drawing.fonts import label_font, shortened, wrapped, wrapped_with_end


@pytest.fixture
def no_system_fonts(monkeypatch):
    monkeypatch.setattr(fonts, "_installed", dict)
    fonts._font.cache_clear()
    yield
    fonts._font.cache_clear()


def test_plain_text_has_a_font_of_the_asked_size():
    small, large = label_font(12, "abc"), label_font(24, "abc")
    assert 1.7 < large.getlength("some words") / small.getlength("some words") < 2.3


def test_chinese_gets_a_font_that_has_it():
    font = label_font(16, "红发, 1girl")
    if not any(fonts.draws(font, char) for char in "红发"):
        pytest.skip("no CJK font is installed here")
    assert all(fonts.draws(font, char) for char in "红发1g")


def test_without_system_fonts_pillows_own_serves(no_system_fonts):
    assert label_font(16, "红发").getname() == ImageFont.load_default(16).getname()
    assert label_font(16).getlength("abc") > 10


def test_a_font_file_that_cannot_be_read_is_passed_over(monkeypatch, tmp_path):
    broken = tmp_path / "msyh.ttc"
    broken.write_bytes(b"no font")
    monkeypatch.setattr(fonts, "_installed", lambda: {"msyh.ttc": broken, "segoeui.ttf": tmp_path / "gone.ttf"})
    fonts._font.cache_clear()
    assert label_font(16, "红").getlength("abc") > 10
    fonts._font.cache_clear()


def test_missing_characters_are_noticed():
    default = ImageFont.load_default(20)
    assert fonts.draws(default, "a") and not fonts.draws(default, "红")


@pytest.mark.parametrize(
    "text", ["1girl, solo, red hair, looking at viewer", "一只红色的玩具怪兽坐在木桌上，背景是花园。", "averyveryverylongtagwithoutanyblank_at_all"]
)
def test_wrapping_keeps_all_text_within_the_width(text):
    font = label_font(14, text)
    lines = wrapped(text, font, 120, 20)
    assert len(lines) > 1 and all(font.getlength(line) <= 120 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert not any(line.startswith(("，", "。", " ")) for line in lines)


def test_words_are_not_torn_where_they_fit():
    font = label_font(14)
    assert all(word in ("alpha", "beta", "gamma", "delta") for line in wrapped("alpha beta gamma delta", font, 90, 9) for word in line.split())


def test_what_is_left_over_ends_in_an_ellipsis():
    font = label_font(14)
    lines = wrapped("word " * 50, font, 100, 2)
    assert len(lines) == 2 and lines[1].endswith("…") and font.getlength(lines[1]) <= 100
    assert shortened("short", font, 100) == "short"
    assert wrapped("", font, 100, 3) == ()


@pytest.mark.parametrize(
    "text", ["a very long prompt " * 20 + "epoch 12", "averyveryverylongnamewithoutanyblank" * 5 + "-000012", "一个很长的标签" * 20 + "第12轮"]
)
@pytest.mark.parametrize("max_lines", [1, 2, 4])
def test_too_long_a_label_loses_its_middle_and_never_its_end(text, max_lines):
    font = label_font(16)
    lines = wrapped_with_end(text, font, 160, max_lines)
    assert 1 <= len(lines) <= max_lines and all(font.getlength(line) <= 160 for line in lines)
    joined = "".join(lines).replace(" ", "")
    assert joined.count("…") == 1 and joined.endswith(text[-2:]) and joined.startswith(text[0])
    assert wrapped_with_end("short label", font, 160, max_lines) == ("short label",)
