"""Fonts for labels in any language: found on the system, since Pillow's own knows little but English."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PREFERRED = (
    # Windows
    "segoeui.ttf",
    "msyh.ttc",
    "msyh.ttf",
    "msjh.ttc",
    "yugothm.ttc",
    "meiryo.ttc",
    "malgun.ttf",
    "simhei.ttf",
    "simsun.ttc",
    "seguiemj.ttf",
    # macOS
    "helveticaneue.ttc",
    "pingfang.ttc",
    "hiragino sans gb.ttc",
    "stheiti light.ttc",
    "stheiti medium.ttc",
    "ヒラギノ角ゴシック w3.ttc",
    "applesdgothicneo.ttc",
    "arial unicode.ttf",
    # Linux
    "notosans-regular.ttf",
    "liberationsans-regular.ttf",
    "dejavusans.ttf",
    "notosanscjk-regular.ttc",
    "notosanscjk-vf.otf.ttc",
    "notosanscjksc-regular.otf",
    "notosanssc-regular.otf",
    "sourcehansanssc-regular.otf",
    "sourcehansans-regular.ttc",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "droidsansfallbackfull.ttf",
    "freesans.ttf",
)
"""File names in lower case, in the order in which they are tried."""

_NUM_OTHERS_TRIED = 40
_NEVER_FIRST = "，。、！？；：）」』】》”’…"
"""Punctuation that must not start a line."""
_NO_CHARACTER = "\U0010fffe"
_NOTO_CJK_FACES = {"japanese": 0, "korean": 1, "chinese": 2}


def label_font(size_px: int, text: str = "") -> Font:
    """A font of `size_px` that has every character of `text`, or else the one that has most of them.

    Well-known fonts of Windows, macOS and Linux come first, then Pillow's own, whose blanks are narrow and which has
    few letters but English ones, then others that are installed. Nothing is downloaded.
    """
    needed = frozenset(char for char in text if not char.isascii() and not char.isspace())
    return _font(size_px, needed)


class Measure(Protocol):
    """What tells how wide a text is, in px: a font."""

    def getlength(self, text: str) -> float: ...


def wrapped(text: str, font: Measure, width_px: int, max_lines: int) -> tuple[str, ...]:
    """`text` in at most `max_lines` lines no wider than `width_px`, broken at blanks, or between any two CJK characters
    or anywhere within a word that is too long; the last line ends in an ellipsis where text is left over."""
    lines: list[str] = []
    rest = " ".join(text.split())
    while rest and len(lines) < max_lines:
        line = _first_line(rest, font, width_px)
        rest = rest[len(line) :].lstrip()
        lines.append(line.rstrip())
    if rest:
        lines[-1] = shortened(lines[-1] + " " + rest, font, width_px)
    return tuple(lines)


def wrapped_with_end(text: str, font: Measure, width_px: int, max_lines: int) -> tuple[str, ...]:
    """As `wrapped`, but where there is too much text its middle is left out: the end of a label is what tells it from others."""
    plain = " ".join(text.split())
    lines = wrapped(plain, font, width_px, max_lines + 1)
    if len(lines) <= max_lines:
        return lines
    low, high = 2, len(plain) - 1
    while low < high:
        keep = (low + high + 1) // 2
        low, high = (keep, high) if len(wrapped(_without_middle(plain, keep), font, width_px, max_lines + 1)) <= max_lines else (low, keep - 1)
    return wrapped(_without_middle(plain, low), font, width_px, max_lines)


def _without_middle(text: str, keep: int) -> str:
    """`keep` characters of it, most of them from its end."""
    start = keep // 3
    head, tail = text[:start], text[len(text) - (keep - start) :]
    # At blanks where one is near.
    head, tail = head[: head.rfind(" ") + 1] if " " in head[-12:] else head, tail[tail.find(" ") + 1 :] if " " in tail[:12] else tail
    return f"{head}… {tail}" if head.endswith(" ") else f"{head}…{tail}"


def shortened(text: str, font: Measure, width_px: int) -> str:
    """`text`, or as much of its start as fits with an ellipsis behind it."""
    if font.getlength(text) <= width_px:
        return text
    keep = _num_fitting(text, font, width_px - font.getlength("…"))
    return text[:keep].rstrip(" ,") + "…"


@lru_cache(maxsize=16_384)
def draws(font: Font, char: str) -> bool:
    """Whether the font draws `char` as anything but the box for missing characters."""
    glyph, box = font.getmask(char), font.getmask(_NO_CHARACTER)
    return glyph.size != box.size or bytes(glyph) != bytes(box)


def _first_line(text: str, font: Measure, width_px: int) -> str:
    if font.getlength(text) <= width_px:
        return text
    fitting = max(1, _num_fitting(text, font, width_px))
    for cut in range(fitting, 0, -1):
        if text[cut : cut + 1] in _NEVER_FIRST and cut < len(text):
            continue
        if text[cut : cut + 1] == " " or text[cut - 1] in " -/_" or _is_cjk(text[cut - 1]) or _is_cjk(text[cut : cut + 1]):
            return text[:cut]
    return text[:fitting]


def _num_fitting(text: str, font: Measure, width_px: float) -> int:
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= width_px:
            low = middle
        else:
            high = middle - 1
    return low


def _is_cjk(char: str) -> bool:
    return bool(char) and (
        "\u2e80" <= char <= "\ua4cf" or "\uac00" <= char <= "\ud7ff" or "\uf900" <= char <= "\ufaff" or "\uff00" <= char <= "\uffef"
    )


@lru_cache(maxsize=512)
def _font(size_px: int, needed: frozenset[str]) -> Font:
    best = _default(size_px)
    if not isinstance(best, ImageFont.FreeTypeFont):
        # Without FreeType Pillow has one small font and no other.
        return best
    fewest = len(needed) + 1
    for font in _candidates(size_px, needed):
        missing = sum(not draws(font, char) for char in needed)
        if missing == 0:
            return font
        if missing < fewest:
            best, fewest = font, missing
    return best


@lru_cache(maxsize=32)
def _default(size_px: int) -> Font:
    return ImageFont.load_default(size_px)


def _candidates(size_px: int, needed: frozenset[str]) -> Iterator[Font]:
    installed = _installed()
    yield from _opened_ones([name for name in _PREFERRED if name in installed], size_px, needed)
    yield _default(size_px)
    others = [name for name in sorted(installed) if name not in _PREFERRED and ("regular" in name or "-" not in name)]
    yield from _opened_ones(others[:_NUM_OTHERS_TRIED], size_px, needed)


def _opened_ones(names: list[str], size_px: int, needed: frozenset[str]) -> Iterator[Font]:
    for name in names:
        try:
            yield _opened(_installed()[name], size_px, _face(name, needed))
        except OSError:
            continue


def _face(name: str, needed: frozenset[str]) -> int:
    """The same code point is drawn in the Japanese, Korean or Chinese manner; Noto keeps all of them in one file."""
    if not name.startswith("notosanscjk") or not name.endswith(".ttc"):
        return 0
    if any("\u3040" <= char <= "\u30ff" for char in needed):
        return _NOTO_CJK_FACES["japanese"]
    return _NOTO_CJK_FACES["korean" if any("\uac00" <= char <= "\ud7ff" for char in needed) else "chinese"]


@lru_cache(maxsize=64)
def _opened(path: Path, size_px: int, face: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(io.BytesIO(_font_bytes(path)), size_px, index=face)


@lru_cache(maxsize=4)
def _font_bytes(path: Path) -> bytes:
    # By content: FreeType cannot open a path with other than ANSI letters on Windows.
    return path.read_bytes()


@lru_cache(maxsize=1)
def _installed() -> dict[str, Path]:
    """Font files of the system and the user, by file name in lower case."""
    found: dict[str, Path] = {}
    for folder in _font_folders():
        for where, _, names in os.walk(folder):
            for name in names:
                if name.lower().endswith((".ttf", ".ttc", ".otf")):
                    found.setdefault(name.lower(), Path(where) / name)
    return found


def _font_folders() -> tuple[Path, ...]:
    home = Path.home()
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
        return Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts", local / "Microsoft" / "Windows" / "Fonts"
    if sys.platform == "darwin":
        downloaded = Path("/System/Library/AssetsV2").glob("com_apple_MobileAsset_Font*")
        return Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library" / "Fonts", *downloaded
    return Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local" / "share" / "fonts", home / ".fonts"
