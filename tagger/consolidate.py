"""Which tags of a caption say less than another one of the same caption: `shirt` beside `white shirt`.

By whole words at the end, never by parts of a word (`hat` is not in `hatsune miku`, nor `solo` in `solo focus`), and by a short table of
our own for kinds that do not show in the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from .tags import match_key, tag_matcher

_NEGATIONS = frozenset("no not without fake unworn invisible imaginary missing removed removing torn-off reverse".split())  # noqa: SIM905
"""`no shirt` says nothing of a shirt."""
_KEPT = tag_matcher(
    ("solo", "*girl", "*girls", "*boy", "*boys", "*other", "*others", "solo focus", "male focus", "female focus", "no humans", "general", "sensitive")
)
"""Counts of people, and ratings."""

_IMPLICATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("shirt", ("t-shirt", "dress shirt", "sweatshirt", "undershirt", "blouse")),
    ("skirt", ("miniskirt", "microskirt")),
    ("dress", ("sundress", "minidress", "microdress")),
    ("coat", ("raincoat", "overcoat", "labcoat", "trench coat")),
    ("jacket", ("blazer",)),
    ("swimsuit", ("bikini",)),
    ("hat", ("beret", "fedora", "sombrero")),
    ("socks", ("kneehighs", "bobby socks")),
    ("shoes", ("sneakers", "loafers", "mary janes", "high heels")),
    ("footwear", ("boots", "shoes", "sandals", "slippers")),
    ("school uniform", ("serafuku",)),
    ("japanese clothes", ("kimono", "yukata", "hakama", "haori")),
    ("jewelry", ("earrings", "necklace", "bracelet", "ring", "anklet", "brooch")),
    ("hair ornament", ("hairclip", "hairpin", "hair flower", "hair scrunchie")),
    ("animal ears", tuple(f"{animal} ears" for animal in ("cat", "dog", "fox", "rabbit", "wolf", "horse", "bear", "mouse", "tiger", "lion", "cow"))),
    ("smile", ("grin", "smirk")),
    ("gun", ("rifle", "handgun", "shotgun", "revolver", "submachine gun")),
    ("sword", ("katana", "rapier", "claymore (sword)")),
    ("weapon", ("gun", "sword", "spear", "axe", "bow (weapon)", "dagger")),
    ("flower", ("rose", "sunflower", "tulip", "hydrangea", "lily (flower)", "hibiscus")),
    ("cat", ("kitten",)),
    ("dog", ("puppy",)),
    ("car", ("sports car",)),
    ("motor vehicle", ("car", "truck", "motorcycle", "bus")),
)


def general_tags(caption: Iterable[str]) -> frozenset[str]:
    """Keys (`match_key`) of the tags that a more specific one of `caption` makes superfluous."""
    keys = {match_key(tag) for tag in caption}
    said = {general for key in keys for general in _said_by(key)}
    return frozenset(key for key in keys & said if not _KEPT(key))


@lru_cache(maxsize=1 << 16)
def _said_by(key: str) -> frozenset[str]:
    """All that the tag says beside itself."""
    found: set[str] = set()
    waiting: list[str] = [key]
    while waiting:
        for general in (*_suffixes(waiting.pop()),):
            if general not in found:
                found.add(general)
                waiting.append(general)
    return frozenset(found - {key})


def _suffixes(key: str) -> Sequence[str]:
    words = key.split(" ")
    suffixes = [] if words[0] in _NEGATIONS else [" ".join(words[i:]) for i in range(1, len(words))]
    return [*suffixes, *(general for general, kinds in _IMPLICATIONS if key in kinds)]
