"""The drawing of a comparison: by the worker, or by ComfyUI's own sampling."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ..trainer.bases import describe_base
from ..trainer.compare.axes import parse_texts
from ..trainer.compare.kinds import Choices, RunEpochs
from ..trainer.compare.recipe import BASELINE, Recipe
from ..trainer.compare.sheet import AxisText, Sheet, sheet_folder
from ..trainer.config import CompareJob, LoadedJob, SheetCell
from ..trainer.errors import AthanorError, raise_problems
from ..trainer.milestones import commonest_bucket
from ..trainer.run import Run, write_job_file
from ..trainer.sampling import save_picture
from ..trainer.types import BaseModel
from ..trainer.validate import check_compare_job
from . import host
from .worker import run_worker


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
class RunFacts:
    """What a comparison needs to know of a training."""

    family: str
    """Empty where another program trained it."""
    token: str
    """The embedding's word in the prompts; empty for LoRAs."""
    trigger: str
    size_px: tuple[int, int]
    precision: str
    unit: str = "epoch"
    """What the epochs are numbered by."""

    @classmethod
    def of(cls, run: Run, base: BaseModel | None) -> RunFacts:
        job = run.job()
        if isinstance(job, LoadedJob):
            side_px = base.native_px if base else 512
            return cls("", run.token(), "", (side_px, side_px), "bf16", job.unit)
        job = run.train_job()
        return cls(job.base.family, run.token(), job.dataset.trigger, commonest_bucket(job.dataset.with_role("train")), job.train.precision)


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
    def of(cls, run: Run, axes: Sequence[AxisText], samplers: Samplers, size_px: tuple[int, int]) -> Comparison:
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
        runs = _runs(run, axes)
        epochs = {name: _epochs(each) for name, each in runs.items()}
        size_px = (size_px[0] or facts.size_px[0], size_px[1] or facts.size_px[1])
        look = [base.fingerprint, facts.precision] if base else [samplers.upstream]
        return cls(run, facts, runs, epochs, samplers, size_px, sheet_folder(run.folder, [*look, *size_px]))

    @property
    def token(self) -> str:
        """The embedding's word in the prompts; empty for LoRAs."""
        return self.facts.token

    def usual_prompts(self) -> tuple[str, ...]:
        """Where none are written."""
        words = self.token or self.facts.trigger
        if not words:
            raise AthanorError("Prompts: nothing is written there, and the dataset has no trigger; write one prompt a line.")
        return (words,)

    def choices(self, prompts: Sequence[str], negative_prompt: str) -> Choices:
        by_comfyui = self.samplers.base_model is None
        return Choices(
            runs=self.epochs,
            checkpoints=tuple(host.checkpoint_names() if by_comfyui else host.base_model_names()),
            samplers=tuple(host.samplers()) if by_comfyui else (),
            schedulers=tuple(host.schedulers()) if by_comfyui else (),
            prompt="\n".join((*prompts, negative_prompt)),
            is_embedding=bool(self.token),
            unit=self.facts.unit,
        )

    def files(self) -> dict[tuple[str, int], Path]:
        return {(name, epoch.number): epoch.path for name, run in self.runs.items() for epoch in run.epochs()}

    def hashes(self) -> dict[tuple[str, int], str]:
        return {(name, epoch.number): epoch.sha256 for name, run in self.runs.items() for epoch in run.epochs()}

    def label(self, recipe: Recipe) -> str:
        """What a picture's parameters name as its model."""
        base = self.samplers.base_model
        model = recipe.checkpoint or (Path(base.path).stem if base else "the wired model")
        if recipe.epoch == BASELINE:
            return model
        if self.token:
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
        raise_problems(problems)


def draw_by_worker(comparison: Comparison, sheet: Sheet, node_id: str | None) -> dict[str, str]:
    """Draws what is missing in a process of its own, with one load of each base. Returns the reason of each failure by file."""
    jobs = []
    for checkpoint, group in groupby(sheet.missing(), key=lambda recipe: recipe.checkpoint):
        base = comparison.samplers.base_model
        assert base is not None
        if checkpoint:
            base = describe_base(host.base_model_path(checkpoint), host.tokenizer_folders())
        job = _worker_job(comparison, sheet, base, tuple(group))
        check_compare_job(job)
        jobs.append(job)
    run = Run(sheet.folder)
    for job in jobs:
        write_job_file(sheet.folder, job)
        run_worker(run, node_id)
    events = run.events() if jobs else []
    return {event["file"]: event["message"] for event in events if event["event"] == "cell_failed" and not (sheet.folder / event["file"]).is_file()}


def _worker_job(comparison: Comparison, sheet: Sheet, base: BaseModel, recipes: Sequence[Recipe]) -> CompareJob:
    files = comparison.files()
    cells = [
        SheetCell(
            file=sheet.files[recipe],
            epoch_file=str(files[recipe.run, recipe.epoch]) if recipe.epoch != BASELINE else "",
            strength_model=recipe.strength_model,
            strength_text=recipe.strength_text,
            prompt=recipe.prompt,
            negative_prompt=recipe.negative_prompt,
            seed=recipe.seed,
            steps=recipe.steps,
            guidance=recipe.guidance,
            label=comparison.label(recipe),
        )
        for recipe in recipes
    ]
    width_px, height_px = comparison.size_px
    return CompareJob(base, tuple(cells), width_px, height_px, comparison.facts.precision, comparison.token)


def draw_by_comfyui(comparison: Comparison, sheet: Sheet, node_id: str | None) -> dict[str, str]:
    """Draws what is missing with the wired model. Returns the reason of each failure by file."""
    from .stock_sampling import DEFAULT_SAMPLER, DEFAULT_SCHEDULER, StockPainter

    wires = comparison.samplers
    painter = StockPainter(wires.model, wires.clip, wires.vae, comparison.files(), comparison.size_px, comparison.token)
    missing, total = sheet.missing(), len(sheet.recipes)
    failed: dict[str, str] = {}
    started_sec = time.monotonic()
    for number, recipe in enumerate(missing):
        host.raise_if_interrupted()
        host.say(node_id, _progress(total - len(missing) + number, total, number, time.monotonic() - started_sec))
        try:
            picture = painter.paint(recipe)
        except host.Interrupted:
            raise
        except Exception as error:
            # One picture that fails must not lose an evening's others; it is marked in the grid, and told when all fail.
            failed[sheet.files[recipe]] = str(error).splitlines()[0] if str(error) else type(error).__name__
            continue
        sampler = f"{recipe.sampler or DEFAULT_SAMPLER}, Schedule type: {recipe.scheduler or DEFAULT_SCHEDULER}"
        save_picture(
            sheet.path(recipe),
            picture,
            recipe.prompt,
            recipe.negative_prompt,
            recipe.steps,
            recipe.seed,
            recipe.guidance,
            comparison.label(recipe),
            sampler,
        )
    if missing and len(failed) == len(missing):
        raise AthanorError(f"No picture could be drawn: {next(iter(failed.values()))}")
    return failed


def _progress(done: int, total: int, num_drawn: int, passed_sec: float) -> str:
    if not num_drawn:
        return f"{done} of {total} pictures"
    left_sec = passed_sec / num_drawn * (total - done)
    return (
        f"{done} of {total} pictures, about {left_sec / 60:.0f} min left" if left_sec >= 90 else f"{done} of {total} pictures, {left_sec:.0f} s left"
    )


def _runs(run: Run, axes: Sequence[AxisText]) -> dict[str, Run]:
    """The wired run, and those that an axis names."""
    names = [name for axis in axes if axis.kind == "run" for name in parse_texts(axis.values)]
    known = host.run_names()
    unknown = [name for name in names if name not in (*known, run.name)]
    if unknown:
        raise AthanorError(f"Runs: there is no run {unknown[0]!r} in {host.runs_root()}; there are {', '.join(known) or 'none'}.")
    return {run.name: run, **{name: Run(host.runs_root() / name) for name in names if name != run.name}}


def _epochs(run: Run) -> RunEpochs:
    epochs, best = run.epochs(), run.best_epoch()
    if not epochs:
        raise AthanorError(f"The run {run.name} has no saved epoch yet; let it train to the end of its first saved epoch.")
    return RunEpochs(tuple(epoch.number for epoch in epochs), best.number if best and best.validation_loss is not None else None)
