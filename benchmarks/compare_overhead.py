"""What does a comparison cost beside the sampling itself?  `python benchmarks/compare_overhead.py [--base FOLDER] [--steps N]`

A grid of 5 epochs x 5 strengths, drawn twice in one process and in turns: by a bare loop that has everything in memory and only
samples, and by Athanor, which reads the epochs' files, puts them on at each strength, encodes prompts, keeps every picture with its
parameters, tells its events and draws the grid. Prints seconds of processor time a picture of both and their ratio: on a machine that does other work, too,
what the clock on the wall shows says little. The time to load the base, once for
each of them, is told apart. Then 20 epochs x 3 strengths are put on one after the other: how long a change takes, and how often the base
was loaded. Measured with the base that comes with the pack, whose pictures are so quick that every overhead shows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach, export, trained
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.bases import describe_base
from athanor.trainer.compare.draw import draw_cells
from athanor.trainer.compare.kinds import Choices, RunEpochs
from athanor.trainer.compare.pages import write_grids
from athanor.trainer.compare.painter import Painter
from athanor.trainer.compare.recipe import BASELINE, Recipe
from athanor.trainer.compare.sheet import AxisText, Sheet, plan_sheet
from athanor.trainer.compare.sheet_file import write_sheet
from athanor.trainer.config import CompareJob, SheetCell
from athanor.trainer.control import Control
from athanor.trainer.data.cache import TensorCache
from athanor.trainer.families import family as family_named
from athanor.trainer.families.base import Framing, Prompted
from athanor.trainer.formats.files import save_tensors
from athanor.trainer.runs.run import Run, write_job_file
from athanor.trainer.settings import AdapterSettings
from athanor.trainer.types import BaseModel

MINIATURE = Path(__file__).resolve().parent.parent / "trainer" / "miniature" / "base"
PROMPT, SEED, GUIDANCE, RANK = "circle, yellow, white background, large, centered, smile", 1, 3.0, 16
STRENGTHS, NUM_EPOCHS = (0.25, 0.5, 0.75, 1.0, 1.25), 5
MANY_EPOCHS, FEW_STRENGTHS = 20, (0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Drawn:
    load_sec: float
    pictures_sec: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=MINIATURE)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    base, num = describe_base(options.base), NUM_EPOCHS * len(STRENGTHS)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        files = _epoch_files(base, root / "epochs", MANY_EPOCHS)
        ours, bare = [], []
        for number in range(options.rounds):
            # A comparison keeps its cache of text encodings three folders up.
            folder = root / f"round {number}" / "run" / "compare" / "sheet"
            bare.append(_bare_loop(base, num, options.steps))
            ours.append(_comparison(base, files[:NUM_EPOCHS], folder, options.steps))
        changes_sec, load_sec = _changes(base, files, root)
    theirs, mine = (min(each.pictures_sec for each in runs) / num for runs in (bare, ours))
    loads = [min(each.load_sec for each in runs) for runs in (bare, ours)]
    sys.stdout.write(
        f"bare sampling  {theirs:.4f} s a picture (loading the base before it took {loads[0]:.2f} s)\n"
        f"Athanor        {mine:.4f} s a picture (loading the base before it took {loads[1]:.2f} s)\n"
        f"ratio          {mine / theirs:.3f}\n"
        f"{len(changes_sec)} changes of epoch and strength with one load of the base ({load_sec:.2f} s): "
        f"{1000 * statistics.median(changes_sec):.1f} ms each, {1000 * max(changes_sec):.1f} ms at most\n"
    )


def _epoch_files(base: BaseModel, folder: Path, num: int) -> list[Path]:
    """LoRAs with random weights, each a file as a training saves it."""
    family, kind, settings = family_named(base.family), adapter("lora"), AdapterSettings(rank=RANK)
    denoiser = family.load_denoiser(base, torch.float32)
    layers = attach(kind, denoiser, plan_layers(denoiser, "denoiser", family.adapter_targets("denoiser"), settings), settings, 0)
    draw, files = torch.Generator().manual_seed(0), []
    for number in range(num):
        for tensor in trained(kind, layers).values():
            tensor.data = 0.02 * torch.randn(tensor.shape, generator=draw)
        files.append(folder / f"epoch-{number + 1:06d}.safetensors")
        save_tensors(files[-1], export(kind, layers, lambda name: family.export_key("denoiser", name)), {}, "fp16")
    return files


def _sheet(files: list[Path], folder: Path, steps: int) -> Sheet:
    numbers = tuple(range(1, len(files) + 1))
    choices = Choices({"run": RunEpochs(numbers, None)}, (), (), (), PROMPT)
    axes = (AxisText("strength", ", ".join(map(str, STRENGTHS))), AxisText("epoch", "all"), AxisText("none"))
    recipe = Recipe(run="run", epoch=1, prompt=PROMPT, seed=SEED, steps=steps, guidance=GUIDANCE)
    return plan_sheet(folder, recipe, axes, (PROMPT,), False, choices, {("run", number): str(number) for number in numbers})


def _cells(sheet: Sheet, files: list[Path]) -> tuple[SheetCell, ...]:
    return tuple(
        SheetCell(
            file=sheet.files[recipe],
            epoch_file=str(files[recipe.epoch - 1]) if recipe.epoch != BASELINE else "",
            strength_model=recipe.strength_model,
            strength_text=recipe.strength_text,
            prompt=recipe.prompt,
            negative_prompt=recipe.negative_prompt,
            seed=recipe.seed,
            steps=recipe.steps,
            guidance=recipe.guidance,
        )
        for recipe in sheet.recipes
    )


def _comparison(base: BaseModel, files: list[Path], folder: Path, steps: int) -> Drawn:
    """From the plan to the grid's picture; loading is what a painter of the same job takes to be ready."""
    started_sec = time.process_time()
    sheet = _sheet(files, folder, steps)
    job = CompareJob(base, _cells(sheet, files), base.native_px, base.native_px, "fp32")
    write_job_file(folder, job)
    draw_cells(Run(folder), Control())
    write_grids(sheet, "overhead", {}, (base.native_px, base.native_px))
    write_sheet(sheet, {})
    whole_sec = time.process_time() - started_sec
    assert not sheet.missing()
    load_sec = _loaded(job, folder)[1]
    return Drawn(load_sec, whole_sec - load_sec)


def _loaded(job: CompareJob, folder: Path) -> tuple[Painter, float]:
    started_sec = time.process_time()
    painter = Painter(job, torch.device("cpu"), TensorCache(folder.parents[2] / ".cache"))
    painter.load(job.cells)
    return painter, time.process_time() - started_sec


def _bare_loop(base: BaseModel, num: int, steps: int) -> Drawn:
    """The sampling alone, with a LoRA of the same form on the model, its pictures thrown away."""
    started_sec = time.process_time()
    family, settings, kind = family_named(base.family), AdapterSettings(rank=RANK), adapter("lora")
    text = family.load_text(base, torch.float32)
    vae, denoiser = family.load_vae(base), family.load_denoiser(base, torch.float32)
    attach(kind, denoiser, plan_layers(denoiser, "denoiser", family.adapter_targets("denoiser"), settings), settings, 0)
    denoiser.requires_grad_(False)
    size_px = (base.native_px, base.native_px)
    with torch.no_grad():
        positive, negative = (family.frame(family.encode_text(text, [words], 1), [Framing.whole(size_px)]) for words in (PROMPT, ""))
        load_sec = time.process_time() - started_sec
        started_sec = time.process_time()
        for _ in range(num):
            family.sample(base, denoiser, vae, [Prompted(positive, negative, SEED)], steps, GUIDANCE, size_px)
    return Drawn(load_sec, time.process_time() - started_sec)


def _changes(base: BaseModel, files: list[Path], root: Path) -> tuple[list[float], float]:
    """Seconds of processor time of each change of epoch or strength, and of the one load before them."""
    cells = tuple(SheetCell(f"{i}.png", str(file), 1.0, 1.0, PROMPT, "", SEED, 1, GUIDANCE) for i, file in enumerate(files))
    job = CompareJob(base, cells, base.native_px, base.native_px, "fp32")
    painter, load_sec = _loaded(job, root / "many" / "run" / "compare" / "sheet")
    denoiser, seconds = painter.denoiser, []
    for file in files:
        for strength in FEW_STRENGTHS:
            started_sec = time.process_time()
            painter.wear(str(file), strength, strength)
            seconds.append(time.process_time() - started_sec)
    assert painter.denoiser is denoiser
    return seconds, load_sec


if __name__ == "__main__":
    main()
