"""The kinds of tags that taggers know, by the numbers that Danbooru and the taggers' files use."""

from __future__ import annotations

GENERAL, ARTIST, COPYRIGHT, CHARACTER, META, RATING, YEAR, QUALITY, MODEL = 0, 1, 3, 4, 5, 9, 10, 11, 12
"""0 to 5 as on Danbooru; 9 is the WD taggers' own, 10 Camie's; quality and model have names in cl_tagger's file, no numbers."""

CATEGORY_NAMES: tuple[tuple[str, int], ...] = (
    ("general", GENERAL),
    ("artist", ARTIST),
    ("copyright", COPYRIGHT),
    ("character", CHARACTER),
    ("meta", META),
    ("rating", RATING),
    ("year", YEAR),
    ("quality", QUALITY),
    ("model", MODEL),
)
_NUMBERS = dict(CATEGORY_NAMES)
_NAMES = {number: name for name, number in CATEGORY_NAMES}
_SYNONYMS = {"style": ARTIST, "series": COPYRIGHT, "species": GENERAL, "lore": META, "invalid": META}
_FROM_E621 = {5: GENERAL, 6: META, 7: META, 8: META, -1: META}
"""Species are what a picture shows, as general tags are; lore and invalid tags are not to be seen in it."""


def category(text: str, *, is_e621: bool = False) -> int:
    """The number for a category as a file writes it: a number of Danbooru (or e621) or a name. Raises ValueError."""
    text = text.strip()
    named = _NUMBERS.get(text.casefold(), _SYNONYMS.get(text.casefold()))
    if named is not None:
        return named
    number = int(text.removesuffix(".0"))  # pandas writes such numbers
    return _FROM_E621.get(number, number) if is_e621 else number


def category_name(number: int) -> str:
    """Of a category's number; "" for one that has none."""
    return _NAMES.get(number, "")
