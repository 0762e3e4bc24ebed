"""Taggers that people know, where they come from, and from which score on their makers (or those who measured them) take a tag.

Sizes are those of the files at their sources where they are known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from .formats import CAMIE_V1, CAMIE_V2, CL, DEEPDANBOORU, DEEPGHS_OUTPUTS, JOYTAG, PIXAI, WD, TaggerFormat
from .labels import CL_LABELS, JOYTAG_LABELS, WD_LABELS, Z3D_LABELS
from .thresholds import Thresholds

_MODEL = "model.onnx"
DEEPDANBOORU_MODEL = "model-resnet_custom_v3.pt"
Site = Literal["Hugging Face", "GitHub"]


@dataclass(frozen=True)
class RemoteFile:
    path: str
    """Below its repository."""
    name: str
    """In the tagger's folder on this machine."""
    size_bytes: int | None = None


@dataclass(frozen=True)
class KnownTagger:
    name: str
    """Of its folder in models/wd_taggers."""
    repository: str
    """On its site."""
    files: tuple[RemoteFile, ...]
    format: TaggerFormat
    own_thresholds: Thresholds
    site: Site = "Hugging Face"

    @property
    def source(self) -> str:
        """Where its files come from, for people."""
        return f"{self.repository} on {self.site}"

    @property
    def size_bytes(self) -> int | None:
        """Of all files together; None if one is not known."""
        sizes = [file.size_bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size)


def _wd(name: str, general: float, model_bytes: int | None = None, labels_bytes: int | None = None) -> KnownTagger:
    files = (RemoteFile(WD_LABELS, WD_LABELS, labels_bytes), RemoteFile(_MODEL, _MODEL, model_bytes))
    return KnownTagger(name, f"SmilingWolf/{name}", files, WD, Thresholds(general))


_WD_V3_LABELS_BYTES = 308_468
_CAMIE_V1 = TaggerFormat(CAMIE_V1.name, CAMIE_V1.preprocessing, "probabilities", DEEPGHS_OUTPUTS)

KNOWN_TAGGERS: tuple[KnownTagger, ...] = (
    _wd("wd-swinv2-tagger-v3", 0.2653, 467_460_978, _WD_V3_LABELS_BYTES),
    _wd("wd-eva02-large-tagger-v3", 0.5296, 1_260_435_999, _WD_V3_LABELS_BYTES),
    _wd("wd-vit-large-tagger-v3", 0.2606, 1_260_645_673, _WD_V3_LABELS_BYTES),
    _wd("wd-vit-tagger-v3", 0.2614, 378_536_310, _WD_V3_LABELS_BYTES),
    _wd("wd-convnext-tagger-v3", 0.2682, 394_990_732, _WD_V3_LABELS_BYTES),
    _wd("wd-v1-4-moat-tagger-v2", 0.3771, 326_197_340, 253_906),
    _wd("wd-v1-4-swinv2-tagger-v2", 0.3771),
    _wd("wd-v1-4-convnextv2-tagger-v2", 0.371),
    _wd("wd-v1-4-convnext-tagger-v2", 0.3685),
    _wd("wd-v1-4-vit-tagger-v2", 0.3537),
    KnownTagger(
        "cl_tagger_1_02",
        "cella110n/cl_tagger",
        (
            RemoteFile(f"cl_tagger_1_02/{CL_LABELS}", CL_LABELS, 4_088_861),
            RemoteFile(f"cl_tagger_1_02/{_MODEL}", _MODEL, 1_425_860_192),
        ),
        CL,
        Thresholds(0.55, 0.55, 0.55, 0.55, 0.55, 0.55),
    ),
    KnownTagger(
        "pixai-tagger-v0.9",
        "deepghs/pixai-tagger-v0.9-onnx",
        (RemoteFile(WD_LABELS, WD_LABELS, 596_868), RemoteFile(_MODEL, _MODEL, 1_271_365_854)),
        PIXAI,
        Thresholds(0.3, 0.85),
    ),
    KnownTagger(
        "camie-tagger-v2",
        "Camais03/camie-tagger-v2",
        (
            RemoteFile("camie-tagger-v2-metadata.json", "camie-tagger-v2-metadata.json"),
            RemoteFile("camie-tagger-v2.onnx", "camie-tagger-v2.onnx"),
        ),
        CAMIE_V2,
        Thresholds(0.61, 0.61, 0.61, 0.61, 0.61, 0.61),
    ),
    KnownTagger(
        "camie-tagger-v1",
        "deepghs/camie_tagger_onnx",
        tuple(RemoteFile(f"initial/{name}", name) for name in ("preprocess.json", "threshold.json", WD_LABELS, _MODEL)),
        _CAMIE_V1,
        Thresholds(0.35, 0.35, 0.35, 0.35, 0.35, 0.35),
    ),
    KnownTagger(
        "joytag",
        "fancyfeast/joytag",
        (RemoteFile(JOYTAG_LABELS, JOYTAG_LABELS), RemoteFile(_MODEL, _MODEL, 366_116_154)),
        JOYTAG,
        Thresholds(0.4),
    ),
    KnownTagger(
        "Z3D-E621-Convnext",
        "toynya/Z3D-E621-Convnext",
        (RemoteFile(Z3D_LABELS, Z3D_LABELS), RemoteFile(_MODEL, _MODEL)),
        WD,
        Thresholds(0.35, 0.85),
    ),
    KnownTagger(
        "DeepDanbooru",
        "AUTOMATIC1111/TorchDeepDanbooru",
        (RemoteFile(f"releases/download/v1/{DEEPDANBOORU_MODEL}", DEEPDANBOORU_MODEL),),
        DEEPDANBOORU,
        Thresholds(0.5),
        "GitHub",
    ),
)
"""The best choice for most people first."""


def known_tagger(name: str) -> KnownTagger | None:
    """The known tagger called `name`, or whose repository is called so: blind to case, to `-` or `_`, and to folders in front."""
    last = _key(name.replace("\\", "/").rsplit("/", 1)[-1])
    if last == _key(DEEPDANBOORU_MODEL.removesuffix(".pt")):
        last = _key("DeepDanbooru")
    return next((known for known in KNOWN_TAGGERS if last in (_key(known.name), _key(known.repository.rsplit("/", 1)[-1]))), None)


def _key(name: str) -> str:
    return re.sub(r"[-_. ]+", "-", name).casefold()
