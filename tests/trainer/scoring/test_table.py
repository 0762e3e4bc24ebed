from __future__ import annotations

import csv
import dataclasses
import json
import random

import pytest
from PIL import ImageChops

from athanor.trainer.drawing.palette import DARK, LIGHT
from athanor.trainer.errors import AthanorError
from athanor.trainer.runs.events import EventLog
from athanor.trainer.runs.promote import pick_epochs
from athanor.trainer.runs.run import Run
from athanor.trainer.scoring.files import best_by, write_scores
from athanor.trainer.scoring.measured import EpochValues, Measured, Values, read_measured, write_measured
from athanor.trainer.scoring.plot import scores_plot
from athanor.trainer.scoring.table import MeasureScores, judge, table_text

NUM_IMAGES = 12


def around(mean: float, seed: int, spread=0.02, num=NUM_IMAGES) -> tuple[float, ...]:
    draw = random.Random(seed)
    return tuple(mean + draw.gauss(0, spread) for _ in range(num))


def measured(losses: dict[int, float], likeness: dict[int, float], num=NUM_IMAGES, spread=0.02) -> Measured:
    epochs = tuple(
        EpochValues(
            number,
            (
                Values("validation loss", around(losses[number], number, spread, num)),
                Values("likeness", around(likeness[number], number + 50, spread, num)),
                Values("copying", around(0.4 + number / 100, number + 99, spread, num)),
            ),
            (("layer 1", 0.1 * number), ("layer 2", 0.3 * number)) if number else (),
        )
        for number in losses
    )
    return Measured(epochs, tuple(f"caption {i}" for i in range(num)), tuple(f"/pictures/{i}.png" for i in range(num)), 2, "", 0.55)


CLEAR = measured({0: 1.0, 5: 0.5, 10: 0.7}, {0: 0.2, 5: 0.6, 10: 0.605})


def by_name(scores: tuple[MeasureScores, ...]) -> dict[str, MeasureScores]:
    return {each.measure.name: each for each in scores}


def test_a_clear_winner_is_told_beside_the_base():
    loss = by_name(judge(CLEAR))["validation loss"]
    assert (loss.best, loss.alike, loss.is_decisive, loss.beats_base) == (5, (), True, True)
    base, five, _ = loss.scores
    assert base.difference is None and five.difference == pytest.approx(five.mean - base.mean)
    assert five.interval.low < five.mean < five.interval.high and five.difference_interval.high < -0.4
    assert loss.verdict() == "epoch 5 is the best"


def test_no_winner_is_an_answer():
    likeness = by_name(judge(CLEAR))["likeness"]
    assert not likeness.is_decisive and likeness.alike and likeness.best in (5, 10)
    assert likeness.verdict("step").startswith("no decisive winner: step ") and "not told from" in likeness.verdict()


def test_an_epoch_that_is_no_better_than_the_base_is_told():
    scores = by_name(judge(measured({0: 0.5, 5: 0.499, 10: 0.9}, {0: 0.6, 5: 0.4, 10: 0.3})))
    assert scores["validation loss"].best == 5 and scores["validation loss"].beats_base is False
    assert scores["likeness"].best == 5 and scores["likeness"].verdict() == "epoch 5 is the best, but not told from the base alone"


def test_what_warns_does_not_choose():
    scores = by_name(judge(CLEAR))
    assert scores["copying"].best is None and scores["copying"].verdict() == "" and not scores["copying"].is_decisive
    assert [score.mean for score in scores["weight norm"].scores] == pytest.approx([1.0, 2.0])
    assert "caption likeness" not in scores and "diversity" not in scores, "what was not measured is not there"


def test_too_few_images_give_numbers_without_a_verdict():
    loss = by_name(judge(measured({0: 1.0, 5: 0.5}, {0: 0.1, 5: 0.2}, num=2)))["validation loss"]
    assert loss.scores[1].interval is None and not loss.is_decisive and loss.verdict().startswith("too few held-out images (2) to tell")


def test_the_table_names_everything():
    text = table_text(judge(CLEAR), "epoch", CLEAR, ["a note."])
    head, _, base, five, *rest = text.splitlines()
    assert head == "| epoch | validation loss | likeness | copying | weight norm |" and base.startswith("| base alone |") and five.startswith("| 5 |")
    assert five.count(" *") >= 1 and "validation loss: epoch 5 is the best." in rest and "likeness: no decisive winner" in text
    assert "the held-out images themselves have 0.550" in text and "the largest of epoch 10 is 3, of layer 2" in text and rest[-1] == "a note."
    few = measured({0: 1.0, 5: 0.5}, {0: 0.1, 5: 0.2}, num=4)
    assert "Only 4 held-out images" in table_text(judge(few), "epoch", few)


def test_what_was_measured_is_read_as_it_was_written(tmp_path):
    write_measured(tmp_path, CLEAR)
    assert read_measured(tmp_path) == CLEAR
    (tmp_path / "measured.json").write_text("{", encoding="utf-8")
    with pytest.raises(AthanorError, match="cannot be read"):
        read_measured(tmp_path)


@pytest.fixture
def run(tmp_path, job) -> Run:
    from athanor.trainer.runs.run import open_run

    run = open_run(tmp_path, job)
    log = EventLog(run.folder)
    (run.folder / "epochs").mkdir()
    for number in (5, 10):
        (run.folder / "epochs" / f"{number}.safetensors").write_bytes(b"x")
        log.write("saved", {"epoch": number, "step": number, "file": f"epochs/{number}.safetensors", "sha256": f"hash {number}"})
    return run


def test_scores_lie_in_the_run_and_choose_the_epoch_to_save(run):
    with pytest.raises(AthanorError, match="has no scores yet; put Score Epochs before"):
        pick_epochs(run, "best by likeness")
    scores = judge(CLEAR)
    write_scores(run, scores, CLEAR, run.folder / "scores" / "abc")
    assert pick_epochs(run, "best by validation loss")[0].number == 5
    assert [epoch.number for epoch in pick_epochs(run, " Best  by LIKENESS ")] == [by_name(scores)["likeness"].best]
    assert best_by(run, "validation_loss").number == 5
    data = json.loads((run.folder / "scores" / "scores.json").read_text(encoding="utf-8"))
    assert data["likeness_by"] == "shapes and colours" and data["layers"]["10"] == {"layer 1": 1.0, "layer 2": 3.0}
    assert data["measures"][0]["is_decisive"] and len(data["per_image"]["5"]["likeness"]) == NUM_IMAGES
    with (run.folder / "scores" / "scores.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 3 + 2 and {row["measure"] for row in rows} == {"validation loss", "likeness", "copying", "weight norm"}
    assert [row["epoch"] for row in rows if row["best"] == "1" and row["measure"] == "validation loss"] == ["5"]


def test_a_score_that_cannot_choose_says_why(run):
    write_scores(run, judge(CLEAR), CLEAR, run.folder / "scores" / "abc")
    for which, said in (
        ("best by copying", "tells what an epoch costs, not which is good; choose the best by one of validation loss, likeness"),
        ("best by beauty", "There is no score 'beauty'"),
        ("best by tag recall", "was scored without tag recall; there are validation loss, likeness"),
    ):
        with pytest.raises(AthanorError, match=said):
            pick_epochs(run, which)
    EventLog(run.folder).write("saved", {"epoch": 5, "step": 5, "file": "epochs/5.safetensors", "sha256": "another"})
    with pytest.raises(AthanorError, match="is another file by now or gone"):
        pick_epochs(run, "best by validation loss")


@pytest.mark.parametrize("theme", [DARK, LIGHT])
def test_the_curves_are_drawn_with_band_base_and_best(theme):
    def num_near(picture, colour) -> int:
        bands = [band.point([255 * (abs(level - c) <= 16) for level in range(256)]) for band, c in zip(picture.split(), colour, strict=True)]
        return ImageChops.multiply(ImageChops.multiply(bands[0], bands[1]), bands[2]).histogram()[255]

    scores = judge(CLEAR)
    picture = scores_plot(scores, CLEAR, "run", theme=theme)
    assert picture.mode == "RGB" and num_near(picture, theme.series[0]) > 100 and num_near(picture, theme.series[6]) > 60
    assert num_near(picture, theme.series[1]) > 20, "the held-out images' own copying"
    one = dataclasses.replace(CLEAR, epochs=CLEAR.epochs[:2])
    assert scores_plot(judge(one), one, "run", theme=theme).size[0] > 600


def test_an_interval_ends_where_the_score_does():
    """Of shares that are nearly all 1, an interval that is widened for few pictures reaches beyond."""
    nearly = (1.0, 1.0, 1.0, 0.5)
    found = by_name(judge(Measured((EpochValues(5, (Values("tag recall", nearly),)),), ("c",) * 4, ("p",) * 4, 1, "", None)))
    interval = found["tag recall"].scores[0].interval
    assert interval is not None and interval.low < 0.875 < interval.high == 1.0
