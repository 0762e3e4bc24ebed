"""Whether the scores rank epochs as people would: on the miniature, whose pictures a judge can read that knows no score."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "tools"))

from miniature import score_epochs

UNTRAINED, GOOD, OVERFITTED = 0, 200, 400


@pytest.mark.slow
def test_an_untrained_a_good_and_an_overfitted_epoch_are_ranked_right(thorough, tmp_path):
    shown = score_epochs.scored(score_epochs.trained(tmp_path), (GOOD, OVERFITTED))
    assert shown.right[UNTRAINED] < shown.right[OVERFITTED] < shown.right[GOOD] - 0.2, "to the judge"
    found = {each.measure.name: {score.epoch: score.mean for score in each.scores} for each in shown.scores}
    for name in ("likeness", "tag recall"):
        assert found[name][UNTRAINED] < found[name][OVERFITTED] < found[name][GOOD], name
    losses, copying = found["validation loss"], found["copying"]
    assert losses[GOOD] < losses[OVERFITTED] < losses[UNTRAINED] and copying[UNTRAINED] < copying[GOOD] < copying[OVERFITTED]
    verdicts = {each.measure.name: each for each in shown.scores}
    assert all(verdicts[name].best == GOOD and verdicts[name].beats_base for name in ("likeness", "tag recall", "validation loss"))
