"""Save Epoch and Plot Loss: what comes out of a run."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..trainer.formats.files import load_tensors
from ..trainer.promote import kind_folder, pick_epochs, promote
from ..trainer.rate_plot import rate_plot
from ..trainer.run import Run
from . import host
from .images import shown, to_comfy
from .plots import draw_loss_plot, save_loss_plot
from .types import RunWire


class SaveEpoch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorSaveEpoch",
            display_name="Save Epoch",
            category="Athanor/training",
            description="Puts epochs of a run into models/loras (embeddings into models/embeddings) under their final name, with all metadata and a preview picture.",
            search_aliases=["lora", "save", "checkpoint", "best"],
            is_output_node=True,
            inputs=[
                RunWire.Input("run", tooltip="A run, from a training node."),
                io.String.Input(
                    "epochs",
                    default="best",
                    tooltip="last, best (lowest loss on the held-out images), chosen (in XY Plot Compare), all, or numbers such as 2,4.",
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
        files = promote(run, pick_epochs(run, epochs), folder, filename.strip())
        names = "\n".join(file.name for file in files)
        return io.NodeOutput(run, load_tensors(files[-1]), names, ui=ui.PreviewText(names))


class PlotLoss(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorPlotLoss",
            display_name="Plot Loss",
            category="Athanor/training",
            description="Draws the loss of a run: each step, its running mean, the loss on the held-out images, and where epochs were saved.",
            search_aliases=["loss", "graph", "curve"],
            is_output_node=True,
            inputs=[
                RunWire.Input("run", tooltip="A run, from a training node."),
                io.Boolean.Input("log_scale", default=False, display_name="log scale", tooltip="Makes small differences at a low loss visible."),
            ],
            outputs=[
                io.Image.Output("plot", display_name="plot"),
                io.Image.Output("rates", display_name="rates", tooltip="The learning rates as they truly were: with Prodigy, those that it found."),
            ],
        )

    @classmethod
    def execute(cls, run: Run, log_scale: bool) -> io.NodeOutput:
        path = save_loss_plot(run, log_scale)
        return io.NodeOutput(to_comfy([draw_loss_plot(run, log_scale)]), to_comfy([rate_plot(run.rates(), run.name)]), ui=shown([path]))
