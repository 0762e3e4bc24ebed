"""Save Epoch and Plot Loss: what comes out of a run."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..trainer.drawing.palette import THEMES
from ..trainer.formats.files import load_tensors
from ..trainer.runs.files_beside import TEXT_FOLDER
from ..trainer.runs.promote import kind_folder, pick_epochs, promote, promote_beside, promote_words
from ..trainer.runs.run import Run
from . import host
from .images import open_rgb, shown, to_comfy
from .plots import draw_rates, save_loss_plot, save_runs_plot
from .types import RunWire

_MAX_RUNS = 4


class SaveEpoch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorSaveEpoch",
            display_name="Save Epoch",
            category="Athanor/training",
            description="Puts epochs of a run into models/loras (embeddings into models/embeddings, whole models into models/checkpoints or models/diffusion_models) under their final name, with all metadata and a preview picture.",
            search_aliases=["lora", "save", "checkpoint", "best"],
            is_output_node=True,
            inputs=[
                RunWire.Input("run", tooltip="A run, from a training node."),
                io.String.Input(
                    "epochs",
                    default="best",
                    tooltip="last, best (lowest loss on the held-out images), best by likeness or another score of Score Epochs, chosen (in XY Plot Compare), all, or numbers such as 2,4.",
                ),
                io.String.Input(
                    "filename",
                    default="",
                    tooltip="Name of the file without its ending. Empty takes the run's name. Other files are never overwritten.",
                ),
            ],
            outputs=[
                RunWire.Output("run", display_name="run"),
                io.LoraModel.Output("lora", display_name="lora", tooltip="The last of the saved epochs."),
                io.String.Output("files", display_name="files", tooltip="Names as the stock loaders list them, one a line."),
            ],
        )

    @classmethod
    def execute(cls, run: Run, epochs: str, filename: str) -> io.NodeOutput:
        folder = host.save_folder(kind_folder(run))
        chosen = pick_epochs(run, epochs)
        files = promote(run, chosen, folder, filename.strip())
        if run.content() == "checkpoint":
            beside = promote_beside(run, chosen, host.save_folder(TEXT_FOLDER), files)
            lora: Any = host.blocked(f"{run.name} is a whole model and no LoRA; pick {files[-1].name} in its loader instead.")
        else:
            beside = promote_words(run, chosen, host.save_folder("embeddings"))
            lora = load_tensors(files[-1])
        names = "\n".join(file.name for file in (*files, *beside))
        return io.NodeOutput(run, lora, names, ui=ui.PreviewText(names))


class PlotLoss(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        others = [
            RunWire.Input(f"run_{number}", optional=True, display_name=f"run {number}", tooltip="A further run, drawn in a colour of its own.")
            for number in range(2, _MAX_RUNS + 1)
        ]
        return io.Schema(
            node_id="AthanorPlotLoss",
            display_name="Plot Loss",
            category="Athanor/training",
            description="Draws the loss of a run: each step, its running mean, the loss on the held-out images, and where epochs were saved. Several runs are drawn into one picture, with their learning rates.",
            search_aliases=["loss", "graph", "curve", "compare runs"],
            is_output_node=True,
            inputs=[
                RunWire.Input("run", tooltip="A run, from a training node."),
                io.Boolean.Input("log_scale", default=False, display_name="log scale", tooltip="Makes small differences at a low loss visible."),
                *others,
                io.Combo.Input("theme", options=list(THEMES), default="dark", optional=True, tooltip="Light suits documents and print."),
            ],
            outputs=[
                io.Image.Output("plot", display_name="plot"),
                io.Image.Output("rates", display_name="rates", tooltip="The learning rates as they truly were: with Prodigy, those that it found."),
            ],
        )

    @classmethod
    def execute(
        cls,
        run: Run,
        log_scale: bool,
        run_2: Run | None = None,
        run_3: Run | None = None,
        run_4: Run | None = None,
        theme: str = "dark",
    ) -> io.NodeOutput:
        runs, colours = [each for each in (run, run_2, run_3, run_4) if each is not None], THEMES[theme]
        path = save_loss_plot(run, log_scale, colours) if len(runs) == 1 else save_runs_plot(runs, log_scale, colours)
        return io.NodeOutput(to_comfy([open_rgb(path)]), to_comfy([draw_rates(runs, colours)]), ui=shown([path]))
