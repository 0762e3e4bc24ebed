"""What people read beside a setting."""

from __future__ import annotations

import dataclasses
import re

import pytest

from athanor.trainer import settings

SECTIONS = [getattr(settings, name) for name in settings.__all__ if name.endswith("Settings") and name != "Settings"]
WITHOUT = {"seed", "max_tokens", "num_beams"}
"""Any seed is as good as another; the other two tell what they cost."""


@pytest.mark.parametrize("section", SECTIONS)
def test_every_number_tells_what_is_usual(section):
    numbers = [item for item in dataclasses.fields(section) if item.metadata.get("minimum") is not None and item.name not in WITHOUT]
    silent = [
        item.name for item in numbers if not re.search(r"[Uu]sual|for example|suits|more carefully|\d to \d|paper's|made with", item.metadata["help"])
    ]
    assert silent == []


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_explained_in_whole_sentences(section):
    for item in dataclasses.fields(section):
        assert len(item.metadata["help"]) > 10 and item.metadata["help"].rstrip().endswith((".", "?")), item.name
