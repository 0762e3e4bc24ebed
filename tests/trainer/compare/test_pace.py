from __future__ import annotations

import pytest

from athanor.trainer.compare.pace import duration, known_pace, pace_of_training, progress_text, remember_pace
from athanor.trainer.control import Control
from athanor.trainer.loop import train
from athanor.trainer.runs.run import Run, open_run


def test_what_pictures_took_is_known_again_by_model_and_size(tmp_path):
    assert known_pace(tmp_path, "m", (64, 64)) is None
    remember_pace(tmp_path, "m", (64, 64), 0.5)
    remember_pace(tmp_path, "m", (256, 256), 3.0)
    remember_pace(tmp_path, "other", (64, 64), 9.0)
    known = known_pace(tmp_path, "m", (64, 64))
    assert known is not None and known.sec_per_step == 0.5 and known.told(40) == "about 20 s"
    near = known_pace(tmp_path, "m", (64, 128))
    assert near is not None and near.sec_per_step == pytest.approx(1.0) and near.told(20) == "roughly 20 s", "by the number of pixels"


def test_a_broken_file_or_one_that_cannot_be_written_is_no_problem(tmp_path):
    (tmp_path / "pace.json").write_text("{", encoding="utf-8")
    assert known_pace(tmp_path, "m", (64, 64)) is None
    (tmp_path / "file").write_text("", encoding="utf-8")
    remember_pace(tmp_path / "file", "m", (64, 64), 1.0)


def test_only_so_many_models_are_kept(tmp_path):
    for number in range(60):
        remember_pace(tmp_path, f"m{number}", (64, 64), 1.0)
    assert known_pace(tmp_path, "m0", (64, 64)) is None and known_pace(tmp_path, "m59", (64, 64)) is not None


def test_without_pictures_the_training_tells_roughly(tmp_path, job):
    run = open_run(tmp_path, job)
    assert pace_of_training(run, (32, 32), True) is None
    train(run, Control())
    guided, bare = pace_of_training(run, (32, 32), True), pace_of_training(run, (32, 32), False)
    assert guided is not None and bare is not None and guided.is_rough and guided.sec_per_step == pytest.approx(2 * bare.sec_per_step)
    larger = pace_of_training(run, (64, 32), True)
    assert larger is not None and larger.sec_per_step == pytest.approx(2 * guided.sec_per_step)
    assert pace_of_training(Run(tmp_path / "nothing"), (32, 32), True) is None


def test_times_are_told_as_people_say_them():
    assert [duration(sec) for sec in (0.2, 42, 240, 9000)] == ["1 s", "42 s", "4 min", "2.5 h"]
    assert progress_text(0, 10, 0, 0.0) == "0 of 10 pictures"
    assert progress_text(4, 10, 2, 100.0) == "4 of 10 pictures, about 5 min left"
    assert progress_text(10, 10, 2, 100.0) == "10 of 10 pictures"
