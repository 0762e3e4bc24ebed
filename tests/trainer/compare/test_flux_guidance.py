"""The axis of what FLUX.1 dev is told, from its text to the worker's pictures, on a tiny FLUX of random weights."""

from __future__ import annotations

import numpy
import torch
from PIL import Image
from tiny_flow import make_flux_folder

from athanor.trainer.bases import describe_base
from athanor.trainer.compare.draw import draw_cells
from athanor.trainer.compare.kinds import Choices, RunEpochs
from athanor.trainer.compare.recipe import BASELINE, Recipe
from athanor.trainer.compare.sheet import AxisText, plan_sheet
from athanor.trainer.config import CompareJob, SheetCell
from athanor.trainer.control import Control
from athanor.trainer.families import family as family_named
from athanor.trainer.families.base import Framing, Prompted
from athanor.trainer.runs.run import Run, write_job_file

PROMPT, SIDE_PX, STEPS, SEED = "a red thing", 32, 2, 9


def test_each_guidance_is_a_picture_of_its_own_as_the_model_draws_it(tmp_path):
    base = describe_base(make_flux_folder(tmp_path / "model").path)
    folder = tmp_path / "runs" / "run" / "compare" / "guidance"
    choices = Choices({"run": RunEpochs((1,), None)}, (), (), (), PROMPT, is_told_guidance=True)
    axes = (AxisText("flux guidance", "1, 3.5, 30-40 [2]"), AxisText("none"), AxisText("none"))
    recipe = Recipe(epoch=BASELINE, prompt=PROMPT, seed=SEED, steps=STEPS, guidance=1.0)
    sheet = plan_sheet(folder, recipe, axes, (PROMPT,), False, choices, {})
    assert sheet.columns == ("FLUX guidance 1", "FLUX guidance 3.5", "FLUX guidance 30", "FLUX guidance 40")
    cells = tuple(
        SheetCell(sheet.files[each], "", 0.0, 0.0, each.prompt, each.negative_prompt, each.seed, each.steps, each.flux_guidance)
        for each in sheet.recipes
    )
    write_job_file(folder, CompareJob(base, cells, SIDE_PX, SIDE_PX, "fp32"))
    draw_cells(Run(folder), Control())
    drawn = {cell.guidance: numpy.asarray(Image.open(folder / cell.file).convert("RGB"), dtype=numpy.int16) for cell in cells}
    assert sorted(drawn) == [1.0, 3.5, 30.0, 40.0] and len({picture.tobytes() for picture in drawn.values()}) == 4

    family, framing = family_named("flux"), [Framing.whole((SIDE_PX, SIDE_PX))]
    text, denoiser, vae = family.load_text(base, torch.float32), family.load_denoiser(base, torch.float32), family.load_vae(base)
    with torch.no_grad():
        conditioning = family.frame(family.encode_text(text, [PROMPT], 1), framing)
        (expected,) = family.sample(base, denoiser, vae, [Prompted(conditioning, conditioning, SEED)], STEPS, 3.5, (SIDE_PX, SIDE_PX))
    assert abs(drawn[3.5] - numpy.asarray(expected.convert("RGB"), dtype=numpy.int16)).max() <= 1
