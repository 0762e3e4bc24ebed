"""XY Plot Compare: which epoch is the good one, at which strength."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ..trainer.compare.axes import parse_epochs, parse_numbers
from ..trainer.compare.grid import GridPage, draw_grid
from ..trainer.compare.sheet import BASELINE, Look, Sheet, plan_sheet, write_sheet_job
from ..trainer.errors import AthanorError
from ..trainer.files import replace_atomically
from ..trainer.milestones import commonest_bucket
from ..trainer.run import Run
from ..trainer.types import BaseModel
from ..trainer.validate import check_compare_job
from . import host
from .images import open_rgb, shown, to_comfy
from .types import BaseModelWire, RunWire
from .worker import run_worker

_MAX_CELLS = 2000
_MIN_CELL_PX = 160
_PREVIEW_PX = 2048


class XYPlotCompare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorXYPlotCompare",
            display_name="XY Plot Compare",
            category="Athanor/training",
            description="Draws the same prompt and seed with every epoch at every strength, beside the bare base model. Each picture is kept the moment it is there: after Cancel the rest is drawn, nothing twice.",
            search_aliases=["XYZ plot", "grid", "compare", "epoch", "lora strength"],
            is_output_node=True,
            inputs=[
                RunWire.Input("run", tooltip="The run whose epochs are compared, from Train LoRA."),
                BaseModelWire.Input("base_model", tooltip="The model to draw with, from Load Base Model; another one of the same family works too."),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    tooltip="One prompt a line; each makes a grid of its own. Lines that start with # are left out.",
                ),
                io.String.Input("negative_prompt", default="", display_name="negative prompt", tooltip="What the pictures should not show."),
                io.String.Input("epochs", default="all", tooltip="Rows: all, last, every 2, or numbers and ranges such as 2, 4, 6-10."),
                io.String.Input(
                    "strengths", default="0.6, 0.8, 1.0", tooltip="Columns: numbers and ranges, such as 0.5, 1 or 0-1 (+0.25) or 0-1 [5]."
                ),
                io.Boolean.Input("baseline", default=True, tooltip="A row without the LoRA, to see what it changes."),
                io.Int.Input("seed", default=1, min=0, max=2**32 - 1, control_after_generate=False, tooltip="Every picture starts from this seed."),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Sampling steps of each picture."),
                io.Float.Input("guidance", default=7.0, min=0.0, max=100.0, step=0.5, tooltip="Classifier-free guidance (CFG)."),
                io.Int.Input(
                    "width", default=0, min=0, max=4096, step=8, tooltip="Of each picture in pixels. 0: the size that most images were trained in."
                ),
                io.Int.Input(
                    "height", default=0, min=0, max=4096, step=8, tooltip="Of each picture in pixels. 0: the size that most images were trained in."
                ),
            ],
            outputs=[
                io.Image.Output("grid", display_name="grid", tooltip="One picture a prompt."),
                io.Image.Output("cells", display_name="cells", tooltip="The single pictures, row by row."),
                io.String.Output(
                    "chosen_epoch", display_name="chosen_epoch", tooltip="The epoch with the lowest loss on the held-out images; Save Epoch takes it."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        run: Run,
        base_model: BaseModel,
        prompts: str,
        negative_prompt: str,
        epochs: str,
        strengths: str,
        baseline: bool,
        seed: int,
        steps: int,
        guidance: float,
        width: int,
        height: int,
    ) -> io.NodeOutput:
        job = run.train_job()
        if job.kind != "lora":
            raise AthanorError(
                f"{run.name} is an embedding; XY Plot Compare draws LoRAs. Write embedding:{run.name}-000001 in the prompt of a stock node to see an epoch of it."
            )
        if base_model.family != job.base.family:
            raise AthanorError(
                f"{run.name} was trained on {job.base.family}, but {base_model.name} is {base_model.family}; connect a base model of the same family."
            )
        lines = tuple(line for raw in prompts.splitlines() if (line := raw.strip()) and not line.startswith("#")) or (job.dataset.trigger,)
        available = {epoch.number: epoch for epoch in run.epochs()}
        chosen = [available[number] for number in parse_epochs(epochs, tuple(available))]
        size_px = commonest_bucket(job.dataset.with_role("train"))
        look = Look(negative_prompt, steps, guidance, width or size_px[0], height or size_px[1], job.train.precision)
        sheet, sheet_job = plan_sheet(run, base_model, chosen, parse_numbers(strengths, "Strengths"), lines, seed, baseline, look)
        if len(sheet.cells) > _MAX_CELLS:
            raise AthanorError(
                f"The grid would have {len(sheet.cells)} pictures; at most {_MAX_CELLS} are drawn. Compare fewer epochs, strengths or prompts."
            )
        check_compare_job(sheet_job)
        host.raise_if_interrupted()
        if sheet.num_finished < len(sheet.cells):
            worker_run = write_sheet_job(sheet, sheet_job)
            try:
                run_worker(worker_run, cls.hidden.unique_id)
            except host.Interrupted:
                # What is there is worth a grid: it lies in the folder for a look.
                _write_grids(sheet, run, seed)
                raise
        paths = _write_grids(sheet, run, seed)
        cells = [
            open_rgb(sheet.file(row, strength, prompt))
            for prompt in sheet.prompts
            for row in sheet.rows
            for strength in ((0.0,) if row == BASELINE else sheet.strengths)
        ]
        # The page shows a node's last preview rather than its pictures, so the last preview is the grid.
        host.Progress(cls.hidden.unique_id).show(1, 1, open_rgb(paths[0]), _PREVIEW_PX)
        best = run.best_epoch()
        return io.NodeOutput(to_comfy([open_rgb(path) for path in paths]), to_comfy(cells), str(best.number) if best else "", ui=shown(paths))


def _write_grids(sheet: Sheet, run: Run, seed: int) -> list[Path]:
    """A grid for each prompt; pictures that are not there yet leave a gap."""
    best = run.best_epoch()
    paths = []
    for i, prompt in enumerate(sheet.prompts, start=1):
        pictures = tuple(tuple(_if_there(sheet.file(row, strength, prompt)) for strength in sheet.strengths) for row in sheet.rows)
        known = [picture for row in pictures for picture in row if picture is not None]
        page = GridPage(
            title=f"{run.name} · {prompt} · seed {seed}",
            columns=tuple(f"strength {strength:g}" for strength in sheet.strengths),
            rows=tuple(
                "no LoRA"
                if row == BASELINE
                else f"epoch {row}" + (" (best)" if best and best.validation_loss is not None and row == best.number else "")
                for row in sheet.rows
            ),
            pictures=pictures,
        )
        image = draw_grid(page, _cell_px(known[0].size if known else (256, 256)))
        path = sheet.folder / f"grid-{i:02d}.png"
        replace_atomically(path, lambda temporary, image=image: image.save(temporary, format="PNG"))
        paths.append(path)
    return paths


def _cell_px(picture_px: tuple[int, int]) -> tuple[int, int]:
    """Small pictures are shown enlarged by a whole number, so that the labels have room."""
    times = max(1, -(-_MIN_CELL_PX // max(picture_px)))
    return picture_px[0] * times, picture_px[1] * times


def _if_there(path: Path):
    return open_rgb(path) if path.is_file() else None
