from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from athanor.trainer.compare.kinds import Choices, RunEpochs
from athanor.trainer.compare.recipe import Recipe
from athanor.trainer.compare.sheet import AxisText, Sheet, plan_sheet
from athanor.trainer.compare.sheet_file import read_sheet, sheet_id, sheet_path, write_sheet
from athanor.trainer.errors import AthanorError


@pytest.fixture
def sheet(tmp_path: Path) -> Sheet:
    choices = Choices({"运行": RunEpochs((1, 2, 3), 2)}, (), (), (), "a cat")
    axes = (AxisText("strength", "0.5, 1"), AxisText("epoch", "all"), AxisText("seed", "1, 2"))
    base = Recipe(run="运行", epoch=2, prompt="a cat")
    return plan_sheet(tmp_path, base, axes, ("a cat",), True, choices, {("运行", number): str(number) for number in (1, 2)})


def test_a_sheet_comes_back_as_it_was_written(sheet: Sheet, tmp_path: Path):
    failed = {sheet.files[sheet.recipes[1]]: "out of memory", "cells/of another arrangement.png": "?"}
    path = write_sheet(sheet, failed)
    assert path == sheet_path(tmp_path, sheet_id(sheet))
    back, told = read_sheet(tmp_path, path.stem)
    assert back == sheet and list(back.files) == list(sheet.files)
    assert told == {sheet.files[sheet.recipes[1]]: "out of memory"}
    assert None in back.cells.values(), "epoch 3 was not saved"


def test_another_arrangement_of_the_same_pictures_has_a_file_of_its_own(sheet: Sheet):
    turned = dataclasses.replace(
        sheet, columns=sheet.rows, rows=sheet.columns, cells={(p, c, r): recipe for (p, r, c), recipe in sheet.cells.items()}
    )
    assert write_sheet(turned, {}) != write_sheet(sheet, {})
    assert write_sheet(sheet, {}) == write_sheet(sheet, {sheet.files[sheet.recipes[0]]: "failed"}), "a failure is no other arrangement"


@pytest.mark.parametrize("name", ["", "..", "../../job", "A" * 12, "a" * 13, "0123456789a/", "\x00" * 12])
def test_a_sheet_is_named_by_its_id_only(tmp_path: Path, name: str):
    with pytest.raises(AthanorError, match="names no comparison"):
        read_sheet(tmp_path, name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cells", []),
        ("cells", [[[99] * 2] * 4] * 2),
        ("cells", [[["0"] * 2] * 4] * 2),
        ("rows", "four"),
        ("pictures", [{"file": "x"}]),
        ("pictures", 7),
        ("failed", []),
    ],
)
def test_what_is_not_whole_is_told(sheet: Sheet, tmp_path: Path, key: str, value: object):
    path = write_sheet(sheet, {})
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), key: value}), encoding="utf-8")
    with pytest.raises(AthanorError):
        read_sheet(tmp_path, path.stem)


def test_a_file_that_is_gone_or_cut_is_told(sheet: Sheet, tmp_path: Path):
    path = write_sheet(sheet, {})
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(AthanorError, match="cannot be read as a comparison"):
        read_sheet(tmp_path, path.stem)
    path.unlink()
    with pytest.raises(AthanorError, match="cannot be read as a comparison"):
        read_sheet(tmp_path, path.stem)
