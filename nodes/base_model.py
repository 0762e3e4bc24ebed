"""Load Base Model and Base Model From Wires: what to train upon."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from ..trainer.bases import base_fingerprint, describe_base
from ..trainer.errors import AthanorError
from ..trainer.families import family
from ..trainer.types import BaseModel
from . import host
from .given import gone
from .types import BaseModelWire

_WITHIN = "in the model"
_PREDICTIONS = {"flow": "a flow", "epsilon": "noise", "v": "v"}
_CLIP_SKIP_TOOLTIP = "Which layer of CLIP is read, counted from the end: 2 is usual for anime models of SD1.5. 0 is the family's own, as when CLIP Set Last Layer is left out."


class LoadBaseModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        encoders = [_WITHIN, *host.split_names("text_encoders")]
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
                    tooltip="A checkpoint from models/checkpoints, a diffusers folder from models/diffusers, a diffusion model from models/diffusion_models, or the miniature that comes with the pack.",
                ),
                *(
                    io.Combo.Input(
                        f"text_encoder_{number}",
                        options=encoders,
                        default=_WITHIN,
                        display_name=f"text encoder {number}",
                        tooltip="A file from models/text_encoders, for models that come without: CLIP-L, CLIP-G or T5, in any order.",
                        advanced=True,
                    )
                    for number in (1, 2, 3)
                ),
                io.Combo.Input(
                    "vae",
                    options=[_WITHIN, *host.split_names("vae")],
                    default=_WITHIN,
                    tooltip="A file from models/vae, for models that come without, or instead of the one in the model.",
                    advanced=True,
                ),
                io.Int.Input("clip_skip", default=0, min=0, max=12, display_name="clip skip", tooltip=_CLIP_SKIP_TOOLTIP, advanced=True),
                io.Combo.Input(
                    "prediction",
                    options=["auto", "epsilon", "v"],
                    default="auto",
                    tooltip="What the model was trained to predict. auto: as the file says. Choose v for a v-prediction model whose file does not tell.",
                    advanced=True,
                ),
            ],
            outputs=[BaseModelWire.Output("base_model", display_name="base_model")],
        )

    @classmethod
    def fingerprint_inputs(
        cls,
        model: str,
        text_encoder_1: str = _WITHIN,
        text_encoder_2: str = _WITHIN,
        text_encoder_3: str = _WITHIN,
        vae: str = _WITHIN,
        clip_skip: int = 0,
        prediction: str = "auto",
    ) -> str:
        encoders, vae_path = _split_paths((text_encoder_1, text_encoder_2, text_encoder_3), vae)
        return f"{base_fingerprint(host.base_model_path(model), encoders, vae_path)} {clip_skip} {prediction}"

    @classmethod
    def execute(
        cls,
        model: str,
        text_encoder_1: str = _WITHIN,
        text_encoder_2: str = _WITHIN,
        text_encoder_3: str = _WITHIN,
        vae: str = _WITHIN,
        clip_skip: int = 0,
        prediction: str = "auto",
    ) -> io.NodeOutput:
        path = host.base_model_path(model)
        if model == host.MINIATURE and not path.is_dir():
            raise AthanorError(f"The built-in miniature is missing at {path}; install the pack again.")
        encoders, vae_path = _split_paths((text_encoder_1, text_encoder_2, text_encoder_3), vae)
        return io.NodeOutput(describe_base(path, host.tokenizer_folders(), encoders, vae_path, clip_skip, prediction))


def _split_paths(encoders: tuple[str, ...], vae: str) -> tuple[tuple[Path, ...], Path | None]:
    chosen = tuple(host.split_path("text_encoders", name) for name in dict.fromkeys(encoders) if name != _WITHIN)
    return chosen, None if vae == _WITHIN else host.split_path("vae", vae)


class BaseModelFromWires(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorBaseModelFromWires",
            display_name="Base Model From Wires",
            category="Athanor",
            description="Takes any MODEL, CLIP and VAE of the graph as the base to train upon: of every loader, and merges and LoRAs as they are. What no file holds yet is written once into the output folder.",
            search_aliases=["merge", "base model", "checkpoint", "model to train"],
            inputs=[
                io.Model.Input("model", tooltip="With its merges and LoRAs, which become part of the base."),
                io.Clip.Input("clip", tooltip="With its LoRAs; CLIP Set Last Layer becomes the clip skip."),
                io.Vae.Input("vae"),
            ],
            outputs=[
                BaseModelWire.Output("base_model", display_name="base_model"),
                io.String.Output("report", display_name="report", tooltip="Where each part of the base was found, or written."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, model: Any = None, clip: Any = None, vae: Any = None) -> str:
        """Another one once a written file was cleaned away, so that it is written anew."""
        return gone()

    @classmethod
    def execute(cls, model: Any, clip: Any, vae: Any) -> io.NodeOutput:
        from .wires import clip_part, model_part, prediction_of, vae_part

        parts = {"model": model_part(model), "text encoders": clip_part(clip), "VAE": vae_part(vae)}
        denoiser = parts["model"].paths[0]
        others = [tuple(path for path in parts[name].paths if path != denoiser) for name in ("text encoders", "VAE")]
        base = describe_base(denoiser, host.tokenizer_folders(), others[0], others[1][0] if others[1] else None)
        base = _as_wired(base, prediction_of(model), abs(clip.layer_idx or 0))
        if parts["model"].written:
            base = dataclasses.replace(base, name="model of the graph")
        report = "\n".join(
            f"{name}: {', '.join(path.name for path in part.paths)}{' (written from the wire)' if part.written else ''}"
            for name, part in parts.items()
        )
        return io.NodeOutput(base, report, ui=ui.PreviewText(report))


def _as_wired(base: BaseModel, prediction: tuple[str, bool], clip_skip: int) -> BaseModel:
    """With the prediction that the wire's sampling node has set, and its clip skip; the fingerprint covers the first.

    Raises AthanorError for what a model of that family is not trained with.
    """
    title = family(base.family).title
    if (base.prediction == "flow") != (prediction[0] == "flow"):
        raise AthanorError(
            f"The model on this wire is {title}, but a ModelSampling node has set it to predict {_PREDICTIONS[prediction[0]]}; connect the model from before it."
        )
    if clip_skip and not family(base.family).max_clip_skip:
        raise AthanorError(
            f"CLIP Set Last Layer reads another layer than {title} was made with, which cannot be trained; connect the clip from before it."
        )
    if base.prediction == "flow":
        return base
    changed = dataclasses.replace(base, clip_skip=clip_skip)
    if prediction == (base.prediction, base.zero_terminal_snr):
        return changed
    told = f"{base.fingerprint} {prediction}"
    fingerprint = hashlib.sha256(told.encode("ascii")).hexdigest()
    return dataclasses.replace(changed, prediction=prediction[0], zero_terminal_snr=prediction[1], fingerprint=fingerprint)
