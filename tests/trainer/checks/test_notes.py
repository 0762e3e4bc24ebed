"""What is always set to something and does nothing in a job is told when it begins."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from athanor.trainer.adapters.check import adapter_problems
from athanor.trainer.checks.notes import unused_notes
from athanor.trainer.control import Control
from athanor.trainer.loop import train
from athanor.trainer.runs.run import open_run
from athanor.trainer.settings import AdapterSettings, RunSettings

NOTES = [
    ("lora", AdapterSettings(rank=2, alpha=1.0), []),
    ("embedding", AdapterSettings(), []),
    ("embedding", AdapterSettings(rank=2), ["The adapter's rank = 2 does nothing for an embedding, which has no adapter."]),
    ("checkpoint", AdapterSettings(kind="loha", alpha=1.0), ["The adapter's kind = loha and alpha = 1.0 do nothing for a whole model, which has no adapter."]),
    ("lora", AdapterSettings(kind="lokr", full_matrix=True), []),
    ("lora", AdapterSettings(kind="lokr", rank=4, full_matrix=True), ["The adapter's rank = 4 does nothing while full_matrix keeps LoKr's factors whole."]),
    ("lora", AdapterSettings(rank=4, start_file="a.safetensors"), ["The adapter's rank = 4 does nothing where training goes on from a LoRA, whose file decides them."]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "adapter", "notes"), NOTES)
def test_each_is_one_sentence(job, kind, adapter, notes):
    assert unused_notes(dataclasses.replace(job, kind=kind, adapter=adapter)) == notes


@pytest.mark.parametrize("name", ["decompose_both", "conv_alpha", "rank_stabilised"])
def test_whole_factors_refuse_what_is_for_split_ones(name):
    settings = AdapterSettings(kind="lokr", full_matrix=True, conv_rank=4)
    assert adapter_problems(settings) == []
    (problem,) = adapter_problems(dataclasses.replace(settings, **{name: 2.0 if name == "conv_alpha" else True}))
    assert problem.startswith(f"Adapter: {name} has no effect while full_matrix")


def test_the_run_tells_it(job, tmp_path: Path):
    told = dataclasses.replace(job, adapter=AdapterSettings(kind="lokr", rank=4, full_matrix=True), run=RunSettings(steps=1))
    run = open_run(tmp_path, told)
    train(run, Control())
    assert "The adapter's rank = 4 does nothing while full_matrix" in " ".join(e["message"] for e in run.events() if e["event"] == "warning")
