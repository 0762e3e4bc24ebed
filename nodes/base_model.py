"""Load Base Model: what to train upon."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ..trainer.bases import describe_base
from ..trainer.errors import AthanorError
from ..trainer.files import content_fingerprint
from . import host
from .types import BaseModelWire


class LoadBaseModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorLoadBaseModel",
            display_name="Load Base Model",
            category="Athanor",
            description="Picks the model that a LoRA or embedding is trained upon. Only its header is read here; the weights are loaded when training starts.",
            search_aliases=["train", "checkpoint", "base model"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=host.base_model_names(),
                    tooltip="A checkpoint from models/checkpoints, a diffusers folder from models/diffusers, or the miniature that comes with the pack.",
                ),
            ],
            outputs=[BaseModelWire.Output("base_model", display_name="base_model")],
        )

    @classmethod
    def fingerprint_inputs(cls, model: str) -> str:
        return content_fingerprint(host.base_model_path(model))

    @classmethod
    def execute(cls, model: str) -> io.NodeOutput:
        path = host.base_model_path(model)
        if model == host.MINIATURE and not path.is_dir():
            raise AthanorError(f"The built-in miniature is missing at {path}; install the pack again.")
        return io.NodeOutput(describe_base(Path(path), host.tokenizer_folders()))
