"""Apply Epoch: what was trained, onto the models of a graph that samples with stock nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..trainer.errors import AthanorError
from ..trainer.files import file_sha256
from ..trainer.formats.layers import read_tensors_of
from ..trainer.promote import pick_epochs
from ..trainer.run import Run
from . import host
from .adapters import lora_file, lora_names
from .types import RunWire


class ApplyEpoch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorApplyEpoch",
            display_name="Apply Epoch",
            category="Athanor/training",
            description="Puts an epoch of a run, or a LoRA file, into MODEL and CLIP for stock nodes. Takes every kind that is trained here, IA³ too, which Load LoRA does not know.",
            search_aliases=["load lora", "lora loader", "ia3", "lycoris", "embedding"],
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model that is changed."),
                io.Clip.Input("clip", optional=True, tooltip="The text encoder that is changed. Needed for embeddings, and where the text encoder was trained."),
                RunWire.Input("run", optional=True, tooltip="The run whose epoch is applied. Without it, the file below is."),
                io.String.Input("epoch", default="last", tooltip="Of the run: last, best (lowest loss on the held-out images), or a number."),
                io.Combo.Input("lora", options=lora_names(), default="none", tooltip="The file to apply where no run is connected."),
                io.Float.Input(
                    "strength_model", default=1.0, min=-100.0, max=100.0, step=0.01, display_name="strength model", tooltip="How strongly the model is changed. 0 leaves it as it is."
                ),
                io.Float.Input(
                    "strength_clip", default=1.0, min=-100.0, max=100.0, step=0.01, display_name="strength clip", tooltip="How strongly the text encoder is changed; of an embedding, the factor of its vectors."
                ),
            ],
            outputs=[io.Model.Output("model", display_name="MODEL"), io.Clip.Output("clip", display_name="CLIP")],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, lora: str, **values: Any) -> int:
        """The file may change under its name."""
        return host.changed_at(lora)

    @classmethod
    def execute(
        cls, model: Any, epoch: str, lora: str, strength_model: float, strength_clip: float, clip: Any = None, run: Run | None = None
    ) -> io.NodeOutput:
        from .patching import apply_adapter, with_embedding

        path = _file(run, epoch, lora)
        tensors = read_tensors_of(path)
        if run is not None and (token := run.token()):
            if clip is None:
                raise AthanorError(f"{run.name} is an embedding, which lives in the text encoder; connect clip.")
            fingerprint = f"{file_sha256(path)[:16]}-{strength_clip:g}"
            return io.NodeOutput(model, with_embedding(clip, tensors, token, strength_clip, fingerprint))
        patched = apply_adapter(model, clip, tensors, strength_model, strength_clip, path.name)
        return io.NodeOutput(*patched)


def _file(run: Run | None, epoch: str, lora: str) -> Path:
    chosen = lora_file(lora)
    if run is None and chosen is None:
        raise AthanorError("Apply Epoch has nothing to apply: connect a run, or pick a file as lora.")
    if run is None:
        assert chosen is not None
        return chosen
    if chosen is not None:
        raise AthanorError(f"Apply Epoch has both the run {run.name} and the file {lora}; set lora to none, or take the run off.")
    epochs = pick_epochs(run, epoch)
    if len(epochs) > 1:
        raise AthanorError(f"Epoch: {epoch!r} are {len(epochs)} epochs; Apply Epoch takes one. Chain two nodes to mix epochs.")
    return epochs[0].path
