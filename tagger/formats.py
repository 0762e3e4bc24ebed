"""The kinds of tagger models: what each wants to see and what comes out of it.

Sources: SmilingWolf/wd-tagger (Hugging Face space) for WD and Z3D; sd-scripts' tag_images_by_wd14_tagger for cl_tagger; the repositories
Camais03/camie-tagger, Camais03/camie-tagger-v2 and fancyfeast/joytag; the export script of deepghs/pixai-tagger-v0.9-onnx; modules/deepbooru.py of A1111's webui.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .preprocess import Preprocessing

OutputKind = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class Output:
    """An output of a model that holds the scores. `*` in its name stands for any text."""

    name: str
    kind: OutputKind


@dataclass(frozen=True)
class TaggerFormat:
    name: str
    """For people."""
    preprocessing: Preprocessing
    """`side_px` is for models that leave it open; else the model's own counts."""
    kind: OutputKind
    """Of the first output that fits the labels, if none of `outputs` is there."""
    outputs: tuple[Output, ...] = ()
    """Where models have several: the first that is there counts."""
    layout: Literal["NHWC", "NCHW"] = "NCHW"
    """Of models that leave the number of channels open; else the model's own counts."""


_HALF = (0.5, 0.5, 0.5)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

WD = TaggerFormat("WD", Preprocessing(), "probabilities", layout="NHWC")

CL = TaggerFormat("cl_tagger", Preprocessing(scale=1 / 255, mean=_HALF, std=_HALF), "logits")

DEEPGHS_OUTPUTS = (Output("prediction", "probabilities"), Output("output", "probabilities"), Output("logits", "logits"))
"""Of models that have a preprocess.json, as the deepghs and animetimm exports do."""

PIXAI = TaggerFormat(
    "PixAI",
    Preprocessing(fit="stretch", resample="bilinear", channels="RGB", scale=1 / 255, mean=_HALF, std=_HALF),
    "probabilities",
    DEEPGHS_OUTPUTS,
)

_CAMIE_OUTPUTS = (Output("refined*", "logits"),)
_CAMIE_SIZE = Preprocessing(side_px=512, fit="resize-then-pad", pad_colour=(0, 0, 0), resample="lanczos", channels="RGB", scale=1 / 255)
CAMIE_V1 = TaggerFormat("Camie v1", _CAMIE_SIZE, "logits", _CAMIE_OUTPUTS)
CAMIE_V2 = TaggerFormat(
    "Camie v2",
    Preprocessing(
        side_px=512,
        fit="resize-then-pad",
        pad_colour=(124, 116, 104),
        resample="lanczos",
        channels="RGB",
        scale=1 / 255,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    "logits",
    _CAMIE_OUTPUTS,
)

JOYTAG = TaggerFormat("JoyTag", Preprocessing(channels="RGB", scale=1 / 255, mean=_CLIP_MEAN, std=_CLIP_STD), "logits")

DEEPDANBOORU = TaggerFormat(
    "DeepDanbooru", Preprocessing(side_px=512, fit="resize-then-extend", resample="lanczos", channels="RGB", scale=1 / 255), "probabilities"
)
