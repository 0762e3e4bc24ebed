"""What one picture of a comparison is drawn by."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BASELINE = 0
"""The epoch number of the base without any LoRA or embedding."""


@dataclass(frozen=True)
class Recipe:
    """Two equal recipes are one picture."""

    checkpoint: str = ""
    """Name of a base model; empty is the one that is wired."""
    run: str = ""
    """Name of the run whose epoch it is."""
    epoch: int = BASELINE
    strength_model: float = 1.0
    strength_text: float = 1.0
    prompt: str = ""
    negative_prompt: str = ""
    seed: int = 1
    steps: int = 20
    guidance: float = 7.0
    sampler: str = ""
    """Empty is the family's own."""
    scheduler: str = ""
    flux_guidance: float = 0.0
    """What FLUX.1 dev is told beside classifier-free guidance; 0 is its usual one."""

    def settled(self) -> Recipe:
        """Without what makes no difference: the run and strengths of a picture without LoRA, the epoch of one at no strength."""
        if self.epoch == BASELINE or (self.strength_model == 0 and self.strength_text == 0):
            return dataclasses.replace(self, run="", epoch=BASELINE, strength_model=0.0, strength_text=0.0)
        return self


@dataclass(frozen=True)
class Point:
    """One value of an axis: how it is labelled, and what it changes."""

    label: str
    changes: tuple[tuple[str, object], ...] = ()
    """Fields of the recipe and their values."""
    replace: tuple[str, str] | None = None
    """Prompt search and replace: what is looked for, and what stands there instead."""
    order: tuple[str, ...] = ()
    """Words of the prompt, in the order in which they are to stand at their places."""


def cooked(base: Recipe, points: Iterable[Point]) -> Recipe:
    """The recipe at a crossing of axes. Replacements come last, all at once, so that the order of the axes does not matter and none reads another's text."""
    recipe, replacements, orders = base, [], []
    for point in points:
        recipe = dataclasses.replace(recipe, **dict(point.changes))  # type: ignore[arg-type]
        if point.replace:
            replacements.append(point.replace)
        if point.order:
            orders.append(point.order)
    for order in orders:
        recipe = dataclasses.replace(recipe, prompt=_reordered(recipe.prompt, order))
    if replacements:
        recipe = dataclasses.replace(
            recipe, prompt=_replaced(recipe.prompt, replacements), negative_prompt=_replaced(recipe.negative_prompt, replacements)
        )
    return recipe.settled()


def _replaced(text: str, replacements: Sequence[tuple[str, str]]) -> str:
    by_search = dict(replacements)
    pattern = "|".join(re.escape(search) for search in sorted(by_search, key=len, reverse=True))
    return re.sub(pattern, lambda found: by_search[found[0]], text)


def _reordered(text: str, order: Sequence[str]) -> str:
    """The first place of each of the words of `order` filled anew, in that order; a text that lacks one of them stays as it is.

    As A1111's "Prompt order" does (scripts/xyz_grid.py, apply_order).
    """
    if not all(word in text for word in order):
        return text
    parts, rest = [], text
    for place, word in enumerate(sorted(order, key=text.find)):
        before, found, after = rest.partition(word)
        if not found:
            return text  # The words overlap.
        parts += [before, order[place]]
        rest = after
    return "".join([*parts, rest])


def drawing_order(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Each once, the costliest change outermost: another checkpoint, another epoch, another strength, another prompt."""
    unique = list(dict.fromkeys(recipes))
    ranks = [{value: i for i, value in enumerate(dict.fromkeys(key(recipe) for recipe in unique))} for key in _COSTS]
    return sorted(unique, key=lambda recipe: [rank[key(recipe)] for rank, key in zip(ranks, _COSTS, strict=True)])


_COSTS = (
    lambda recipe: recipe.checkpoint,
    lambda recipe: (recipe.run, recipe.epoch),
    lambda recipe: (recipe.strength_model, recipe.strength_text),
    lambda recipe: (recipe.prompt, recipe.negative_prompt),
)


def file_name(recipe: Recipe, epoch_hash: str) -> str:
    """Of the recipe's picture: it tells what is seen, so that a larger comparison finds the pictures that are there."""
    facts = [epoch_hash, *dataclasses.astuple(recipe)]
    if not recipe.flux_guidance:
        # Pictures from before there was a choice are found again.
        facts.pop()
    digest = hashlib.sha256(json.dumps(facts, ensure_ascii=False).encode("utf-8")).hexdigest()
    return f"e{recipe.epoch:06d}_s{recipe.strength_model:g}_{digest[:12]}.png"
