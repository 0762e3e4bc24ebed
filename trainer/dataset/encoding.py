"""Old text files without a word on their encoding: which of the usual ones it is."""

from __future__ import annotations

import codecs
import unicodedata

_ASIAN = {
    "gb18030": "GBK (Simplified Chinese)",
    "cp932": "Shift JIS (Japanese)",
    "big5": "Big5 (Traditional Chinese)",
    "cp949": "EUC-KR (Korean)",
}
_ALPHABETS = {
    "Latin": {*map(chr, range(0xA0, 0x250))},
    "Greek": {*map(chr, range(0x386, 0x3A2)), *map(chr, range(0x3A3, 0x3CF))},
    "Cyrillic": {*map(chr, range(0x401, 0x460)), "\u0490", "\u0491"},
    "Hebrew": {*map(chr, range(0x5D0, 0x5EB))},
    "Arabic": {*map(chr, range(0x60C, 0x670))},
}
"""What is written with two bytes in UTF-8, as far as it is in use today."""
_NOT_IN_GB2312 = bytes(range(0x80, 0xA1))
_WESTERN = "Windows-1252 (Western European)"
_DAMAGED = "UTF-8 with damaged characters, which are left out"
_ENOUGH_COMMON = 0.6
_NUM_KOREAN_AT_LEAST = 6


def decode_text(data: bytes) -> tuple[str, str | None]:
    """The text of `data`, and for people the name of its encoding where that is not UTF-8.

    UTF-8 and byte-order marks are certain. Otherwise that encoding wins in which the largest share of characters are
    everyday ones: each of the Asian standards lists its frequent characters first, so the lead byte tells. General
    detectors are made for pages of text and guess wrong on a handful of tags.
    Raises ValueError if it is no text.
    """
    # Before UTF-16, whose mark is the beginning of this one.
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return data.decode("utf-32"), "UTF-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16"), "UTF-16"
    if b"\0" in data:
        raise ValueError("it is not a text file")
    try:
        text = data.decode("utf-8-sig")
        return (data.decode("gb18030"), _ASIAN["gb18030"]) if _is_rather_gbk(data, text) else (text, None)
    except UnicodeDecodeError:
        pass
    if _is_damaged_utf8(data) and not _is_all_gb2312(data):
        return data.decode("utf-8-sig", "ignore"), _DAMAGED
    scores = {encoding: _share_of_common(data, encoding) for encoding in _ASIAN}
    best = max(scores, key=lambda encoding: scores[encoding])
    if scores[best] >= _ENOUGH_COMMON:
        if best == "gb18030" and scores["cp949"] == 1.0 and _looks_korean(data):
            best = "cp949"
        return data.decode(best), _ASIAN[best]
    try:
        return data.decode("cp1252"), _WESTERN
    except UnicodeDecodeError:
        raise ValueError("its encoding is unknown") from None


def _is_rather_gbk(data: bytes, text: str) -> bool:
    """Whether a few Chinese characters happen to be valid UTF-8, as \u96ea is \u0469: letters that no living alphabet has, or of several, or that do not exist."""
    if text.isascii() or not _is_all_gb2312(data):
        return False
    alphabets = {next((name for name, letters in _ALPHABETS.items() if char in letters), "") for char in text if not char.isascii()}
    alphabets.discard("Latin")
    is_strange = max(text, default="") < "\u0800" and ("" in alphabets or len(alphabets) > 1)
    is_impossible = any(unicodedata.category(char) == "Cn" for char in text)
    return is_strange or is_impossible


def _is_all_gb2312(data: bytes) -> bool:
    """Whether every character is an everyday Chinese one or ASCII."""
    has_others = len(data.translate(None, _NOT_IN_GB2312)) < len(data)  # nearly every caption in UTF-8 has
    return not has_others and _share_of_common(data, "gb18030") == 1.0


def _is_damaged_utf8(data: bytes) -> bool:
    """Whether most of it is UTF-8: cut in the middle of a character, or with a byte of something else in it."""
    text = data.decode("utf-8", "replace")
    num_whole = sum(not char.isascii() and char != "\ufffd" for char in text)
    return num_whole >= 2 * text.count("\ufffd")


def _share_of_common(data: bytes, encoding: str) -> float:
    try:
        codes = [char.encode(encoding) for char in data.decode(encoding) if not char.isascii()]
    except UnicodeDecodeError:
        return 0.0
    return sum(_is_common(code, encoding) for code in codes) / max(1, len(codes))


def _is_common(code: bytes, encoding: str) -> bool:
    """Whether a character stands in the everyday rows of its standard: level 1, kana, hangul, punctuation."""
    if len(code) != 2:
        return False
    lead, trail = code
    if encoding == "gb18030":
        return trail >= 0xA1 and (0xB0 <= lead <= 0xD7 or lead in (0xA1, 0xA3))
    if encoding == "cp932":
        return 0x81 <= lead <= 0x83 or 0x88 <= lead <= 0x97
    if encoding == "big5":
        return 0xA1 <= lead <= 0xC6
    return trail >= 0xA1 and (0xB0 <= lead <= 0xC8 or lead in (0xA1, 0xA3))


def _looks_korean(data: bytes) -> bool:
    """Hangul ends at lead byte C8, where two in five of everyday Chinese characters are still to come."""
    text = data.decode("gb18030")
    if any(mark in text for mark in "、，。"):  # of which Korean writes none
        return False
    leads = [code[0] for char in text if len(code := char.encode("gb18030")) == 2]
    return len(leads) >= _NUM_KOREAN_AT_LEAST and max(leads) <= 0xC8
