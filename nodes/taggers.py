"""The taggers as Auto Tag shows and uses them: on this machine or to be downloaded, one or two at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..tagger.download import download_tagger
from ..tagger.errors import TaggerError
from ..tagger.known import KNOWN_TAGGERS, known_tagger
from ..tagger.labels import Labels
from ..tagger.merge import Merging, merge_labels, on_scale_of
from ..tagger.models import find_taggers, missing_tagger, own_thresholds, pick_tagger, tagger_choices
from ..tagger.scores import tag_images
from ..tagger.session import Tagger
from ..tagger.thresholds import Thresholds
from . import host


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """What one tagger thinks of an image, or two of them together."""

    scores: np.ndarray | None
    problem: str


def choices() -> list[str]:
    """For the drop-down."""
    return [*tagger_choices(host.tagger_roots()), host.MINIATURE]


def usual_choice() -> str:
    """The tagger that suits most people, if it is here; else the first."""
    here = [name for name in find_taggers(host.tagger_roots()) if known_tagger(name) is KNOWN_TAGGERS[0]]
    return (here or choices())[0]


def place_of(name: str) -> Path:
    """Of the tagger called `name`. Raises TaggerError that says how it gets here."""
    if name == host.MINIATURE:
        return host.PACK / "tagger" / "miniature"
    try:
        return pick_tagger(name, host.tagger_roots())
    except TaggerError as error:
        hint = " Or switch on `download`." if missing_tagger(name, host.tagger_roots()) else ""
        raise TaggerError(f"{error}{hint}") from error


def tagger_path(name: str, download: bool, progress: host.Progress) -> Path:
    """As `place_of`, after a download if it is asked for and needed."""
    missing = missing_tagger(name, host.tagger_roots()) if download and name != host.MINIATURE else None
    return download_tagger(missing, host.tagger_roots()[0], on_progress=progress.show) if missing else place_of(name)


def providers_used(model: Tagger) -> list[str]:
    """What it ran on, if it had to run: scores that were kept need no model."""
    return [f"{model.name} ran on {model.providers[0].removesuffix('ExecutionProvider')}"] if model.is_open else []


def limits_of(model: Tagger, chosen: Thresholds) -> Thresholds:
    """What its makers recommend, for the categories that are not left out in `chosen`; `chosen` where they say nothing."""
    own = own_thresholds(model.files)
    return chosen.or_own(own) if own else chosen


def score_images(
    models: Sequence[Tagger], limits: Sequence[Thresholds], paths: Sequence[Path], merging: Merging, batch_size: int, progress: host.Progress
) -> tuple[Labels, Iterator[ScoredImage]]:
    """The labels of one tagger or of two as one, and each picture's scores for them, which the first of `limits` judge.

    `limits`: from which score on each of the taggers takes a tag.
    """
    cache = host.cache_folder() / "tags"
    runs = [tag_images(model, paths, batch_size=batch_size, cache_folder=cache, on_progress=progress.show) for model in models]
    if len(models) == 1:
        return models[0].labels, (ScoredImage(one.scores, one.problem) for one in runs[0])
    merge = merge_labels(models[0].labels, models[1].labels)

    def merged() -> Iterator[ScoredImage]:
        for first, second in zip(*runs, strict=True):
            if first.scores is None or second.scores is None:
                yield ScoredImage(None, first.problem or second.problem)
            else:
                alike = on_scale_of(second.scores, models[1].labels, limits[1], limits[0])
                yield ScoredImage(merge.scores(first.scores, alike, merging), "")

    return merge.labels, merged()
