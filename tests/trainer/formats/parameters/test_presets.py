"""The pack's own files of settings: each can be read, gives a reason, and is a job that passes every check."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from athanor.trainer.adapters.check import adapter_problems
from athanor.trainer.checks.effects import effect_problems
from athanor.trainer.checks.engine import engine_problems
from athanor.trainer.checks.validate import check_train_job
from athanor.trainer.formats.parameters import read_parameters
from athanor.trainer.settings import Settings

PRESETS = sorted((Path(__file__).resolve().parents[4] / "trainer" / "presets").glob("*.toml"))
FAMILIES = ("sd15", "sd2", "sdxl", "sd35", "flux")


def test_there_is_one_for_each_subject_and_memory_of_each_family():
    wanted = {f"{family} {kind}" for family in FAMILIES for kind in ("character", "style", "concept", "memory 08 GB", "memory 12 GB", "memory 24 GB")}
    assert {path.stem for path in PRESETS} == wanted


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_tells_why_and_its_settings_belong_together(path, job):
    imported = read_parameters(path)
    assert len(imported.why) > 40 and imported.why in imported.report() and imported.program == "A preset"
    given = Settings(train=job.train, adapter=job.adapter)
    settings = imported.applied_to(given)
    assert settings != dataclasses.replace(given, from_file=settings.from_file)
    check_train_job(
        dataclasses.replace(
            job,
            adapter=settings.adapter,
            train=settings.train,
            optimizer=settings.optimizer,
            captions=settings.captions,
            performance=settings.performance,
            objective=settings.objective if path.stem.startswith(("sd15", "sd2")) else job.objective,
        )
    )


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_holds_nothing_that_its_own_family_would_refuse(path, job):
    name = path.stem.split()[0]
    base = dataclasses.replace(job.base, family=name, prediction="flow" if name in ("sd35", "flux") else "epsilon")
    settings = read_parameters(path).applied_to(Settings())
    sections = {
        section: getattr(settings, section) for section in ("adapter", "train", "optimizer", "schedule", "captions", "objective", "run", "data")
    }
    given = dataclasses.replace(job, base=base, **sections)
    assert not [*effect_problems(given), *engine_problems(given), *adapter_problems(given.adapter)]
