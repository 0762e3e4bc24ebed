"""Whether the scores rank epochs as people would: on the miniature, whose pictures a judge can read that knows no score."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "tools"))

from miniature import score_epochs

EARLY, GOOD, OVERTRAINED = 50, 200, 300


@pytest.mark.slow
def test_an_untrained_a_good_and_an_overtrained_epoch_are_ranked_right(thorough, tmp_path):
    run = score_epochs.trained(tmp_path)
    shown = score_epochs.scored(run, (EARLY, GOOD, OVERTRAINED))
    assert max(shown.right[0], shown.right[EARLY]) < shown.right[OVERTRAINED] < shown.right[GOOD], "to the judge"
    found = {each.measure.name: {score.epoch: score.mean for score in each.scores} for each in shown.scores}
    likeness, losses, diversity = found["likeness"], found["validation loss"], found["diversity"]
    assert likeness[0] < likeness[EARLY] < likeness[OVERTRAINED] < likeness[GOOD]
    assert losses[GOOD] < losses[OVERTRAINED] < losses[0]
    assert found["tag recall"][GOOD] >= found["tag recall"][EARLY] and diversity[OVERTRAINED] < diversity[GOOD] < diversity[0]
    scores = next(each for each in shown.scores if each.measure.name == "likeness")
    assert scores.best == GOOD and scores.beats_base, "better than the base alone, surely"
