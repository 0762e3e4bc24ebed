"""What `routes` answers: listings as the page wants them, filters, suggestions for tags, and kept scores."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

from ..tagger.categories import category
from ..tagger.errors import TaggerError
from ..tagger.filter import filter_items, parse_filter
from ..tagger.hand_edits import apply_hand_edits, find_pictures, parse_hand_edits
from ..tagger.lexicon import Lexicon
from ..tagger.models import load_labels
from ..tagger.scores import ScoreCache
from ..tagger.session import Tagger
from ..tagger.tags import match_key, spaced
from . import host
from .lexicons import count_tokens, lexicon_for_look_ups
from .listing import Listing, Picture, kept_listing
from .taggers import place_of

UNKNOWN = -1
"""The category of a tag that neither a lexicon nor a tagger knows."""
_MAX_FOUND = 24
_MAX_SCORES = 120
_MIN_SCORE = 0.05


class TaggerScores(TypedDict):
    """For JSON: what a tagger thinks of one picture."""

    name: str
    tags: list[tuple[str, float, int]]
    """Tag, score and category, the likeliest first."""


def listing_for_page(name: str, hand_edits: str) -> str:
    """JSON: pictures as [key, width, height, role, [numbers of tags], has a caption], tags as [name, category].

    With the places of the pictures that `hand_edits` are for. Raises KeyError for a listing that is not there, TaggerError.
    """
    listing = kept_listing(name)
    places = find_pictures(parse_hand_edits(hand_edits), [picture.path for picture in listing.pictures])
    numbers: dict[str, int] = {}
    pictures = []
    for picture in listing.pictures:
        tags = [numbers.setdefault(tag, len(numbers)) for tag in picture.tags]
        pictures.append((picture.key, picture.width_px, picture.height_px, picture.role, tags, int(picture.has_caption)))
    categories = _Categories(lexicon_for_look_ups(listing.lexicon), listing)
    tags = [(tag, categories.of(tag)) for tag in numbers]
    data = {"pictures": pictures, "tags": tags, "rules": listing.rules, "filter": listing.filter, "lexicon": listing.lexicon}
    has_scores = bool(listing.taggers) or any(picture.scores for picture in listing.pictures)
    return json.dumps({**data, "has_scores": has_scores, "places": places}, ensure_ascii=True, separators=(",", ":"))


class _Categories:
    """Of tags, by the lexicon, else by what Auto Tag said of them, else by the taggers' own lists."""

    def __init__(self, lexicon: Lexicon | None, listing: Listing):
        self._lexicon = lexicon
        said = {match_key(tag): category(name) for picture in listing.pictures for tag, name, _ in picture.scores if name}
        self._tables = [said, *(table for name in listing.taggers if (table := _categories_of(name)))]

    def of(self, tag: str) -> int:
        entry = self._lexicon.tag(tag) if self._lexicon else None
        if entry:
            return entry.category
        key = match_key(tag)
        return next((table[key] for table in self._tables if key in table), UNKNOWN)


@lru_cache(maxsize=4)
def _categories_of(tagger: str) -> dict[str, int]:
    try:
        labels = load_labels(place_of(tagger))
    except (TaggerError, OSError):
        return {}
    return {match_key(name): number for name, number in zip(labels.names, labels.categories, strict=True)}


def filtered(name: str, text: str, hand_edits: str) -> list[int]:
    """The numbers of the pictures of listing `name` that the filter finds, with those edits. Raises KeyError, TaggerError."""
    listing = kept_listing(name)
    test = parse_filter(text, count_tokens)
    if test is None:
        return list(range(len(listing.pictures)))
    paths = [picture.path for picture in listing.pictures]
    captions, _ = apply_hand_edits(parse_hand_edits(hand_edits), paths, [picture.tags for picture in listing.pictures])
    scores = [{match_key(tag): score for tag, _, score in picture.scores} for picture in listing.pictures]
    items = filter_items(paths, [(tags, ", ".join(tags)) for tags in captions], scores)
    return [i for i, item in enumerate(items) if test(item)]


def search_tags(text: str, lexicon: str) -> list[tuple[str, int, int, str]]:
    """Tag (spelled with blanks), category, count and the alias that was found, the best first."""
    known = lexicon_for_look_ups(lexicon)
    found = known.search(text, _MAX_FOUND) if known else ()
    return [(spaced(each.entry.name), each.entry.category, each.entry.count, each.alias) for each in found]


def picture_scores(path: Path, picture: Picture, taggers: tuple[str, ...]) -> list[TaggerScores]:
    """What the taggers have said of the picture, all that was kept of it; no model is loaded.

    If nothing was kept, at least the scores of the tags that Auto Tag has written.
    """
    found = []
    for name in taggers:
        try:
            tagger = Tagger(place_of(name))
            cache = ScoreCache(host.cache_folder() / "tags", tagger.fingerprint, len(tagger.labels))
            scores = cache.read(cache.key(path))
        except (TaggerError, OSError):
            continue
        if scores is not None:
            best = [int(i) for i in scores.argsort()[::-1][:_MAX_SCORES] if scores[i] >= _MIN_SCORE]
            tags = [(spaced(tagger.labels.names[i]), round(float(scores[i]), 4), tagger.labels.categories[i]) for i in best]
            found.append(TaggerScores(name=name, tags=tags))
    if not found and picture.scores:
        own = sorted(picture.scores, key=lambda one: -one[2])
        tags = [(tag, round(score, 4), category(name) if name else UNKNOWN) for tag, name, score in own]
        found.append(TaggerScores(name="Auto Tag", tags=tags))
    return found
