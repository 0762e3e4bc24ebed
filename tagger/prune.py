"""Which tags of a set are what its character is, so that the trigger word learns them.

Tags that a character always has (hair, eyes, ears) belong into the trigger: left in the captions they stay separate things that
a prompt must name each time. A tag is pruned if it is of such a kind and most pictures of the character alone have it; the same
tag in few pictures is a variation and stays. Method: `character_core` of anime_screenshot_pipeline; the lists are our own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .tags import match_key, tag_matcher

_KINDS = (
    *("hair", "bangs", "bun", "buns", "braid", "braids", "twintails", "ponytail", "sidelocks", "ahoge", "drill", "drills", "afro", "updo"),
    *("dreadlocks", "bob cut", "hime cut", "pixie cut", "undercut", "side up", "hair bun", "two side up", "hair intakes", "widow's peak"),
    *("eyes", "pupils", "heterochromia", "eyebrows", "eyelashes", "skin", "freckles", "fang", "fangs", "beard", "mustache", "goatee"),
    *("ear", "ears", "horn", "horns", "tail", "tails", "wings", "halo", "antlers", "fur", "breasts", "flat chest", "facial mark"),
)
"""Last words of a tag: `red hair` and `hair` are of the kind `hair`, `chair` and `hair ribbon` are not."""
_KINDS_BY_PATTERN = ("dark-skinned *", "mole", "mole *", "scar", "scar *", "hair between eyes", "hair over *", "colored inner hair", "elf", "bald")
_STATES = (
    *("closed eyes", "half-closed eyes", "narrowed eyes", "empty eyes", "rolling eyes", "crazy eyes", "covered eyes", "heart-shaped pupils"),
    *("wet *", "floating hair", "alternate *", "fake *", "pubic hair", "* pubic hair", "armpit hair", "chest hair", "glowing *", "detached *"),
    *("* own *", "* another's *", "* in hair", "* from eyes", "hand on *", "hands on *", "between *", "bouncing breasts", "spread wings"),
    *("adjusting *", "brushing *", "covering *", "cutting *", "grabbing *", "holding *", "pulling *", "rubbing *", "tying *", "washing *"),
)
"""What a character does or is at the moment: stays however frequent."""
_COUNTS = ("?girl", "?boy", "?girls", "?boys", "?+girls", "?+boys", "?other", "?others", "multiple girls", "multiple boys")
_ONE = ("1girl", "1boy", "1other")

_is_trait = tag_matcher([*_KINDS, *(f"* {kind}" for kind in _KINDS), *_KINDS_BY_PATTERN])
_is_state = tag_matcher(_STATES)
_is_count = tag_matcher(_COUNTS)
_is_one = tag_matcher(_ONE)


def character_traits(captions: Sequence[Sequence[str]], min_share: float) -> frozenset[str]:
    """Keys (`match_key`) of the tags to prune: traits that at least `min_share` (above 0, to 1) of the solo captions have.

    Solo are captions with `solo`, or with one person and no others; if there are none, all count.
    """
    solo = [caption for caption in captions if _is_solo(caption)] or captions
    shares = Counter(key for caption in solo for key in {match_key(tag) for tag in caption})
    return frozenset(key for key, count in shares.items() if count >= min_share * len(solo) and _is_trait(key) and not _is_state(key))


def _is_solo(caption: Iterable[str]) -> bool:
    keys = {match_key(tag) for tag in caption}
    people = [key for key in keys if _is_count(key)]
    return "solo" in keys or (len(people) == 1 and _is_one(people[0]))
