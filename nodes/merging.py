"""Merge Epochs: several epochs into one."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..trainer.errors import AthanorError
from ..trainer.formats.files import load_tensors
from ..trainer.merging.blocks import read_block_weights
from ..trainer.merging.files import merge_epochs
from ..trainer.merging.recipe import METHODS, choose, weighted
from ..trainer.merging.resize import Limit
from ..trainer.runs.run import Run
from . import host
from .given import give, gone
from .types import RunWire


class MergeEpochs(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorMergeEpochs",
            display_name="Merge Epochs",
            category="Athanor/training",
            description="Makes one LoRA of several: the average of the last epochs, a weighted sum of two trainings, or what one has and the other has not; also makes a LoRA smaller. The changes themselves are summed, exactly.",
            search_aliases=["merge lora", "resize lora", "average", "ema", "block weight", "svd", "add difference"],
            inputs=[
                RunWire.Input("run", tooltip="The run whose epochs are merged; files of other programs come from Load Run."),
                io.String.Input("epochs", default="last 3", tooltip="last 3, all, best, or numbers such as 2, 4; with weights 2*0.3, 4*0.7."),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    tooltip="average: the weights count as shares, so that the strength stays the same. sum: the weights count as they are. difference: the other run's epochs are taken away from this one's.",
                ),
                RunWire.Input("other_run", optional=True, display_name="other run", tooltip="A second run, if epochs of two trainings are merged."),
                io.String.Input("other_epochs", default="last", display_name="other epochs", tooltip="Of the other run, written as above."),
                io.Int.Input(
                    "rank", default=0, min=0, max=1024, tooltip="The most rank that a layer may have. 0 keeps the sum exact: its rank is the sum of the ranks. 16 to 64 make it as small as a LoRA usually is."
                ),
                io.Float.Input(
                    "energy", default=1.0, min=0.01, max=1.0, step=0.001, round=0.0001,
                    tooltip="Each layer gets the smallest rank that keeps this share of its change. 0.99 is hardly seen; 1 keeps all.",
                ),
                io.String.Input(
                    "block_weights", default="", multiline=True, display_name="block weights",
                    tooltip="Lines such as up_blocks: 0.5 or *attn2*: 0; a part of a layer's name, a colon and a factor. The last line that fits counts; the rest stays whole.",
                ),
                io.Combo.Input("precision", options=["fp16", "bf16", "fp32"], tooltip="Of the saved numbers. fp16 is what LoRAs usually have."),
                io.String.Input("name", default="", tooltip="Of the merge. Empty takes the run's name with -merged behind it; of an embedding, its word."),
            ],
            outputs=[
                RunWire.Output("run", display_name="run", tooltip="A run of one epoch, the merge: for XY Plot Compare, Apply Epoch and Save Epoch."),
                io.LoraModel.Output("lora", display_name="lora"),
                io.String.Output("report", display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, **values: Any) -> str:
        """Another one once a merge was cleaned away, so that it is made anew."""
        return gone()

    @classmethod
    def execute(
        cls, run: Run, epochs: str, method: str, other_epochs: str, rank: int, energy: float, block_weights: str, precision: str, name: str,
        other_run: Run | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        whole = next((each for each in (run, other_run) if each is not None and each.content() == "checkpoint"), None)
        if whole is not None:
            raise AthanorError(
                f"{whole.name} holds whole checkpoints, and Merge Epochs merges LoRAs and embeddings; load them and use ComfyUI's ModelMergeSimple."
            )
        if other_run is not None and other_run.content() != run.content():
            raise AthanorError(f"{run.name} and {other_run.name} are a LoRA and an embedding, which cannot be merged; connect two of a kind.")
        other = () if other_run is None else choose(other_run, other_epochs)
        chosen = weighted(method, choose(run, epochs), other)
        blocks = read_block_weights(block_weights)
        result = merge_epochs(
            host.runs_root(), name.strip() or run.token() or f"{run.name}-merged", run.content(), chosen, blocks, Limit(rank, energy), precision
        )
        (merged,) = result.run.epochs()
        give([merged.path])
        return io.NodeOutput(result.run, load_tensors(merged.path), result.report, ui=ui.PreviewText(result.report))
