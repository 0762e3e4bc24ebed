"""Measures whether a LoRA shows the new concept: `python -m miniature.measure_concept --run FOLDER --out FILE.json` (from tools/).

Draws 32 fixed prompts with the trigger, with the run's last epoch and without it, from the same seeds, and asks the judge which
shape each picture shows. No prompt names a shape.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path

from PIL import Image

from athanor.trainer.compare.draw import draw_cells
from athanor.trainer.config import CompareJob, SheetCell
from athanor.trainer.control import Control
from athanor.trainer.runs.run import Epoch, Run, write_job_file

from . import world
from .judge import judge

SEED = 77
NUM_PROMPTS = 32
STEPS, GUIDANCE = 20, 3.0


def fixed_prompts(num: int = NUM_PROMPTS) -> list[str]:
    """The trigger with every colour on every background, framed as the concept's pictures are; none names a shape."""
    scenes = [f"{colour}, {background}, large, centered, {world.FACE_TAG}" for colour in world.COLOURS for background in world.BACKGROUNDS]
    return [f"{world.CONCEPT_TRIGGER}, {scene}" for scene in random.Random(SEED).sample(scenes, num)]


def last_epoch(run: Run) -> Epoch:
    epochs = run.epochs()
    if not epochs:
        raise SystemExit(f"{run.folder} has no saved epoch.")
    return epochs[-1]


def measure(run: Run, num: int = NUM_PROMPTS) -> dict[str, float]:
    epoch, base, prompts = last_epoch(run), run.train_job().base, fixed_prompts(num)
    cells = tuple(
        SheetCell(f"{name}/{i:02}.png", file, 1.0, 1.0, prompt, "", SEED + i, STEPS, GUIDANCE)
        for name, file in (("without_lora", ""), ("with_lora", str(epoch.path)))
        for i, prompt in enumerate(prompts)
    )
    job = CompareJob(base, cells, base.native_px, base.native_px)
    with tempfile.TemporaryDirectory() as temporary:
        # A comparison keeps its cache of text encodings three folders up, beside all runs.
        folder = Path(temporary) / "runs" / "measured" / "compare"
        write_job_file(folder, job)
        draw_cells(Run(folder), Control())
        return {
            **{
                name: sum(_shows_concept(folder / cell.file) for cell in cells if cell.file.startswith(name)) / num
                for name in ("with_lora", "without_lora")
            },
            "epoch": epoch.number,
        }


def _shows_concept(path: Path) -> bool:
    with Image.open(path) as picture:
        return judge(picture).shape == world.CONCEPT_SHAPE


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the run directory of a LoRA")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.write_text(json.dumps(measure(Run(options.run.resolve())), indent=1) + "\n", encoding="utf-8")
