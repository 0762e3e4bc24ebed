"""XY Plot Compare: which epoch is the good one, at which strength."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..trainer.compare.axes import parse_epochs, parse_lines
from ..trainer.compare.kinds import AXES
from ..trainer.compare.pages import write_grids
from ..trainer.compare.recipe import Recipe
from ..trainer.compare.sheet import AxisText, Sheet, plan_sheet
from ..trainer.compare.sheet_file import write_sheet
from ..trainer.errors import AthanorError
from ..trainer.runs.run import Run
from ..trainer.types import BaseModel
from . import drawing, host
from .cells import draw_by_comfyui, draw_by_worker
from .comparing import Comparison, Samplers
from .images import batch_of, open_rgb, shown
from .sheets import name_of, shown_while_drawn
from .types import BaseModelWire, RunWire

_PREVIEW_PX = 2048
_OWN = "default"
_AXIS_TIP = (
    "What changes from {0} to {0}. epoch: all, last, best, every 2, or numbers, also several with commas. Numbers: 0.5, 1 or 0-1 (+0.25) or 0-1 [5]. "
    "Names and words: with commas or one a line. prompt: one a line; empty takes the prompts above."
)


class XYPlotCompare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        kinds = list(AXES.names())
        return io.Schema(
            node_id="AthanorXYPlotCompare",
            display_name="XY Plot Compare",
            category="Athanor/training",
            description="Draws the same prompt and seed with every epoch at every strength, or along any other two or three axes, beside the bare base model. Each picture is kept the moment it is there: after Cancel the rest is drawn, nothing twice.",
            search_aliases=["XYZ plot", "grid", "compare", "epoch", "lora strength"],
            is_output_node=True,
            inputs=[
                RunWire.Input("run", tooltip="The run whose epochs are compared, from a training node or Load Run."),
                BaseModelWire.Input(
                    "base_model",
                    optional=True,
                    tooltip="Draws in a process of its own with this model, from Load Base Model. Leave it out where model, clip and vae are connected.",
                ),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    tooltip="One prompt a line; each makes a grid of its own. Lines that start with # are left out. Empty takes the dataset's trigger.",
                ),
                drawing.negative_prompt(),
                io.Combo.Input("x_axis", options=kinds, default="strength", display_name="X axis", tooltip=_AXIS_TIP.format("column")),
                io.String.Input("x_values", default="0.6, 0.8, 1.0", multiline=True, display_name="X values", tooltip="The values of the X axis."),
                io.Combo.Input("y_axis", options=kinds, default="epoch", display_name="Y axis", tooltip=_AXIS_TIP.format("row")),
                io.String.Input("y_values", default="all", multiline=True, display_name="Y values", tooltip="The values of the Y axis."),
                io.Combo.Input("z_axis", options=kinds, default="none", display_name="Z axis", tooltip=_AXIS_TIP.format("page")),
                io.String.Input("z_values", default="", multiline=True, display_name="Z values", tooltip="The values of the Z axis."),
                io.Boolean.Input("baseline", default=True, tooltip="Also without the LoRA, to see what it changes."),
                drawing.seed("Every picture starts from this seed."),
                drawing.steps(),
                drawing.guidance("Classifier-free guidance (CFG)."),
                io.Int.Input(
                    "width", default=0, min=0, max=4096, step=8, tooltip="Of each picture in pixels. 0: the size that most images were trained in."
                ),
                io.Int.Input(
                    "height", default=0, min=0, max=4096, step=8, tooltip="Of each picture in pixels. 0: the size that most images were trained in."
                ),
                io.String.Input(
                    "epoch", default="best", advanced=True, tooltip="Which epoch is drawn where no axis is about epochs: best, last or a number."
                ),
                io.Float.Input(
                    "strength", default=1.0, min=-10.0, max=10.0, step=0.05, advanced=True, tooltip="Of the LoRA where no axis is about strengths."
                ),
                io.Combo.Input(
                    "sampler",
                    options=[_OWN, *host.samplers()],
                    default=_OWN,
                    advanced=True,
                    tooltip="With model, clip and vae only; default is euler there, and the family's own sampler otherwise.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=[_OWN, *host.schedulers()],
                    default=_OWN,
                    advanced=True,
                    tooltip="With model, clip and vae only; default is normal there.",
                ),
                io.Model.Input(
                    "model", optional=True, tooltip="With clip and vae: draws by ComfyUI's own sampling, as Load LoRA and KSampler would."
                ),
                io.Clip.Input("clip", optional=True, tooltip="Of the same checkpoint as the model."),
                io.Vae.Input("vae", optional=True, tooltip="Of the same checkpoint as the model."),
                io.String.Input(
                    "chosen",
                    default="",
                    optional=True,
                    socketless=True,
                    advanced=True,
                    tooltip="The epoch that you chose: Use this epoch in the viewer writes it, and it goes out as chosen_epoch. Empty: the one with the lowest held-out loss.",
                ),
                io.Float.Input(
                    "flux_guidance",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    optional=True,
                    advanced=True,
                    display_name="FLUX guidance",
                    tooltip="What FLUX.1 dev is told, as by the node FluxGuidance; guidance (CFG) is then 1. 0: its usual one; with base_model the guidance above.",
                ),
                io.Boolean.Input(
                    "plan_only",
                    default=False,
                    optional=True,
                    advanced=True,
                    display_name="plan only",
                    tooltip="Draws no pictures: checks everything, tells how many pictures it would be, how large and how long, and shows the empty grid.",
                ),
                RunWire.Input(
                    "run_2",
                    optional=True,
                    display_name="run 2",
                    tooltip="A second run beside the first. An axis about runs takes both where nothing is written for it.",
                ),
            ],
            outputs=[
                io.Image.Output("grid", display_name="grid", tooltip="One picture a page."),
                io.Image.Output(
                    "cells",
                    display_name="cells",
                    tooltip="The single pictures, row by row. So many that they would take over 4 GiB of memory are made smaller.",
                ),
                io.String.Output(
                    "chosen_epoch",
                    display_name="chosen_epoch",
                    tooltip="The epoch that you chose, otherwise the one with the lowest loss on the held-out images; Save Epoch takes it.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def execute(
        cls,
        run: Run,
        prompts: str,
        negative_prompt: str,
        x_axis: str,
        x_values: str,
        y_axis: str,
        y_values: str,
        z_axis: str,
        z_values: str,
        baseline: bool,
        seed: int,
        steps: int,
        guidance: float,
        width: int,
        height: int,
        epoch: str,
        strength: float,
        sampler: str,
        scheduler: str,
        base_model: BaseModel | None = None,
        model: Any = None,
        clip: Any = None,
        vae: Any = None,
        chosen: str = "",
        flux_guidance: float = 0.0,
        plan_only: bool = False,
        run_2: Run | None = None,
    ) -> io.NodeOutput:
        axes = (AxisText(x_axis, x_values), AxisText(y_axis, y_values), AxisText(z_axis, z_values))
        samplers = Samplers(base_model, model, clip, vae, _upstream(cls.hidden.prompt, cls.hidden.unique_id))
        comparison = Comparison.of(run, run_2, axes, samplers, (width, height))
        lines = parse_lines(prompts) or comparison.usual_prompts()
        recipe = Recipe(
            run=run.name,
            epoch=_epoch(epoch, comparison),
            strength_model=strength,
            strength_text=strength,
            prompt=lines[0] if lines else "",
            negative_prompt=negative_prompt,
            seed=seed,
            steps=steps,
            guidance=guidance,
            sampler="" if sampler == _OWN else sampler,
            scheduler="" if scheduler == _OWN else scheduler,
            flux_guidance=flux_guidance,
        )
        sheet = plan_sheet(comparison.folder, recipe, axes, lines, baseline, comparison.choices(lines, negative_prompt), comparison.hashes())
        comparison.check(sheet)
        title = f"{run.name} · seed {seed}" if "seed" not in (x_axis, y_axis, z_axis) else run.name
        forecast = comparison.forecast(sheet, title)
        host.say(cls.hidden.unique_id, forecast)
        host.raise_if_interrupted()
        draw = draw_by_worker if base_model is not None else draw_by_comfyui
        failed: dict[str, str] = {}
        with shown_while_drawn(sheet, cls.hidden.unique_id):
            try:
                if not plan_only:
                    failed = draw(comparison, sheet, cls.hidden.unique_id)
            finally:
                # Also after Cancel: what is there is worth a grid, and lies in the folder for a look.
                paths = write_grids(sheet, title, failed, comparison.size_px)
                write_sheet(sheet, failed)
        if base_model is None and host.previews_sampling():
            # The page keeps a node's last preview; rather the grid than the last picture half-way.
            host.Progress(cls.hidden.unique_id).show(1, 1, open_rgb(paths[0]), _PREVIEW_PX)
        grids, cells = batch_of(paths), _cells(sheet)
        best = run.best_epoch()
        picked = chosen.strip() or (str(best.number) if best else "")
        told = {**shown(paths), "athanor_sheet": [name_of(sheet)], "athanor_forecast": [forecast]}
        # Where only a plan is wanted there may be no picture yet.
        return io.NodeOutput(grids, batch_of(cells) if cells else grids, picked, ui=told)


def _epoch(text: str, comparison: Comparison) -> int:
    """Of the wired run, where no axis is about epochs."""
    epochs = comparison.epochs[comparison.run.name]
    if text.strip().lower() == "best":
        return epochs.usual()
    picked = parse_epochs(text, epochs.numbers, epochs.best)
    if len(picked) != 1:
        raise AthanorError(f"Epoch is {text!r}; write best, last or one number, or give the Y axis to the epochs.")
    return picked[0]


def _cells(sheet: Sheet) -> list[Path]:
    """Of every picture once, page by page and row by row."""
    recipes = dict.fromkeys(recipe for recipe in sheet.cells.values() if recipe is not None and sheet.path(recipe).is_file())
    return [sheet.path(recipe) for recipe in recipes]


def _upstream(prompt: Mapping[str, Any] | None, node_id: str | None) -> str:
    """What model, clip and vae come from, as text that is the same whenever they are: the nodes before them, their settings and the files these name."""
    nodes, found = prompt or {}, {}
    waiting = [(nodes.get(node_id or "") or {}).get("inputs", {}).get(name) for name in ("model", "clip", "vae")]
    while waiting:
        link = waiting.pop()
        if isinstance(link, list) and len(link) == 2 and link[0] in nodes and link[0] not in found:
            each = nodes[link[0]]
            found[link[0]] = [each.get("class_type"), each.get("inputs"), *host.files_named(each.get("inputs", {}).values())]
            waiting += list(each.get("inputs", {}).values())
    return repr(sorted(found.items())) if found else ""
