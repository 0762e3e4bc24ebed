"""`athanor score RUN_DIR`: how good each epoch is, in separate numbers; what the node Score Epochs does, but for the tags."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from ..bases import describe_base
from ..checks.validate import check_score_job
from ..compare.pace import remember_cells
from ..control import Control
from ..data.cache_folder import CACHE
from ..dataset import assign_buckets
from ..drawing.palette import THEMES
from ..errors import AthanorError
from ..runs.facts import RunFacts
from ..runs.run import LOADED_FOLDER, Run, write_job_file
from ..scoring.embedders import BUILT_IN, kind_of_embedder
from ..scoring.measured import read_measured
from ..scoring.plan import MAX_IMAGES, MAX_SEEDS, Drawing
from ..scoring.report import write_report
from ..scoring.scoring import Scoring
from ..types import BaseModel, Dataset
from ..worker import work
from .dataset import read_dataset
from .options import existing_run


def add_score_command(commands: Any) -> None:
    parser = commands.add_parser(
        "score",
        help="measure on held-out images how good each saved epoch is, beside the base alone, and how sure that is",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    usual = Drawing()
    parser.add_argument("run", type=Path, help="a run directory")
    parser.add_argument("--epochs", default="all", help="all, last, best, every 2, or numbers and ranges such as 2,4,6-10")
    parser.add_argument(
        "--images", type=Path, default=None, help="images that were not trained on, with captions, instead of those that the run held out"
    )
    parser.add_argument("--base", type=Path, default=None, help="another base model than the one that the run was trained on")
    parser.add_argument(
        "--tokenizers", type=Path, action="append", default=[], help="with --base: a folder with the CLIP tokenizer, for checkpoint files"
    )
    parser.add_argument("--max-images", type=int, default=16, help="so many held-out images at most, evenly chosen")
    parser.add_argument("--seeds", type=int, default=usual.num_seeds, help="pictures for each caption by each epoch")
    parser.add_argument("--seed", type=int, default=usual.seed, help="the first of the seeds")
    parser.add_argument("--steps", type=int, default=usual.steps, help="sampling steps of each picture")
    parser.add_argument("--guidance", type=float, default=usual.guidance, help="classifier-free guidance (CFG); for FLUX.1 dev what it is told")
    parser.add_argument("--negative-prompt", default="", help="what the pictures should not show")
    parser.add_argument(
        "--likeness",
        type=Path,
        default=None,
        help="a CLIP or DINO folder of transformers, a CLIP vision .safetensors or an .onnx that judges likeness; shapes and colours where left out",
    )
    parser.add_argument(
        "--captions-are-sentences", action="store_true", help="with a whole CLIP as --likeness: how well pictures fit their captions is measured, too"
    )
    parser.add_argument("--theme", choices=tuple(THEMES), default="dark", help="of the picture of the curves")


def run_score_command(options: argparse.Namespace) -> int:
    """The exit code. Raises AthanorError for what the person can mend."""
    for name, value, most in (("max-images", options.max_images, MAX_IMAGES), ("seeds", options.seeds, MAX_SEEDS)):
        if not 1 <= value <= most:
            raise AthanorError(f"--{name} is {value}; it must be from 1 to {most}.")
    run, embedder = existing_run(options.run), BUILT_IN
    if options.likeness is not None:
        kind_of_embedder(options.likeness)
        embedder = str(options.likeness.resolve())
    base = describe_base(options.base, options.tokenizers) if options.base else None
    scoring = Scoring.of(run, base, _others(options.images, run, base), options.epochs, options.max_images)
    drawing = Drawing(options.seeds, options.seed, options.steps, options.guidance, options.negative_prompt)
    job = scoring.job(drawing, embedder, options.captions_are_sentences)
    check_score_job(job)
    cache, measuring = _cache_of(run), Run(scoring.folder(job))
    sys.stdout.write(f"{scoring.forecast(job, cache)}\n")
    sys.stdout.flush()
    write_job_file(measuring.folder, job)
    first_event = len(measuring.events())
    code = work(measuring, Control())
    if code:
        return code
    remember_cells(cache, scoring.facts.pace_key(scoring.base), job.pictures, measuring.events()[first_event:])
    report = write_report(scoring, job, read_measured(measuring.folder), scoring.notes, THEMES[options.theme])
    sys.stdout.write(f"{report.table}\n{report.plot}\n")
    return 0


def _others(images: Path | None, run: Run, base: BaseModel | None) -> Dataset | None:
    """Images that the run has not seen, in buckets of the size that most of its own were trained in."""
    if images is None:
        return None
    facts = RunFacts.of(run, base)
    step_px = (base or run.train_job().base).bucket_step_px
    side_px = max(step_px, round(math.sqrt(facts.size_px[0] * facts.size_px[1]) / step_px) * step_px)
    scanned = read_dataset(images, trigger=facts.trigger)
    return assign_buckets(scanned, resolution_px=side_px, min_px=max(step_px, side_px // 2), max_px=2 * side_px, step_px=step_px, upscale=True)


def _cache_of(run: Run) -> Path:
    """Where all runs beside this one keep what was encoded and what pictures took."""
    root = run.folder.parent
    return (root.parent if root.name == LOADED_FOLDER else root) / CACHE
