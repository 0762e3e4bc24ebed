"""What a page is told of a run: thinned without losing a peak, and after the first time only what is new."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from athanor.trainer.drawing.loss_plot import smoothed
from athanor.trainer.runs.history import MAX_POINTS, History


def start(step: int, total: int, per_epoch: int = 10) -> dict[str, Any]:
    return {
        "event": "start",
        "time": 1000.0 + step,
        "step": step,
        "total_steps": total,
        "steps_per_epoch": per_epoch,
        "total_epochs": total // per_epoch,
    }


def steps(losses: list[float], first: int = 1, seconds: float = 0.5) -> list[dict[str, Any]]:
    return [
        {"event": "step", "time": 1000.0 + n, "step": n, "epoch": (n - 1) // 10 + 1, "loss": loss, "rates": {"denoiser": 1e-4}, "seconds": seconds}
        for n, loss in enumerate(losses, first)
    ]


def losses_of(count: int) -> list[float]:
    chance = random.Random(2)
    return [0.2 + 0.1 * chance.random() for _ in range(count)]


class Reader:
    """What the page does with the answers."""

    def __init__(self, history: History):
        self.history, self.cursor = history, ""
        self.low: list[float | None] = []
        self.high: list[float | None] = []
        self.smooth: list[float | None] = []
        self.rate: list[float | None] = []
        self.marks: dict[str, Any] = {}

    def ask(self) -> dict[str, Any]:
        answer = json.loads(json.dumps(self.history.told(self.cursor), allow_nan=False))
        curve = answer["curve"]
        for name in ("low", "high", "smooth", "rate"):
            setattr(self, name, getattr(self, name)[: curve["from"]] + curve[name])
        self.marks = answer.get("marks", self.marks)
        self.cursor = answer["cursor"]
        return answer


def test_fifty_thousand_steps_become_a_thousand_columns_that_keep_every_peak():
    losses = losses_of(50_000)
    losses[12_345], losses[40_000] = 9.0, 0.001
    history = History(1)
    history.follow([start(0, 50_000), *steps(losses)])
    curve = history.told()["curve"]
    assert 500 < len(curve["low"]) <= MAX_POINTS and len(curve["low"]) == len(curve["high"]) == len(curve["smooth"])
    assert max(curve["high"]) == 9.0 and min(curve["low"]) == 0.001
    stride = curve["stride"]
    assert curve["high"].index(9.0) == 12_345 // stride and curve["low"].index(0.001) == 40_000 // stride
    for i in (0, 7, len(curve["low"]) - 1):
        part = losses[i * stride : (i + 1) * stride]
        assert (curve["low"][i], curve["high"][i]) == (min(part), max(part))
    whole = smoothed(losses)
    assert curve["smooth"][-1] == pytest.approx(whole[-1]) and curve["smooth"][3] == pytest.approx(whole[4 * stride - 1])


def test_short_runs_keep_every_step():
    history, losses = History(1), losses_of(30)
    history.follow([start(0, 30), *steps(losses)])
    curve = history.told()["curve"]
    assert curve["stride"] == 1 and curve["low"] == curve["high"] == losses
    assert curve["smooth"] == pytest.approx(smoothed(losses))


def test_the_rate_as_it_truly_was_is_told_by_columns_and_kept_through_a_resume():
    history, rates = History(1), [1e-6 * n for n in range(1, 31)]
    events = [{**event, "rates": {"denoiser": rate, "text_encoder": rate / 2}} for event, rate in zip(steps(losses_of(30)), rates, strict=True)]
    history.follow([start(0, 30), *events[:20]])
    assert history.told()["curve"]["rate"] == rates[:20]
    history.follow([start(15, 30), {**events[15], "rates": {"denoiser": float("nan")}}, *events[16:]])
    assert history.told()["curve"]["rate"] == [*rates[:15], None, *rates[16:]]


@pytest.mark.parametrize("total", [40, 5000])
def test_a_reader_with_a_cursor_is_told_little_and_knows_all(total):
    events = [start(0, total), {"event": "validation", "step": 0, "epoch": 0, "loss": 0.3}]
    for event in steps(losses_of(total)):
        events.append(event)
        if event["step"] % 10 == 0:
            epoch = event["step"] // 10
            events.append({"event": "saved", "step": event["step"], "epoch": epoch, "file": f"epochs/{epoch}.safetensors", "sha256": ""})
    history, chance = History(1), random.Random(4)
    reader, at, sizes = Reader(history), 0, []
    while at < len(events):
        more = chance.randrange(1, 12)
        history.follow(events[at : at + more])
        at += more
        sizes.append(len(reader.ask()["curve"]["low"]))
    fresh = Reader(history)
    fresh.ask()
    assert (reader.low, reader.high, reader.smooth, reader.marks) == (fresh.low, fresh.high, fresh.smooth, fresh.marks)
    assert max(sizes) <= 13, "an answer holds only what is new"
    quiet = reader.ask()
    assert "marks" not in quiet and len(quiet["curve"]["low"]) <= 1


def test_a_resume_takes_back_what_came_after_its_step():
    history, first, second = History(1), losses_of(25), [0.5] * 15
    history.follow([start(0, 30), *steps(first)])
    sample = {"event": "sample", "epoch": 2, "step": 20, "file": "samples/a.png", "prompt": "p", "seed": 1, "time": 5}
    history.follow([sample, {"event": "validation", "step": 20, "epoch": 2, "loss": 0.2}, {"event": "error", "message": "gone"}])
    reader = Reader(history)
    assert reader.ask()["now"]["state"] == "failed"
    history.follow([start(15, 30), *steps(second, first=16)])
    answer = reader.ask()
    assert reader.low == [*first[:15], *second] and answer["now"]["state"] == "training"
    assert answer["curve"]["from"] == 0
    assert reader.marks["validation"] == reader.marks["samples"] == [] and history.sample_files == []
    assert reader.smooth[-1] == pytest.approx(smoothed([*first[:15], *second])[-1])


def test_a_resume_at_the_last_step_changes_nothing_before_it():
    history, losses = History(1), losses_of(20)
    history.follow([start(0, 30), *steps(losses), {"event": "done", "step": 20, "stopped": True, "peak_mib": 900.0}])
    reader = Reader(history)
    reader.ask()
    history.follow([start(20, 30), *steps([0.4], first=21)])
    assert reader.ask()["curve"]["from"] > 0 and reader.low == [*losses, 0.4]


def test_steps_whose_events_a_power_cut_took_are_a_gap_and_the_curve_goes_on():
    history, reader = History(7), Reader(History(7))
    reader.history = history
    history.follow([start(0, 40), *steps([0.5] * 10)])
    reader.ask()
    history.follow([start(20, 40), *steps([0.4] * 5, first=21)])
    assert reader.ask()["now"]["step"] == 25
    assert reader.low == [0.5] * 10 + [None] * 10 + [0.4] * 5


def test_a_clock_that_is_set_back_leaves_the_remaining_time_whole():
    history, told = History(7), steps([0.5] * 60, seconds=1.0)
    history.follow([start(0, 100), *told[:30], *({**each, "time": each["time"] - 3600} for each in told[30:])])
    assert history.told()["now"]["remaining_sec"] == 40.0


def test_what_is_measured_saved_and_drawn_again_at_the_same_step_is_there_once():
    """A worker that was killed before its first state begins anew, and one whose last epoch's file is gone ends anew."""

    def point(step: int, epoch: int) -> list[dict[str, Any]]:
        sample = {"event": "sample", "epoch": epoch, "step": step, "file": f"samples/e{epoch}.png", "prompt": "p", "seed": 1, "time": 5}
        return [{"event": "validation", "step": step, "epoch": epoch, "loss": 0.3}, sample]

    saved = {"event": "saved", "step": 20, "epoch": 2, "file": "epochs/2.safetensors", "sha256": ""}
    history, losses = History(1), losses_of(20)
    reader = Reader(history)
    history.follow([start(0, 20), *point(0, 0), *steps(losses[:3])])
    reader.ask()
    history.follow([start(0, 20), *point(0, 0), *steps(losses), saved, *point(20, 2)])
    reader.ask()
    history.follow([start(20, 20), saved, *point(20, 2)])
    reader.ask()
    assert reader.marks["validation"] == [[0, 0.3], [20, 0.3]] and reader.marks["saved"] == [[20, 2]]
    assert history.sample_files == ["samples/e0.png", "samples/e2.png"] and reader.low == losses


def test_states_numbers_and_remaining_time():
    history = History(1)
    assert history.told()["now"]["state"] == "waiting"
    history.follow([{"event": "phase", "name": "latents", "done": 3, "total": 9, "time": 1}])
    assert history.told()["now"]["phase"] == {"name": "latents", "done": 3, "total": 9}
    history.follow([start(0, 100), *steps(losses_of(5), seconds=2.0), {"event": "memory", "step": 1, "ram_mib": 512.0, "gpu_mib": 6000.0}])
    now = history.told()["now"]
    assert (now["state"], now["step"], now["epoch"], now["phase"]) == ("training", 5, 1, None)
    assert now["seconds_a_step"] == 2.0 and now["remaining_sec"] == 95 * 2.0, "at first by the steps alone"
    assert now["rates"] == {"denoiser": 1e-4} and (now["ram_mib"], now["gpu_mib"]) == (512.0, 6000.0)
    history.follow(steps(losses_of(40), first=6, seconds=0.2))
    assert history.told()["now"]["remaining_sec"] == pytest.approx(55.0), "later by the clock: a step ends each second"
    history.follow([{"event": "warning", "message": "one"}, {"event": "warning", "message": "two"}, {"event": "warning", "message": "one"}])
    assert history.told()["marks"]["warnings"] == ["two", "one"]
    history.follow([{"event": "done", "step": 45, "stopped": True, "peak_mib": 700.0, "time": 2000}])
    now = history.told()["now"]
    assert (now["state"], now["remaining_sec"], now["ram_mib"], now["gpu_mib"]) == ("stopped", None, 700.0, 6000.0)
    assert history.has_ended and history.last_time == 2000


def test_no_number_leaves_a_gap_and_broken_events_are_passed_over():
    history = History(1)
    history.follow([start(0, 10), *steps([0.1, math.nan, 0.3, math.inf])])
    history.follow([{"event": "step", "step": "x"}, {"event": "saved"}, {"event": "validation", "step": 1, "loss": math.nan}, {"event": "unknown"}])
    history.follow(steps([0.9], first=9))
    reader = Reader(history)
    reader.ask()
    assert reader.low == [0.1, None, 0.3, None] and reader.smooth[-1] == pytest.approx(smoothed([0.1, math.nan, 0.3, math.inf])[-1])
    assert reader.marks["validation"] == [] and reader.marks["saved"] == []


@pytest.mark.parametrize("cursor", ["nonsense", "1.1.1", "1.-1.0.0", "9" * 30 + ".1.1.1", "1.1.999999.5", "²." * 4])
def test_a_wrong_cursor_is_no_cursor(cursor):
    history = History(1)
    history.follow([start(0, 10), *steps([0.1, 0.2])])
    answer = history.told(cursor)
    assert answer["curve"]["from"] in (0, 2) and answer["now"]["step"] == 2 and "marks" in answer


def test_another_generation_is_told_everything():
    one, other = History(1), History(2)
    for history in (one, other):
        history.follow([start(0, 10), *steps([0.1, 0.2])])
    assert other.told(one.told()["cursor"])["curve"]["from"] == 0
