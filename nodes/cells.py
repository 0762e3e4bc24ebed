"""The pictures of a comparison: drawn by the worker, or by ComfyUI's own sampling."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby

from ..trainer.bases import describe_base
from ..trainer.checks.validate import check_compare_job
from ..trainer.compare.draw import reason_of
from ..trainer.compare.pace import progress_text, remember_cells, remember_pace
from ..trainer.compare.recipe import BASELINE, Recipe
from ..trainer.compare.sheet import Sheet
from ..trainer.config import CompareJob, SheetCell
from ..trainer.errors import AthanorError
from ..trainer.runs.facts import RunFacts
from ..trainer.runs.run import Run, write_job_file
from ..trainer.sampling import save_picture
from ..trainer.types import BaseModel
from . import host
from .comparing import Comparison
from .worker import run_worker


def draw_by_worker(comparison: Comparison, sheet: Sheet, node_id: str | None) -> dict[str, str]:
    """Draws what is missing in a process of its own, with one load of each base. Returns the reason of each failure by file."""
    jobs, facts = [], {name: RunFacts.of(run, None) for name, run in comparison.runs.items()}

    def loaded(recipe: Recipe) -> tuple[str, str, tuple[str, ...]]:
        of_run = facts.get(recipe.run, comparison.facts)
        return recipe.checkpoint, of_run.merge_files, of_run.words

    for (checkpoint, merge_files, words), group in groupby(sheet.missing(), key=loaded):
        base = comparison.samplers.base_model
        assert base is not None
        if checkpoint:
            base = comparison.facts.drawn(describe_base(host.base_model_path(checkpoint), host.tokenizer_folders()))
        job = _worker_job(comparison, sheet, base, tuple(group), merge_files, words)
        check_compare_job(job)
        jobs.append(job)
    run, broken = Run(sheet.folder), dict[str, str]()
    for job in jobs:
        write_job_file(sheet.folder, job)
        first_event = len(run.events())
        try:
            run_worker(run, node_id)
        except AthanorError as error:
            broken |= {cell.file: reason_of(error) for cell in job.cells if not (sheet.folder / cell.file).is_file()}
            if len(jobs) == 1 or all(cell.file in broken for each in jobs for cell in each.cells):
                raise
            # Another checkpoint, or a run of another base, may do what this one did not.
        remember_cells(host.cache_folder(), comparison.pace_key, job, run.events()[first_event:])
    told = {event["file"]: event["message"] for event in (run.events() if jobs else []) if event["event"] == "cell_failed"}
    return {file: reason for file, reason in {**broken, **told}.items() if not (sheet.folder / file).is_file()}


def _worker_job(
    comparison: Comparison, sheet: Sheet, base: BaseModel, recipes: Sequence[Recipe], merge_files: str, words: tuple[str, ...]
) -> CompareJob:
    files, word_files = comparison.files(), comparison.word_files()
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
            guidance=recipe.flux_guidance or recipe.guidance,
            label=comparison.label(recipe),
            word_files=tuple(str(path) for path in word_files[recipe.run, recipe.epoch].values()) if recipe.epoch != BASELINE else (),
        )
        for recipe in recipes
    ]
    width_px, height_px = comparison.size_px
    facts = comparison.facts
    return CompareJob(
        base,
        tuple(cells),
        width_px,
        height_px,
        facts.precision,
        comparison.token,
        merge_files,
        facts.base_precision,
        words,
        facts.trained_parts,
    )


def draw_by_comfyui(comparison: Comparison, sheet: Sheet, node_id: str | None) -> dict[str, str]:
    """Draws what is missing with the wired model. Returns the reason of each failure by file."""
    from .stock_sampling import DEFAULT_SAMPLER, DEFAULT_SCHEDULER, StockPainter

    wires = comparison.samplers
    files, words, whole = comparison.files(), comparison.word_files(), bool(comparison.facts.trained_parts)
    painter = StockPainter(wires.model, wires.clip, wires.vae, files, comparison.size_px, comparison.token, words, whole)
    missing, total = sheet.missing(), len(sheet.recipes)
    failed: dict[str, str] = {}
    started_sec, drawn_sec, drawn_steps = time.monotonic(), 0.0, 0
    for number, recipe in enumerate(missing):
        host.raise_if_interrupted()
        if number:
            host.say(node_id, progress_text(total - len(missing) + number, total, number, time.monotonic() - started_sec))
        begun_sec, picture, is_full = time.monotonic(), None, False
        try:
            picture = painter.paint(recipe)
        except host.Interrupted:
            raise
        except Exception as error:
            # One picture that fails must not lose an evening's others; it is marked in the grid, and told when all fail.
            failed[sheet.files[recipe]], is_full = reason_of(error), host.is_out_of_memory(error)
        if picture is None:
            if is_full:
                # Only now, when the error no longer holds what was computed.
                painter.let_go()
                host.free_memory()
            continue
        if number or len(missing) == 1:
            # The first one also loads the model.
            drawn_sec, drawn_steps = drawn_sec + time.monotonic() - begun_sec, drawn_steps + recipe.steps
        sampler = f"{recipe.sampler or DEFAULT_SAMPLER}, Schedule type: {recipe.scheduler or DEFAULT_SCHEDULER}"
        if recipe.flux_guidance:
            sampler += f", Distilled CFG Scale: {recipe.flux_guidance:g}"  # as Forge calls it
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
    if drawn_steps:
        remember_pace(host.cache_folder(), comparison.pace_key, comparison.size_px, drawn_sec / drawn_steps)
    if missing and len(failed) == len(missing):
        raise AthanorError(f"No picture could be drawn: {next(iter(failed.values()))}")
    return failed
