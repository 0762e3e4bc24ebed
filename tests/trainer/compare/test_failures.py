"""Cells that fail: they are told, and the others are drawn."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from athanor.trainer.compare import draw
from athanor.trainer.config import CompareJob, SheetCell
from athanor.trainer.control import Control
from athanor.trainer.errors import AthanorError
from athanor.trainer.runs.run import Run, write_job_file
from athanor.trainer.types import BaseModel

BASE = BaseModel("base", "sd15", "", "", 512, 64)


class SmallPainter:
    """Memory for one picture at a time, and a seed that it cannot draw at all."""

    autocast = contextlib.nullcontext()
    loaded: tuple[SheetCell, ...] = ()
    notes = ("seen",)

    def __init__(self, *_):
        pass

    def load(self, cells):
        SmallPainter.loaded = tuple(cells)

    def paint(self, cells):
        if len(cells) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if cells[0].seed == 3:
            raise KeyError("a weight")
        return [Image.new("RGB", (8, 8))]


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A function that makes a comparison of seeds and files, and draws it."""
    monkeypatch.setattr(draw, "Painter", SmallPainter)
    monkeypatch.setattr(draw, "check_compare_job", lambda _: None)

    def make(*cells: SheetCell) -> Run:
        folder = tmp_path / "run" / "compare" / "sheet"
        write_job_file(folder, CompareJob(BASE, cells, 64, 64, "fp32"))
        draw.draw_cells(Run(folder), Control())
        return Run(folder)

    return make


def cell(seed: int, file: str = "") -> SheetCell:
    return SheetCell(f"cells/{seed}.png", file, 1.0, 1.0, "a cat, sitting", "no", seed, 3, 4.0, "base, LoRA: x at 1")


def failed(run: Run) -> dict[str, str]:
    return {event["file"]: event["message"] for event in run.events() if event["event"] == "cell_failed"}


def test_pictures_that_do_not_fit_into_memory_together_are_drawn_one_by_one(planned):
    run = planned(*map(cell, range(6)))
    assert failed(run) == {"cells/3.png": "'a weight'"}
    assert {path.stem for path in (run.folder / "cells").iterdir()} == set("01245")


def test_a_damaged_file_fails_by_itself_and_is_not_loaded_with_the_others(planned, tmp_path):
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    save_file({"x": torch.zeros(2)}, whole)
    broken.write_bytes(whole.read_bytes()[:-4])
    run = planned(cell(0), cell(1, str(whole)), cell(2, str(broken)))
    assert list(failed(run)) == ["cells/2.png"] and "not a whole safetensors file" in failed(run)["cells/2.png"]
    assert [each.seed for each in SmallPainter.loaded] == [0, 1]
    with pytest.raises(AthanorError, match="not a whole safetensors file"):
        planned(cell(5, str(broken)))


def test_parameters_are_those_that_a1111_reads(planned):
    run = planned(cell(0))
    with Image.open(run.folder / "cells" / "0.png") as picture:
        prompt, negative, facts = picture.text["parameters"].split("\n")
    assert (prompt, negative) == ("a cat, sitting", "Negative prompt: no")
    assert facts == 'Steps: 3, Sampler: DDIM, CFG scale: 4.0, Seed: 0, Size: 8x8, Model: "base, LoRA: x at 1"', "what holds its separators is quoted"
    assert json.loads(facts.partition("Model: ")[2]) == "base, LoRA: x at 1"
    flux = dataclasses.replace(BASE, family="flux", variant="dev")
    assert draw.named_sampling(flux, 3.5) == ("Euler, Distilled CFG Scale: 3.5", 1.0), "as Forge writes it"
    assert draw.named_sampling(dataclasses.replace(BASE, family="sd35"), 4.5) == ("Euler", 4.5)
