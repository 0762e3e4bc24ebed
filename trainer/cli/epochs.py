"""`athanor validate`, `sample` and `export`: what else can be done with a run directory."""

from __future__ import annotations

import argparse
import hashlib
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from ..checks.validate import check_compare_job, check_train_job
from ..config import CompareJob, SheetCell, TrainJob
from ..control import Control
from ..data.batches import commonest_bucket
from ..errors import AthanorError
from ..files import replace_atomically
from ..formats.parameters import sd_scripts_toml
from ..measuring import measured_epochs
from ..optimizing.steps import steps_of
from ..runs.facts import RunFacts
from ..runs.promote import pick_epochs, promote, promote_words
from ..runs.run import Epoch, Run, write_job_file
from ..sample_prompts import SamplePrompt, lines_of_file, sample_prompts
from ..settings import SampleSettings
from ..worker import work
from .options import existing_run

COMMANDS = ("validate", "sample", "export")
_DRAWN = "drawn"


def add_run_commands(commands: Any) -> None:
    validate = commands.add_parser(
        "validate", help="check the job of a run directory, and measure the held-out loss of its saved epochs; nothing is changed"
    )
    sample = commands.add_parser("sample", help="draw sample pictures with saved epochs of a run directory")
    sample.add_argument(
        "--prompts", default="", help="one a line, in kohya's syntax, or a .txt, .toml or .json of them; the run's own where left out"
    )
    sample.add_argument("--negative-prompt", default="", help="what the pictures should not show, where a prompt does not say it")
    export = commands.add_parser("export", help="put epochs of a run directory where they are used, or write its settings for sd-scripts")
    export.add_argument("--to", type=Path, default=None, help="a folder for the files, for example ComfyUI's models/loras")
    export.add_argument("--name", default="", help="of the files; the run's where left out")
    export.add_argument("--sd-scripts", type=Path, default=None, metavar="TOML", help="write the settings as a --config_file of sd-scripts")
    validate.add_argument("--check-only", action="store_true", help="load nothing and measure nothing")
    for parser, usual in ((validate, "all"), (sample, "last"), (export, "last")):
        parser.add_argument("run", type=Path, help="a run directory")
        parser.add_argument("--epochs", default=usual, help=f"last, best, chosen, all, or numbers such as 2,4; {usual} where left out")


def run_run_command(options: argparse.Namespace) -> int:
    """The exit code. Raises AthanorError for what the person can mend."""
    run = existing_run(options.run)
    job = run.train_job()
    if options.command == "validate":
        return _validate(run, job, options)
    if options.command == "export":
        return _export(run, job, options)
    return _sample(run, job, options)


def _validate(run: Run, job: TrainJob, options: argparse.Namespace) -> int:
    check_train_job(job)
    steps = steps_of(job)
    images = len(job.dataset.with_role("train")), len(job.dataset.with_role("validation"))
    sys.stdout.write(
        f"{job.name} can be trained: {steps.total} steps, {steps.per_epoch} in each of {steps.epochs} epochs; "
        f"{images[0]} images, {images[1]} held out; upon {job.base.name}.\n"
    )
    if options.check_only or not images[1] or not run.epochs():
        return 0
    for epoch, loss in measured_epochs(run, pick_epochs(run, options.epochs), Control()):
        then = f" ({epoch.validation_loss:.5f} while it was trained)" if epoch is not None and epoch.validation_loss is not None else ""
        sys.stdout.write(f"{'before training' if epoch is None else f'epoch {epoch.number}'}: held-out loss {loss:.5f}{then}\n")
        sys.stdout.flush()
    return 0


def _export(run: Run, job: TrainJob, options: argparse.Namespace) -> int:
    if options.to is None and options.sd_scripts is None:
        raise AthanorError("Nothing to export; say --to FOLDER for the files, or --sd-scripts FILE.toml for the settings.")
    if options.sd_scripts is not None:
        text, notes = sd_scripts_toml(job)
        replace_atomically(options.sd_scripts, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        sys.stdout.write("\n".join([str(options.sd_scripts), *(f"note: {note}" for note in notes)]) + "\n")
    if options.to is not None:
        epochs = pick_epochs(run, options.epochs)
        files = (*promote(run, epochs, options.to, options.name), *promote_words(run, epochs, options.to))
        sys.stdout.write("\n".join(map(str, files)) + "\n")
    return 0


def _sample(run: Run, job: TrainJob, options: argparse.Namespace) -> int:
    epochs, prompts, facts = pick_epochs(run, options.epochs), _prompts(job, options), RunFacts.of(run, job.base)
    common_px = commonest_bucket(job.dataset.with_role("train"))
    sized = [((each.width_px or common_px[0], each.height_px or common_px[1]), i, each) for i, each in enumerate(prompts)]
    sized.sort(key=lambda entry: entry[:2])
    for size_px, group in groupby(sized, key=lambda entry: entry[0]):
        wanted = [(i, each) for _, i, each in group]
        cells = tuple(_cell(run, epoch, i, each) for epoch in epochs for i, each in wanted)
        sheet_job = CompareJob(
            facts.drawn(job.base),
            cells,
            *size_px,
            facts.precision,
            facts.token,
            facts.merge_files,
            facts.base_precision,
            facts.words,
            facts.trained_parts,
        )
        check_compare_job(sheet_job)
        folder = run.folder / _DRAWN / hashlib.sha256(repr(sheet_job).encode("utf-8")).hexdigest()[:12]
        write_job_file(folder, sheet_job)
        code = work(Run(folder), Control())
        if code:
            return code
        sys.stdout.write("\n".join(str(folder / cell.file) for cell in cells) + "\n")
    return 0


def _prompts(job: TrainJob, options: argparse.Namespace) -> tuple[SamplePrompt, ...]:
    told = options.prompts
    if told and "\n" not in told and Path(told).suffix.lower() in (".txt", ".toml", ".json"):
        told = "\n".join(lines_of_file(Path(told)))
    own = job.samples
    settings = SampleSettings(told or own.prompts, options.negative_prompt or own.negative_prompt, own.steps, own.guidance, own.seed)
    prompts = sample_prompts(settings)
    if not prompts:
        raise AthanorError("There is no prompt; say --prompts, as the run has none of its own.")
    return prompts


def _cell(run: Run, epoch: Epoch, index: int, prompt: SamplePrompt) -> SheetCell:
    return SheetCell(
        file=f"e{epoch.number:06d}_{index:02d}.png",
        epoch_file=str(epoch.path),
        strength_model=1.0,
        strength_text=1.0,
        prompt=prompt.prompt,
        negative_prompt=prompt.negative_prompt,
        seed=prompt.seed,
        steps=prompt.steps,
        guidance=prompt.guidance,
        label=f"{run.name}-{epoch.number:06d}",
        word_files=tuple(str(path) for _, path in epoch.words),
    )
