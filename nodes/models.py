"""Merge Into Checkpoint and Extract LoRA: adapters into a model for good, and out of two models."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from comfy_api.latest import io, ui

from ..trainer.files import safe_name
from ..trainer.formats.files import load_tensors
from ..trainer.formats.header import read_header
from ..trainer.merging.additions import Addition
from ..trainer.merging.checkpoint import SaveFolders, merge_into_checkpoint
from ..trainer.merging.extract import Extraction, extract_lora
from ..trainer.merging.files import MERGED_FOLDER, tend_merges
from ..trainer.merging.lines import read_additions
from ..trainer.merging.recipe import choose
from ..trainer.merging.sources import PRECISIONS, Precision
from ..trainer.merging.spectrum import Bounds
from ..trainer.runs.run import Run, open_loaded
from ..trainer.types import BaseModel
from . import host
from .given import give, gone
from .types import BaseModelWire, RunWire


class MergeIntoCheckpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorMergeIntoCheckpoint",
            display_name="Merge Into Checkpoint",
            category="Athanor/training",
            description="Writes a model with LoRAs in it as a file for the stock loaders: a checkpoint into models/checkpoints, a diffusion model into models/diffusion_models. Needs little memory, however large the model is.",
            search_aliases=["merge lora", "bake lora", "lora to checkpoint", "fuse", "save checkpoint"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                BaseModelWire.Input("base_model", tooltip="The model that the LoRAs are merged into, from Load Base Model. Its own file stays as it is."),
                RunWire.Input("run", optional=True, tooltip="A run whose epochs are merged; or leave it off and name files below."),
                io.String.Input("epochs", default="last", tooltip="Of the run: last, best, or numbers; with weights 2*0.3, 4*0.7."),
                io.Float.Input("strength_model", default=1.0, min=-100.0, max=100.0, step=0.01, display_name="strength model", tooltip="How strongly the run's epochs change the model."),
                io.Float.Input("strength_clip", default=1.0, min=-100.0, max=100.0, step=0.01, display_name="strength clip", tooltip="How strongly they change the text encoders."),
                io.String.Input(
                    "files", default="", multiline=True, tooltip="LoRA files, one a line, as Load LoRA lists them, with strengths: style.safetensors: 0.8. A second number is for the text encoders: 0.8, 0.4."
                ),
                io.Combo.Input("precision", options=list(PRECISIONS), tooltip="Of the written weights. fp16 halves a file in fp32; fp8 becomes bf16 where it is left as it is."),
                io.String.Input("filename", default="", tooltip="Name of the file without its ending. Empty takes the model's with -merged behind it. Other files are never overwritten."),
            ],
            outputs=[
                BaseModelWire.Output("base_model", display_name="base_model", tooltip="The merged model: for Train LoRA or XY Plot Compare."),
                io.String.Output("files", display_name="files", tooltip="Names as the stock loaders list them, one a line."),
                io.String.Output("report", display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, files: str, **values: Any) -> str:
        """The files themselves may change under their names, and what was written may be gone."""
        return repr([host.changed_at(str(each.path)) for each in read_additions(files)]) + gone()

    @classmethod
    def execute(
        cls, base_model: BaseModel, epochs: str, strength_model: float, strength_clip: float, files: str, precision: Precision, filename: str,
        run: Run | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        of_run = () if run is None else choose(run, epochs)
        additions = [Addition(epoch.path, weight * strength_model, weight * strength_clip) for epoch, weight in of_run]
        additions += read_additions(files, host.lora_path)
        folders = SaveFolders(*(host.save_folder(kind) for kind in ("checkpoints", "diffusion_models", "text_encoders")))
        progress = host.Progress(cls.hidden.unique_id)
        made = merge_into_checkpoint(base_model, additions, folders, filename.strip() or f"{base_model.name}-merged", precision, progress.show)
        give(made.files)
        return io.NodeOutput(made.base, "\n".join(file.name for file in made.files), made.report, ui=ui.PreviewText(made.report))


class ExtractLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorExtractLora",
            display_name="Extract LoRA",
            category="Athanor/training",
            description="Makes a LoRA of what a trained model has and its base has not: the nearest one of that rank, layer by layer. Says how much of the difference is in it.",
            search_aliases=["extract lora", "svd", "checkpoint difference", "lora from checkpoint", "locon"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                BaseModelWire.Input("base_model", tooltip="The model before the training, from Load Base Model."),
                BaseModelWire.Input("trained_model", display_name="trained_model", tooltip="The model after it: a DreamBooth, a fine-tune or a merge of the same family."),
                io.Int.Input("rank", default=64, min=0, max=4096, tooltip="The most rank that a linear layer gets. 0 sets no limit: the difference is kept whole."),
                io.Int.Input("conv_rank", default=32, min=0, max=4096, display_name="conv rank", tooltip="The most rank of a convolution, as in a LoCon. 0 leaves convolutions out."),
                io.Float.Input(
                    "energy", default=1.0, min=0.01, max=1.0, step=0.001, round=0.0001, tooltip="Each layer gets the smallest rank that keeps this share of its difference. 1 gives every layer the whole rank."
                ),
                io.Int.Input("min_rank", default=1, min=1, max=4096, display_name="min rank", tooltip="The least rank of a layer, where energy decides.", advanced=True),
                io.Float.Input(
                    "clamp", default=1.0, min=0.5, max=1.0, step=0.001, round=0.0001, tooltip="Cuts the largest numbers off at this quantile, as sd-scripts does with 0.99. 1 cuts nothing and is exact.", advanced=True
                ),
                io.Boolean.Input("text_encoders", default=True, display_name="text encoders", tooltip="Whether the text encoders' difference is taken too."),
                io.Combo.Input("names", options=["auto", "kohya", "diffusers"], tooltip="How the file names its layers. auto is what ComfyUI and most programs read.", advanced=True),
                io.Combo.Input("precision", options=["fp16", "bf16", "fp32"], tooltip="Of the saved numbers. fp16 is what LoRAs usually have."),
                io.String.Input("name", default="", tooltip="Of the LoRA. Empty takes the trained model's name with -lora behind it."),
            ],
            outputs=[
                RunWire.Output("run", display_name="run", tooltip="A run of one epoch, the LoRA: for XY Plot Compare, Apply Epoch and Save Epoch."),
                io.LoraModel.Output("lora", display_name="lora"),
                io.String.Output("report", display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, **values: Any) -> str:
        """Another one once a LoRA was cleaned away, so that it is made anew."""
        return gone()

    @classmethod
    def execute(
        cls, base_model: BaseModel, trained_model: BaseModel, rank: int, conv_rank: int, energy: float, min_rank: int, clamp: float,
        text_encoders: bool, names: str, precision: str, name: str,
    ) -> io.NodeOutput:  # fmt: skip
        linear, window = (Bounds(each, energy, min_rank, clamp) for each in (rank, conv_rank))
        wanted = Extraction(linear, window if conv_rank else None, text_encoders, names, precision, host.compute_device())
        said = json.dumps(
            [base_model.fingerprint, trained_model.fingerprint, rank, conv_rank, energy, min_rank, clamp, text_encoders, names, precision]
        )
        named = name.strip() or f"{trained_model.name}-lora"
        path = host.runs_root() / MERGED_FOLDER / f"{safe_name(named)}-{hashlib.sha256(said.encode('utf-8')).hexdigest()[:12]}.safetensors"
        if not path.is_file():
            host.free_memory()
            extract_lora(base_model, trained_model, path, wanted, host.Progress(cls.hidden.unique_id).show)
        give([path])
        tend_merges(path)
        report = read_header(path).metadata["athanor_extract"]
        run = open_loaded(host.runs_root(), named, "epoch", [(1, path)], "lora")
        return io.NodeOutput(run, load_tensors(path), report, ui=ui.PreviewText(report))
