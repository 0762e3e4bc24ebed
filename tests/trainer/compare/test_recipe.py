from __future__ import annotations

import itertools

from athanor.trainer.compare.recipe import BASELINE, Point, Recipe, cooked, drawing_order, file_name


def test_points_change_their_fields_and_nothing_else():
    base = Recipe(run="r", epoch=3, prompt="a cat", seed=5)
    assert cooked(base, [Point("", (("steps", 7),)), Point("", (("strength_model", 0.5),))]) == Recipe(
        run="r", epoch=3, prompt="a cat", seed=5, steps=7, strength_model=0.5
    )


def test_replacements_read_the_prompt_of_another_axis_and_never_each_other():
    base = Recipe(run="r", epoch=1, prompt="unused", negative_prompt="no cat")
    recipe = cooked(base, [Point("dog", replace=("cat", "dog")), Point("cat", replace=("dog", "cat")), Point("", (("prompt", "cat and dog"),))])
    assert (recipe.prompt, recipe.negative_prompt) == ("dog and cat", "no dog")


def test_pictures_without_any_lora_are_one_picture():
    bare = cooked(Recipe(run="a", epoch=2), [Point("no LoRA", (("epoch", BASELINE),)), Point("", (("strength_model", 0.3),))])
    off = cooked(Recipe(run="b", epoch=7), [Point("", (("strength_model", 0.0), ("strength_text", 0.0)))])
    assert bare == off and bare.epoch == BASELINE
    half = cooked(Recipe(run="b", epoch=7), [Point("", (("strength_model", 0.0), ("strength_text", 1.0)))])
    assert half.epoch == 7


def test_the_costliest_change_is_outermost_and_each_picture_is_drawn_once():
    recipes = [
        Recipe(checkpoint=checkpoint, run="r", epoch=epoch, strength_model=strength, prompt=prompt)
        for prompt in ("a", "b")
        for strength in (0.5, 1.0)
        for epoch in (2, 1)
        for checkpoint in ("", "other")
    ]
    ordered = drawing_order([*recipes, *recipes])
    assert len(ordered) == len(set(ordered)) == 16
    changes = {field: sum(getattr(a, field) != getattr(b, field) for a, b in itertools.pairwise(ordered)) for field in ("checkpoint", "epoch")}
    assert changes == {"checkpoint": 1, "epoch": 3}
    assert [recipe.epoch for recipe in ordered[:8]] == [2] * 4 + [1] * 4, "in the order of the axis"


def test_a_picture_has_a_name_of_its_own_and_another_once_the_epoch_changes():
    recipe = Recipe(run="r", epoch=12, strength_model=0.8)
    assert file_name(recipe, "abc").startswith("e000012_s0.8_")
    assert len({file_name(recipe, "abc"), file_name(recipe, "abd"), file_name(Recipe(run="r", epoch=12, strength_model=0.8, seed=2), "abc")}) == 3
    assert file_name(recipe, "abc") == file_name(Recipe(run="r", epoch=12, strength_model=0.8), "abc")
