"""Whether pictures show what their captions say, by a tagger. The trainer knows none: the host looks at the worker's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..tagger.session import Tagger
from ..tagger.tags import match_key, split_tags
from ..tagger.thresholds import Thresholds
from ..trainer.config import ScoreJob
from ..trainer.scoring.measured import EpochValues, Measured, Values
from ..trainer.scoring.scoring import Scoring
from . import host
from .taggers import score_images, tagger_path

_BATCH = 4


def with_tag_recall(
    measured: Measured, scoring: Scoring, job: ScoreJob, tagger: str, threshold: float, progress: host.Progress
) -> tuple[Measured, list[str]]:
    """`measured` with the share of each caption's tags that the tagger finds in its pictures; notes for people.

    Only tags that the tagger knows count; captions without any are left out. With none at all there is a note instead.
    """
    model = Tagger(tagger_path(tagger, False, progress))
    try:
        rows = {match_key(name): i for i, name in enumerate(model.labels.names)}
        wanted = [tuple(dict.fromkeys(rows[key] for tag in split_tags(caption) if (key := match_key(tag)) in rows)) for caption in measured.captions]
        if not any(wanted):
            return measured, [f"tag recall: {model.name} knows no tag of the captions, so that it was not measured."]
        paths = [scoring.folder(job) / cell.file for cell in job.pictures.cells]
        _, scored = score_images([model], [Thresholds()], paths, "union", _BATCH, progress)
        found = [None if each.scores is None else each.scores >= threshold for each in scored]
    finally:
        model.keep()
    num_pictures = len(measured.captions) * job.num_seeds
    epochs = []
    for i, epoch in enumerate(measured.epochs):
        own = found[i * num_pictures : (i + 1) * num_pictures]
        shares = tuple(_recall(own[n * job.num_seeds : (n + 1) * job.num_seeds], tags) for n, tags in enumerate(wanted) if tags)
        epochs.append(_with(epoch, shares))
    left_out = sum(not tags for tags in wanted)
    notes = [f"tag recall: {left_out} captions have no tag that {model.name} knows."] if left_out else []
    return replace(measured, epochs=tuple(epochs)), notes


def _recall(pictures: Sequence, tags: Sequence[int]) -> float:
    """The mean share of `tags` that are found in the pictures of one caption; in one that cannot be read none is."""
    return sum(0.0 if found is None else sum(bool(found[tag]) for tag in tags) / len(tags) for found in pictures) / len(pictures)


def _with(epoch: EpochValues, shares: tuple[float, ...]) -> EpochValues:
    return replace(epoch, values=(*epoch.values, Values("tag recall", shares)))
