"""Apply Epoch: what was trained, onto the models of a graph that samples with stock nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from comfy_api.latest import io

from ..trainer.errors import AthanorError
from ..trainer.files import file_sha256
from ..trainer.formats.embedding import read_vectors
from ..trainer.formats.layers import read_tensors_of
from ..trainer.runs.promote import kind_folder, pick_epochs
from ..trainer.runs.run import Epoch, Run
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
                io.Combo.Input(
                    "embedding", options=["none", *host.embedding_names()], default="none", optional=True,
                    tooltip="An embedding's file to apply where no run is connected: A1111's .pt, diffusers' and kohya's, too. Prompts call it embedding: and its file's name.",
                ),
            ],
            outputs=[io.Model.Output("model", display_name="MODEL"), io.Clip.Output("clip", display_name="CLIP")],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, lora: str, embedding: str = "none", **values: Any) -> str:
        """The files may change under their names."""
        at = host.embedding_path(embedding).stat().st_mtime_ns if embedding in host.embedding_names() else None
        return repr([host.changed_at(lora), at])

    @classmethod
    def execute(
        cls, model: Any, epoch: str, lora: str, strength_model: float, strength_clip: float, clip: Any = None, run: Run | None = None,
        embedding: str = "none",
    ) -> io.NodeOutput:  # fmt: skip
        from .patching import apply_adapter

        if embedding != "none":
            return io.NodeOutput(model, _with_words(clip, {_word(embedding): _embedding_file(run, lora, embedding)}, strength_clip))
        if run is not None and run.content() == "checkpoint":
            loader = "Load Checkpoint" if kind_folder(run) == "checkpoints" else "Load Diffusion Model"
            raise AthanorError(
                f"{run.name} is a whole model and not a change of one; pick its epoch in {loader}, where it is listed by its file's name."
            )
        chosen = _epoch(run, epoch, lora)
        token = run.token() if run is not None else ""
        # At another strength than 1 an embedding that was trained with a LoRA would no longer be what the LoRA learned with.
        words = {**({token: chosen.path} if token else {}), **dict(chosen.words)}
        clip = _with_words(clip, words, strength_clip if token else 1.0) if words else clip
        if token:
            return io.NodeOutput(model, clip)
        return io.NodeOutput(*apply_adapter(model, clip, read_tensors_of(chosen.path), strength_model, strength_clip, chosen.path.name))


def _with_words(clip: Any, files: Mapping[str, Path], strength: float) -> Any:
    """CLIP that reads each of these embeddings by its word."""
    from .patching import with_embedding

    if clip is None:
        raise AthanorError(f"{', '.join(files)} is an embedding, which lives in the text encoder; connect clip.")
    for word, path in files.items():
        clip = with_embedding(clip, read_vectors(path), word, strength, f"{file_sha256(path)[:16]}-{strength:g}")
    return clip


def _word(embedding: str) -> str:
    """By which prompts call it, wherever below models/embeddings it lies."""
    return PurePath(embedding.replace("\\", "/")).stem


def _embedding_file(run: Run | None, lora: str, embedding: str) -> Path:
    if run is not None or lora != "none":
        raise AthanorError(f"Apply Epoch has the embedding {embedding} and something else to apply; set embedding to none, or chain two nodes.")
    return host.embedding_path(embedding)


def _epoch(run: Run | None, epoch: str, lora: str) -> Epoch:
    """What to apply; of a file, an epoch of no run."""
    chosen = lora_file(lora)
    if run is None and chosen is None:
        raise AthanorError("Apply Epoch has nothing to apply: connect a run, or pick a file as lora.")
    if run is None:
        assert chosen is not None
        return Epoch(0, 0, chosen, "")
    if chosen is not None:
        raise AthanorError(f"Apply Epoch has both the run {run.name} and the file {lora}; set lora to none, or take the run off.")
    epochs = pick_epochs(run, epoch)
    if len(epochs) > 1:
        raise AthanorError(f"Epoch: {epoch!r} are {len(epochs)} epochs; Apply Epoch takes one. Chain two nodes to mix epochs.")
    return epochs[0]
