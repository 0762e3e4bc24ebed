from __future__ import annotations

import dataclasses
import json

import pytest

from athanor.trainer.config import TrainJob, from_json, read_job, to_json, write_job
from athanor.trainer.errors import AthanorError
from athanor.trainer.settings import TrainSettings, range_problems
from athanor.trainer.types import BaseModel, Dataset, Placement, Sample

JOB = TrainJob(
    "名前 one",
    BaseModel("b", "sd15", "/x/b", "f", 512, 64, ("/t",)),
    Dataset(
        (Sample("/x/1.png", 10, 20, "5-6", "a, b", placement=Placement((64, 64), (64, 128), (0, 32))), Sample("/x/2.png", 1, 2, "7-8")),
        "tr",
        ("note",),
    ),
)


def test_a_job_survives_its_file(tmp_path):
    write_job(tmp_path / "job.json", JOB)
    assert read_job(tmp_path / "job.json") == JOB


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 1}, "job.train has the unknown setting 'lr'; known are: epochs"),
        ({"epochs": 1.5}, "job.train.epochs must be of type int, not 1.5"),
        ({"epochs": True}, "job.train.epochs must be of type int, not True"),
        ({"rate": "1e-4"}, "job.train.rate must be of type float, not '1e-4'"),
    ],
)
def test_what_does_not_belong_into_a_job_is_named(change, message):
    data = to_json(JOB)
    data["train"] |= change
    with pytest.raises(AthanorError, match=message):
        from_json(TrainJob, data)


def test_a_missing_field_and_a_wrong_kind_are_named():
    data = to_json(JOB)
    del data["base"]["family"]
    with pytest.raises(AthanorError, match=r"job\.base lacks 'family'"):
        from_json(TrainJob, data)
    with pytest.raises(AthanorError, match=r"job\.kind is 'hypernetwork'"):
        from_json(TrainJob, {**to_json(JOB), "kind": "hypernetwork"})


def test_a_file_of_another_format_is_refused(tmp_path):
    for text in ("{", "[]", json.dumps({"format": 99})):
        (tmp_path / "job.json").write_text(text, encoding="utf-8")
        with pytest.raises(AthanorError, match=r"job\.json"):
            read_job(tmp_path / "job.json")


def test_every_value_out_of_range_gets_a_sentence_with_its_limits():
    settings = dataclasses.replace(TrainSettings(), epochs=0, precision="fp8", rate=float("nan"))
    problems = range_problems(settings, "Training")
    assert problems == (
        "Training: epochs is 0; it must be from 1 to 100000.",
        "Training: rate is nan; it must be from 0.0 to 10.0.",
        "Training: precision is 'fp8'; choose one of bf16, fp16, fp32.",
    )
    assert range_problems(TrainSettings(), "Training") == ()
