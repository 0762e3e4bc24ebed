from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from athanor.trainer.compare.kinds import AXES, Choices, RunEpochs
from athanor.trainer.compare.recipe import Recipe
from athanor.trainer.compare.sheet import AxisText, Sheet, plan_sheet
from athanor.trainer.errors import AthanorError, InvalidJobError

ONE_RUN = Choices({"r": RunEpochs((1, 2, 3), 2)}, ("other.safetensors",), ("euler", "ddim"), ("normal",), "a cat, sitting\nbad")
TWO_RUNS = dataclasses.replace(ONE_RUN, runs={"r": RunEpochs((1, 2, 3), 2), "s": RunEpochs((2, 4), None)})
BASE = Recipe(run="r", epoch=2, prompt="a cat, sitting", negative_prompt="bad")
NONE = AxisText("none")


def plan(x: AxisText = NONE, y: AxisText = NONE, z: AxisText = NONE, prompts=("a cat, sitting",), baseline=False, choices=ONE_RUN) -> Sheet:
    hashes = {(name, number): f"{name}{number}" for name, run in choices.runs.items() for number in run.numbers}
    return plan_sheet(Path("sheet"), BASE, (x, y, z), prompts, baseline, choices, hashes)


def test_epochs_against_strengths_beside_the_base_alone():
    sheet = plan(AxisText("strength", "0.5, 1"), AxisText("epoch", "all"), baseline=True)
    assert sheet.columns == ("strength 0.5", "strength 1")
    assert sheet.rows == ("no LoRA", "epoch 1", "epoch 2 (best)", "epoch 3")
    assert len(sheet.recipes) == 1 + 3 * 2
    assert sheet.picture(0, 0, 0) == sheet.picture(0, 0, 1), "strengths make no difference without a LoRA"
    cell = sheet.cells[0, 3, 0]
    assert cell is not None and (cell.epoch, cell.strength_model, cell.strength_text) == (3, 0.5, 0.5)


def test_each_prompt_makes_a_page_unless_an_axis_takes_them():
    prompts = ("a cat, sitting", "a dog, running")
    sheet = plan(AxisText("seed", "1-3"), AxisText("epoch", "2, 3"), AxisText("steps", "5, 10"), prompts=prompts)
    assert sheet.pages == ("5 steps · a cat, sitting", "5 steps · a dog, running", "10 steps · a cat, sitting", "10 steps · a dog, running")
    assert len(sheet.recipes) == 3 * 2 * 4
    cell = sheet.cells[3, 1, 2]
    assert cell is not None and (cell.prompt, cell.steps, cell.epoch, cell.seed) == ("a dog, running", 10, 3, 3)
    taken = plan(AxisText("prompt"), AxisText("epoch", "1"), prompts=prompts)
    assert taken.columns == prompts and taken.pages == ("",)


def test_search_and_replace_goes_through_the_prompts_of_every_page():
    sheet = plan(AxisText("prompt search and replace", "cat, dog"), AxisText("epoch", "2"))
    assert [sheet.cells[0, 0, c].prompt for c in range(2)] == ["a cat, sitting", "a dog, sitting"]


def test_what_is_looked_for_may_stand_in_the_prompts_of_an_axis():
    sheet = plan(AxisText("prompt", "a fox\na dog"), AxisText("prompt search and replace", "fox, owl,"))
    assert [[sheet.cells[0, r, c].prompt for c in range(2)] for r in range(3)] == [["a fox", "a dog"], ["a owl", "a dog"], ["a ", "a dog"]]
    assert sheet.rows == ("fox", "owl", "without fox")


def test_words_of_a_prompt_stand_in_every_order():
    sheet = plan(AxisText("prompt order", "cat, sitting"), AxisText("prompt search and replace", "cat, dog"))
    assert sheet.columns == ("cat, sitting", "sitting, cat")
    assert [[sheet.cells[0, r, c].prompt for c in range(2)] for r in range(2)] == [
        ["a cat, sitting", "a sitting, cat"],
        ["a dog, sitting", "a sitting, dog"],
    ]


@pytest.mark.parametrize(
    ("kind", "text", "names"),
    [
        ("sampler", "Euler, DDIM", ("euler", "ddim")),
        ("sampler", "euler,\nddim", ("euler", "ddim")),
        ("checkpoint", "OTHER", ("other.safetensors",)),
        ("checkpoint", "deep\nother", ("sd\\Deep.ckpt", "other.safetensors")),
    ],
)
def test_names_may_be_written_in_short(kind, text, names):
    choices = dataclasses.replace(ONE_RUN, checkpoints=("other.safetensors", "sd\\Deep.ckpt", "a/twice.ckpt", "b/twice.ckpt"))
    assert tuple(point.label for point in AXES[kind](text, choices)) == names
    with pytest.raises(AthanorError, match=r"'twice' may be a/twice\.ckpt or b/twice\.ckpt; write the whole name"):
        AXES["checkpoint"]("twice", choices)


def test_runs_stand_side_by_side_with_their_usual_epochs_or_with_those_of_an_axis():
    sheet = plan(AxisText("run", "r, s"), baseline=True, choices=TWO_RUNS)
    assert sheet.columns == ("no LoRA", "r", "s")
    assert [(cell.run, cell.epoch) for cell in (sheet.cells[0, 0, c] for c in range(3))] == [("", 0), ("r", 2), ("s", 4)]
    assert plan(AxisText("run"), baseline=True, choices=TWO_RUNS).cells == sheet.cells, "nothing written takes the wired ones"
    crossed = plan(AxisText("run", "r, s"), AxisText("epoch", "2, 4"), choices=TWO_RUNS)
    assert crossed.cells[0, 1, 0] is None, "r has no epoch 4"
    assert crossed.cells[0, 1, 1] == dataclasses.replace(BASE, run="s", epoch=4)


def test_the_base_alone_finds_a_place_of_its_own_where_no_axis_is_about_epochs():
    sheet = plan(AxisText("seed", "1, 2"), baseline=True)
    assert sheet.rows == ("no LoRA", "epoch 2")


def test_the_base_alone_has_rows_where_every_axis_is_taken():
    sheet = plan(AxisText("seed", "1, 2"), AxisText("strength", "0.5, 1"), AxisText("steps", "5, 9"), baseline=True)
    assert sheet.rows == ("no LoRA", "strength 0.5", "strength 1") and len(sheet.recipes) == 2 * 2 * 3
    sheet = plan(AxisText("seed", "1, 2"), AxisText("guidance", "3, 7"), AxisText("steps", "5, 9"), baseline=True)
    assert sheet.rows == ("CFG 3 · no LoRA", "CFG 3", "CFG 7 · no LoRA", "CFG 7")
    bare = sheet.cells[1, 2, 1]
    assert bare is not None and (bare.epoch, bare.guidance, bare.steps, bare.seed) == (0, 7.0, 9, 2)


def test_all_problems_of_the_axes_come_at_once():
    with pytest.raises(InvalidJobError) as raised:
        plan(AxisText("strength", "a"), AxisText("epoch", "9"), AxisText("sampler", "eula"))
    assert [problem[:7] for problem in raised.value.problems] == ["X axis:", "Y axis:", "Z axis:"]
    with pytest.raises(InvalidJobError, match="strength and model strength both set the strength of one part"):
        plan(AxisText("strength", "1"), AxisText("model strength", "0.5"))
    with pytest.raises(InvalidJobError, match="each run has a best of its own"):
        plan(AxisText("run", "r, s"), AxisText("epoch", "best"), choices=TWO_RUNS)
    with pytest.raises(InvalidJobError, match="Two axes are about seed"):
        plan(AxisText("seed", "1"), AxisText("seed", "2"))


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("strength", "11", "Strengths: 11 will not do; it must be from -10 to 10"),
        ("model strength", "", "Strengths: nothing is written there"),
        ("prompt search and replace", "horse, dog", "'horse' stands in no prompt"),
        ("prompt search and replace", "cat", "nothing is written behind 'cat'"),
        ("prompt search and replace", ", dog", "the first value is empty"),
        ("prompt order", "cat, horse", "no prompt holds all of cat, horse"),
        ("prompt order", "", "write words of the prompt with commas"),
        ("seed", "-1", "Seeds: -1 will not do"),
        ("steps", "0", "Steps: 0 will not do"),
        ("guidance", "200", "Guidance: 200 will not do"),
        ("sampler", "eula", "there is no 'eula'; there are euler, ddim"),
        ("checkpoint", "../secret", "there is no '../secret'; there are other.safetensors"),
        ("negative prompt", "", "Negative prompts: nothing is written there"),
    ],
)
def test_bad_values_are_named(kind, text, said):
    with pytest.raises(AthanorError, match=said.replace(".", r"\.")):
        AXES[kind](text, ONE_RUN)


def test_an_embedding_has_no_strength():
    with pytest.raises(AthanorError, match="an embedding has none"):
        AXES["strength"]("1", dataclasses.replace(ONE_RUN, is_embedding=True))


def test_too_many_pictures_are_refused():
    with pytest.raises(AthanorError, match="would have 3000 pictures; at most 2000"):
        plan(AxisText("seed", "1-1000"), AxisText("epoch", "all"))
    with pytest.raises(AthanorError, match="would have 1000000000 cells; at most 2000"):
        plan(AxisText("seed", "1-1000"), AxisText("steps", "1-1000"), AxisText("guidance", "0-99.9 (+0.1)"))


def test_a_guidance_that_the_model_is_told_has_an_axis_where_there_is_one():
    flux = dataclasses.replace(ONE_RUN, is_told_guidance=True)
    sheet = plan(AxisText("flux guidance", "2, 3.5"), AxisText("epoch", "2"), choices=flux)
    assert sheet.columns == ("FLUX guidance 2", "FLUX guidance 3.5")
    assert [(sheet.cells[0, 0, c].flux_guidance, sheet.cells[0, 0, c].guidance) for c in range(2)] == [(2.0, 7.0), (3.5, 7.0)]
    with pytest.raises(InvalidJobError, match=r"only FLUX\.1 dev is told a guidance"):
        plan(AxisText("flux guidance", "2, 3.5"))
    with pytest.raises(InvalidJobError, match="0 will not do"):
        plan(AxisText("flux guidance", "0"), choices=flux)
