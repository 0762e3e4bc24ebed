"""Which pictures a comparison is made of, and where each is kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ..errors import AthanorError, raise_problems
from .kinds import AXES, Choices, no_adapter
from .recipe import Point, Recipe, cooked, drawing_order, file_name

MAX_PICTURES = 2000
MAX_CELLS = 20_000
"""Several cells may show one picture; beyond so many it is not even counted how many pictures they are."""


@dataclass(frozen=True)
class AxisText:
    """An axis as it is written: its kind, and its values as text."""

    kind: str
    values: str = ""


@dataclass(frozen=True)
class Sheet:
    """Grids of rows and columns, one page for each point of the third axis and each prompt."""

    folder: Path
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    pages: tuple[str, ...]
    cells: Mapping[tuple[int, int, int], Recipe | None]
    """By page, row and column; None where a run has no such epoch."""
    files: Mapping[Recipe, str]
    """Relative to the folder."""

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """In the order in which they are drawn."""
        return tuple(self.files)

    def path(self, recipe: Recipe) -> Path:
        return self.folder / self.files[recipe]

    def picture(self, page: int, row: int, column: int) -> Path | None:
        recipe = self.cells[page, row, column]
        return self.path(recipe) if recipe is not None else None

    def missing(self) -> tuple[Recipe, ...]:
        """What is not drawn yet."""
        return tuple(recipe for recipe in self.recipes if not self.path(recipe).is_file())


def plan_sheet(
    folder: Path,
    base: Recipe,
    axes: tuple[AxisText, AxisText, AxisText],
    prompts: Sequence[str],
    baseline: bool,
    choices: Choices,
    epoch_hashes: Mapping[tuple[str, int], str],
) -> Sheet:
    """The sheet of the axes X, Y and Z. `epoch_hashes` tells the content of each saved epoch, by run and number.

    Each prompt makes pages of its own, unless an axis is about prompts; such an axis takes them where nothing is written for it.
    Raises InvalidJobError with every problem of the axes.
    """
    points = _points(axes, prompts, choices)
    kinds = [axis.kind for axis in axes]
    if "epoch" in kinds and "run" in kinds:
        runs = kinds.index("run")
        points[runs] = [
            dataclasses.replace(point, changes=tuple(change for change in point.changes if change[0] != "epoch")) for point in points[runs]
        ]
    if baseline:
        _add_baseline(points, kinds, base, choices)
    x, y, z = points
    prompt_points = [Point("")] if "prompt" in kinds else [Point(prompt, (("prompt", prompt),)) for prompt in prompts]
    pages = list(product(z, prompt_points))
    num_cells = len(pages) * len(y) * len(x)
    if num_cells > MAX_CELLS:
        raise AthanorError(f"The comparison would have {num_cells} cells; at most {MAX_PICTURES} pictures are drawn. Write fewer values on the axes.")
    cells: dict[tuple[int, int, int], Recipe | None] = {}
    for (p, page), (r, row), (c, column) in product(enumerate(pages), enumerate(y), enumerate(x)):
        recipe = cooked(base, (*reversed(page), row, column))
        there = recipe.epoch == 0 or (recipe.run, recipe.epoch) in epoch_hashes
        cells[p, r, c] = recipe if there else None
    ordered = drawing_order([recipe for recipe in cells.values() if recipe is not None])
    if len(ordered) > MAX_PICTURES:
        raise AthanorError(f"The comparison would have {len(ordered)} pictures; at most {MAX_PICTURES} are drawn. Write fewer values on the axes.")
    files = {recipe: f"cells/{file_name(recipe, epoch_hashes.get((recipe.run, recipe.epoch), ''))}" for recipe in ordered}
    labels = tuple(tuple(point.label for point in axis) for axis in (x, y))
    titles = tuple(" · ".join(point.label for point in page if point.label) for page in pages)
    return Sheet(folder, *labels, titles, cells, files)


def _points(axes: Sequence[AxisText], prompts: Sequence[str], choices: Choices) -> list[list[Point]]:
    problems, points = [], []
    written = [axis.values for axis in axes if axis.kind in ("prompt", "negative prompt")]
    choices = dataclasses.replace(choices, prompt="\n".join((choices.prompt, *written)))
    for name, axis in zip("XYZ", axes, strict=True):
        text = axis.values
        if axis.kind == "prompt" and not text.strip():
            text = "\n".join(prompts)
        try:
            points.append(list(AXES[axis.kind](text, choices)))
        except AthanorError as error:
            problems.append(f"{name} axis: {error}")
    used = [axis.kind for axis in axes if axis.kind != "none"]
    problems += [f"Two axes are about {kind}; choose another for one of them." for kind in dict.fromkeys(used) if used.count(kind) > 1]
    if "strength" in used:
        parts = [kind for kind in used if kind in ("model strength", "text encoder strength")]
        problems += [
            f"The axes strength and {kind} both set the strength of one part; take model strength and text encoder strength." for kind in parts
        ]
    raise_problems(problems)
    return points


def _add_baseline(points: list[list[Point]], kinds: Sequence[str], base: Recipe, choices: Choices) -> None:
    """The base alone, as the first point of the axis that picks epochs or else strengths; otherwise of the first axis that is free.

    Where no axis is, each row has one without the adapter before it.
    """
    bare, free = no_adapter(choices), next((i for i in (1, 0, 2) if kinds[i] == "none"), None)
    picking = [kind for kind in ("epoch", "run", *(("strength",) if free is None else ())) if kind in kinds]
    if picking:
        points[kinds.index(picking[0])].insert(0, bare)
    elif free is not None:
        points[free] = [bare, Point(f"{choices.unit} {base.epoch}", (("epoch", base.epoch),))]
    else:
        points[1] = [
            each
            for point in points[1]
            for each in (dataclasses.replace(point, label=f"{point.label} · {bare.label}", changes=(*point.changes, *bare.changes)), point)
        ]


def sheet_folder(run_folder: Path, look: Sequence[object]) -> Path:
    """Comparisons that draw alike, by the same model in the same size, share a folder and so their pictures."""
    digest = hashlib.sha256(json.dumps(list(look), ensure_ascii=False).encode("utf-8")).hexdigest()
    return run_folder / "compare" / digest[:12]
