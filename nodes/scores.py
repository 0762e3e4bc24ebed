"""How sure a tagger was of the tags of a sample: kept with it on the wire, for filters, for sorting and for people who edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..tagger.categories import category_name
from ..tagger.select import Mode, ScoredTag, combine
from ..tagger.sentences import add_tags, is_prose
from ..tagger.tags import match_key
from ..trainer.types import Sample, TagScore


@dataclass(frozen=True)
class ShownTag:
    """A tag of a caption with all that is known of it."""

    tag: str
    category: str
    """As in `TagScore`; "" for a tag that no tagger has given."""
    score: float | None


def shown_tags(sample: Sample) -> tuple[ShownTag, ...]:
    """The tags of the caption, in its order, each with the category and the score that a tagger gave it."""
    known = {match_key(one.tag): one for one in sample.tag_scores}
    found = [(tag, known.get(match_key(tag))) for tag in sample.tags]
    return tuple(ShownTag(tag, one.category if one else "", one.score if one else None) for tag, one in found)


def scores_by_key(sample: Sample) -> dict[str, float]:
    """Scores by `match_key`, as filters and rules want them."""
    return {match_key(one.tag): one.score for one in sample.tag_scores}


def with_scored_tags(sample: Sample, new: Sequence[ScoredTag], mode: Mode) -> Sample:
    """`sample` with the tags of a tagger combined with those that are there; its earlier scores stay unless the tag is scored anew."""
    fresh = tuple(TagScore(one.tag, category_name(one.category), one.score) for one in new)
    keys = {match_key(one.tag) for one in fresh}
    kept = () if mode == "overwrite" else tuple(one for one in sample.tag_scores if match_key(one.tag) not in keys)
    names = [one.tag for one in new]
    if mode in ("prepend", "append") and sample.caption and is_prose(sample.caption):
        tagged = replace(sample, caption=add_tags(sample.caption, names, mode))
    else:
        tagged = sample.with_tags(combine(sample.tags, names, mode))
    return replace(tagged, tag_scores=(*fresh, *kept))
