"""A comparison: what is connected, which runs and epochs it is of, and what would go wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..trainer.compare.axes import parse_texts
from ..trainer.compare.kinds import Choices, RunEpochs
from ..trainer.compare.pace import known_pace, pace_of_training
from ..trainer.compare.pages import grid_sizes_px
from ..trainer.compare.recipe import BASELINE, Recipe
from ..trainer.compare.sheet import AxisText, Sheet, sheet_folder
from ..trainer.drawing.mixed_font import undrawable
from ..trainer.errors import AthanorError, raise_problems
from ..trainer.runs.facts import RunFacts
from ..trainer.runs.run import Run
from ..trainer.types import BaseModel
from . import host


@dataclass(frozen=True)
class Samplers:
    """What is connected to draw with."""

    base_model: BaseModel | None
    model: Any
    clip: Any
    vae: Any
    upstream: str
    """Tells where model, clip and vae come from."""


@dataclass(frozen=True)
class Comparison:
    run: Run
    facts: RunFacts
    runs: Mapping[str, Run]
    """By name; the first is the wired one."""
    epochs: Mapping[str, RunEpochs]
    samplers: Samplers
    size_px: tuple[int, int]
    folder: Path

    @classmethod
    def of(cls, run: Run, other: Run | None, axes: Sequence[AxisText], samplers: Samplers, size_px: tuple[int, int]) -> Comparison:
        """Raises AthanorError for wires that cannot draw the run, and for runs of an axis that are not there."""
        base = samplers.base_model
        facts = RunFacts.of(run, base)
        if base is None:
            from .stock_sampling import check_wires

            check_wires(samplers.model, samplers.clip, samplers.vae)
        elif samplers.model is not None:
            raise AthanorError("Both base_model and model are connected, so it is not clear which is to draw; disconnect one of them.")
        elif facts.family and base.family != facts.family:
            raise AthanorError(
                f"{run.name} was trained on {facts.family}, but {base.name} is {base.family}; connect a base model of the same family."
            )
        runs = _runs(run, other, axes)
        epochs = {name: _epochs(each) for name, each in runs.items()}
        size_px = (size_px[0] or facts.size_px[0], size_px[1] or facts.size_px[1])
        look = [base.fingerprint, facts.precision] if base else [samplers.upstream]
        if base is not None:
            look += facts.look(base)
            drawn = facts.drawn(base)
            look += ["zero terminal SNR"] if drawn != base else []
            samplers = replace(samplers, base_model=drawn)
        return cls(run, facts, runs, epochs, samplers, size_px, sheet_folder(run.folder, [*look, *size_px]))

    @property
    def token(self) -> str:
        """The embedding's word in the prompts; empty for LoRAs."""
        return self.facts.token

    def usual_prompts(self) -> tuple[str, ...]:
        """Where none are written."""
        words = self.token or self.facts.trigger or ", ".join(self.facts.words[:1])
        if not words:
            raise AthanorError("Prompts: nothing is written there, and the dataset has no trigger; write one prompt a line.")
        return (words,)

    @property
    def is_told_guidance(self) -> bool:
        """Whether the model takes its guidance as an input, as FLUX.1 dev does."""
        base = self.samplers.base_model
        if base is not None:
            return (base.family, base.variant) == ("flux", "dev")
        from .stock_sampling import is_told_guidance

        return is_told_guidance(self.samplers.model)

    def forecast(self, sheet: Sheet, title: str) -> str:
        """Before anything is drawn: how many pictures, of which size, in which grids, and how long."""
        missing, total = sheet.missing(), len(sheet.recipes)
        sizes = grid_sizes_px(sheet, title, self.size_px)
        largest = max(sizes, key=lambda size: size[0] * size[1])
        grids = "1 grid" if len(sizes) == 1 else f"{len(sizes)} grids"
        head = f"{total} pictures of {self.size_px[0]} x {self.size_px[1]} px in {grids} of {largest[0]} x {largest[1]} px"
        lacking = undrawable("".join((title, *sheet.columns, *sheet.rows, *sheet.pages)))
        if lacking:
            head += f" (no font on this computer has {lacking[:12]}; install one, such as Noto Sans CJK, to read all labels)"
        if not missing:
            return f"{head}; all are drawn already"
        drawn = f", {total - len(missing)} are drawn already" if len(missing) < total else ""
        pace = known_pace(host.cache_folder(), self.pace_key, self.size_px) or pace_of_training(self.run, self.size_px, not self.is_told_guidance)
        told = pace.told(sum(recipe.steps for recipe in missing)) if pace else "how long it takes is told after the first picture"
        return f"{head}{drawn}; {told}"

    @property
    def pace_key(self) -> str:
        """Of the model, by which is known how long pictures take."""
        base = self.samplers.base_model
        if base is not None:
            return self.facts.pace_key(base)
        return hashlib.sha256(f"comfyui\n{self.samplers.upstream}".encode()).hexdigest()[:16]

    def choices(self, prompts: Sequence[str], negative_prompt: str) -> Choices:
        by_comfyui = self.samplers.base_model is None
        return Choices(
            runs=self.epochs,
            checkpoints=tuple(host.checkpoint_names() if by_comfyui else host.base_model_names()),
            samplers=tuple(host.samplers()) if by_comfyui else (),
            schedulers=tuple(host.schedulers()) if by_comfyui else (),
            prompt="\n".join((*prompts, negative_prompt)),
            is_embedding=bool(self.token),
            is_whole=bool(self.facts.trained_parts),
            unit=self.facts.unit,
            is_told_guidance=self.is_told_guidance,
        )

    def files(self) -> dict[tuple[str, int], Path]:
        return {(name, epoch.number): epoch.path for name, run in self.runs.items() for epoch in run.epochs()}

    def word_files(self) -> dict[tuple[str, int], dict[str, Path]]:
        """Of the embeddings that an epoch has beside its file."""
        return {(name, epoch.number): dict(epoch.words) for name, run in self.runs.items() for epoch in run.epochs()}

    def hashes(self) -> dict[tuple[str, int], str]:
        return {(name, epoch.number): epoch.sha256 for name, run in self.runs.items() for epoch in run.epochs()}

    def label(self, recipe: Recipe) -> str:
        """What a picture's parameters name as its model."""
        base = self.samplers.base_model
        model = recipe.checkpoint or (Path(base.path).stem if base else "the wired model")
        if recipe.epoch == BASELINE:
            return model
        if self.token or self.facts.trained_parts:
            return f"{model}, {recipe.run} epoch {recipe.epoch}"
        at = f"{recipe.strength_model:g}" + (
            "" if recipe.strength_text == recipe.strength_model else f" and {recipe.strength_text:g} in the text encoder"
        )
        return f"{model}, LoRA {recipe.run} epoch {recipe.epoch} at {at}"

    def check(self, sheet: Sheet) -> None:
        """Raises InvalidJobError with everything that would only be noticed while drawing."""
        problems = []
        if self.samplers.base_model is not None:
            named = [name for name in ("sampler", "scheduler") if any(getattr(recipe, name) for recipe in sheet.recipes)]
            problems += [f"A {name} can be chosen only where model, clip and vae are connected instead of base_model." for name in named]
        if any(recipe.flux_guidance for recipe in sheet.recipes) and not self.is_told_guidance:
            problems.append("A FLUX guidance is set, but only FLUX.1 dev is told one; set FLUX guidance to 0 and use guidance for this model.")
        if self.facts.trained_parts:
            problems += self._whole_problems(sheet)
        raise_problems(problems)

    def _whole_problems(self, sheet: Sheet) -> list[str]:
        """Where the epochs are whole models."""
        problems = []
        if any(recipe.checkpoint and recipe.epoch != BASELINE for recipe in sheet.recipes):
            problems.append(
                f"The epochs of {self.run.name} are whole checkpoints, so that no other checkpoint can stand under them; leave that axis out."
            )
        if any(recipe.epoch != BASELINE and (recipe.strength_model, recipe.strength_text) != (1.0, 1.0) for recipe in sheet.recipes):
            problems.append(f"The epochs of {self.run.name} are whole checkpoints, which have no strength; set strength to 1.")
        if any(RunFacts.of(run, self.samplers.base_model).trained_parts != self.facts.trained_parts for run in self.runs.values()):
            problems.append("Runs of whole checkpoints can be compared with others of the same trained parts only; compare each by itself.")
        return problems


def _runs(run: Run, other: Run | None, axes: Sequence[AxisText]) -> dict[str, Run]:
    """The wired run, and those that an axis is about: the other wired one, and those that it names."""
    about_runs = [axis for axis in axes if axis.kind == "run"]
    if not about_runs:
        return {run.name: run}
    wired = {run.name: run}
    if other is not None:
        if other.name == run.name and other != run:
            raise AthanorError(f"Runs: both connected runs are called {run.name}, so that they cannot be told apart; rename the folder of one.")
        wired[other.name] = other
    names, known = [name for axis in about_runs for name in parse_texts(axis.values) if name not in wired], host.run_names()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise AthanorError(f"Runs: there is no run {unknown[0]!r} in {host.runs_root()}; there are {', '.join(known) or 'none'}.")
    return {**wired, **{name: Run(host.runs_root() / name) for name in names}}


def _epochs(run: Run) -> RunEpochs:
    epochs, best = run.epochs(), run.best_epoch()
    if not epochs:
        raise AthanorError(f"The run {run.name} has no saved epoch yet; let it train to the end of its first saved epoch.")
    return RunEpochs(tuple(epoch.number for epoch in epochs), best.number if best and best.validation_loss is not None else None)
