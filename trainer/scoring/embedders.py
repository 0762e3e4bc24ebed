"""Models that say what a picture shows, found on this machine: CLIP and DINO by transformers, or any image model as ONNX. Nothing is downloaded.

A folder with `config.json` is a model of transformers; a `.safetensors` file is the image half of a CLIP, as ComfyUI's models/clip_vision has it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from ..errors import AthanorError
from ..formats.header import read_header
from .features import looks_of

if TYPE_CHECKING:
    import numpy
    import torch

BUILT_IN = ""
"""In place of a path: shapes and colours, which need no model."""
_BATCH = 8
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Embedder(Protocol):
    def images(self, pictures: Sequence[Image.Image]) -> numpy.ndarray:
        """float32 [N, D], each of unit length."""
        ...

    def texts(self, texts: Sequence[str]) -> numpy.ndarray | None:
        """float32 [N, D], each of unit length, to be compared with images; None where the model reads no text."""
        ...


def kind_of_embedder(path: Path) -> str:
    """ "clip", "clip-vision", "dino" or "onnx". Raises AthanorError for what is none of them."""
    if path.is_file() and path.suffix.lower() == ".onnx":
        return "onnx"
    if path.is_file() and path.suffix.lower() == ".safetensors":
        if "vision_model.embeddings.patch_embedding.weight" in read_header(path).shapes:
            return "clip-vision"
        raise AthanorError(f"{path} is not the image half of a CLIP (it has no vision_model); choose another likeness model.")
    try:
        told = json.loads((path / "config.json").read_text(encoding="utf-8")).get("model_type", "")
    except (OSError, ValueError, AttributeError):
        raise AthanorError(
            f"{path} is no model of transformers (it has no readable config.json) and no .onnx file; choose another likeness model."
        ) from None
    if told == "clip":
        return "clip"
    if told == "vit" or told.startswith(("dinov2", "dinov3_vit")):
        return "dino"
    raise AthanorError(f"The model in {path} is of the type {told!r}; for likeness only CLIP, DINO, DINOv2 and DINOv3 are known, or an .onnx file.")


def load_embedder(path: str, device: torch.device) -> Embedder:
    """`path` is that of the model, or BUILT_IN. Raises AthanorError naming the file if it cannot be loaded."""
    if path == BUILT_IN:
        return _Looks()
    kind = kind_of_embedder(Path(path))
    try:
        return {"clip": _Clip, "clip-vision": _ClipVision, "dino": _Dino, "onnx": _Onnx}[kind](Path(path), device)
    except (AthanorError, MemoryError):
        raise
    except Exception as error:  # whatever a broken file makes transformers, torch or onnxruntime raise
        reason = " ".join(str(error).split())[:300]
        raise AthanorError(
            f"The likeness model {path} cannot be loaded ({type(error).__name__}: {reason}). Download it again, or choose another."
        ) from error


class _Looks:
    def images(self, pictures: Sequence[Image.Image]) -> numpy.ndarray:
        return looks_of(pictures)

    def texts(self, texts: Sequence[str]) -> numpy.ndarray | None:
        return None


@dataclass(frozen=True)
class _Preparation:
    """How pictures are made ready: the shorter side to `resized_px`, its middle of `side_px`, then each channel centred and scaled."""

    side_px: int
    resized_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path, side_px: int, mean: tuple[float, ...], std: tuple[float, ...]) -> _Preparation:
        """From preprocessor_config.json in `folder`, otherwise as given."""
        try:
            told = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            told = {}
        if not isinstance(told, Mapping):
            told = {}
        side = _edge(told.get("crop_size") if told.get("do_center_crop", True) else told.get("size"), side_px)
        resized = _edge(told.get("size"), side)
        return cls(side, max(side, resized), tuple(told.get("image_mean", mean)), tuple(told.get("image_std", std)))

    def tensor(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """[N, 3, side, side]."""
        import numpy
        import torch

        cut = numpy.stack([numpy.asarray(self._cut(picture), dtype=numpy.float32) for picture in pictures]) / 255
        centred = (cut - numpy.array(self.mean, numpy.float32)) / numpy.array(self.std, numpy.float32)
        return torch.from_numpy(centred.transpose(0, 3, 1, 2).copy())

    def _cut(self, picture: Image.Image) -> Image.Image:
        scale = self.resized_px / min(picture.size)
        width, height = (max(self.side_px, round(side * scale)) for side in picture.size)
        resized = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - self.side_px) // 2, (height - self.side_px) // 2
        return resized.crop((left, top, left + self.side_px, top + self.side_px))


def _edge(told: object, otherwise: int) -> int:
    """Of `224`, `{"shortest_edge": 224}` or `{"height": 224, "width": 224}`."""
    if isinstance(told, Mapping):
        told = told.get("shortest_edge", told.get("height"))
    return int(told) if isinstance(told, (int, float)) and told > 0 else otherwise


class _Clip:
    """CLIP-I and CLIP-T (Radford et al. 2021; Ruiz et al. 2023, section 4.1)."""

    def __init__(self, folder: Path, device: torch.device):
        from transformers import CLIPModel, CLIPTokenizerFast

        self._model = CLIPModel.from_pretrained(str(folder), local_files_only=True).eval().to(device)
        self._device = device
        has_words = any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json"))
        self._tokenizer = CLIPTokenizerFast.from_pretrained(str(folder), local_files_only=True) if has_words else None
        self._preparation = _Preparation.read(folder, self._model.config.vision_config.image_size, _CLIP_MEAN, _CLIP_STD)

    def images(self, pictures: Sequence[Image.Image]) -> numpy.ndarray:
        model = self._model
        return _batched(
            pictures,
            lambda some: model.visual_projection(model.vision_model(pixel_values=self._preparation.tensor(some).to(self._device)).pooler_output),
        )

    def texts(self, texts: Sequence[str]) -> numpy.ndarray | None:
        if self._tokenizer is None:
            return None
        tokenizer, model = self._tokenizer, self._model

        def encoded(some: Sequence[str]) -> torch.Tensor:
            words = tokenizer(list(some), padding=True, truncation=True, max_length=77, return_tensors="pt").to(self._device)
            states = model.text_model(input_ids=words["input_ids"], attention_mask=words["attention_mask"]).pooler_output
            return model.text_projection(states)

        return _batched(texts, encoded)


class _ClipVision:
    """The image half of a CLIP in one file, without configuration: its sizes are those of its tensors."""

    def __init__(self, path: Path, device: torch.device):
        from safetensors.torch import load_file
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        tensors = {name: tensor.float() for name, tensor in load_file(path).items() if name.startswith(("vision_model.", "visual_projection."))}
        patches, places = tensors["vision_model.embeddings.patch_embedding.weight"], tensors["vision_model.embeddings.position_embedding.weight"]
        width, patch_px = patches.shape[0], patches.shape[-1]
        side_px = math.isqrt(places.shape[0] - 1) * patch_px
        layers = 1 + max(int(name.split(".")[3]) for name in tensors if name.startswith("vision_model.encoder.layers."))
        config = CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=tensors["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
            projection_dim=tensors["visual_projection.weight"].shape[0],
            num_hidden_layers=layers,
            # OpenAI's B has 12, L and OpenCLIP's H and bigG have 16.
            num_attention_heads=12 if width == 768 else 16,
            image_size=side_px,
            patch_size=patch_px,
            hidden_act="quick_gelu" if width <= 1024 else "gelu",
        )
        self._model = CLIPVisionModelWithProjection(config)
        missing = self._model.load_state_dict(tensors, strict=False).missing_keys
        if any(not name.endswith("position_ids") for name in missing):
            raise AthanorError(f"{path} lacks {missing[0]}; choose another likeness model.")
        self._model = self._model.eval().to(device)
        self._device = device
        self._preparation = _Preparation(side_px, side_px, _CLIP_MEAN, _CLIP_STD)

    def images(self, pictures: Sequence[Image.Image]) -> numpy.ndarray:
        return _batched(pictures, lambda some: self._model(pixel_values=self._preparation.tensor(some).to(self._device)).image_embeds)

    def texts(self, texts: Sequence[str]) -> numpy.ndarray | None:
        return None


class _Dino:
    """The class token of DINO (Caron et al. 2021; DreamBooth's, Ruiz et al. 2023), DINOv2 (Oquab et al. 2024) or DINOv3 (Siméoni et al. 2025)."""

    def __init__(self, folder: Path, device: torch.device):
        from transformers import AutoModel

        self._model = AutoModel.from_pretrained(str(folder), local_files_only=True).eval().to(device)
        self._device = device
        # The first DINO takes pictures of its own size only.
        side_px = self._model.config.image_size if self._model.config.model_type == "vit" else 224
        self._preparation = _Preparation.read(folder, side_px, _IMAGENET_MEAN, _IMAGENET_STD)

    def images(self, pictures: Sequence[Image.Image]) -> numpy.ndarray:
        return _batched(pictures, lambda some: self._model(pixel_values=self._preparation.tensor(some).to(self._device)).last_hidden_state[:, 0])

    def texts(self, texts: Sequence[str]) -> numpy.ndarray | None:
        return None


class _Onnx:
    """An image model as ONNX: one input [N, 3, H, W]; of its outputs the first of two dimensions, or the first token of the first one of three."""

    def __init__(self, path: Path, device: torch.device):
        try:
            import onnxruntime
        except ImportError:
            raise AthanorError(
                f"{path.name} needs onnxruntime, which this Python lacks; install it (pip install onnxruntime), or choose another likeness model."
            ) from None
        available = onnxruntime.get_available_providers()
        wanted = [
            name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available and (device.type == "cuda" or "CPU" in name)
        ]
        self._session = onnxruntime.InferenceSession(str(path), providers=wanted)
        given = self._session.get_inputs()[0]
        if len(given.shape) != 4 or given.shape[1] != 3:
            raise AthanorError(f"{path.name} takes {given.shape}, not pictures [N, 3, H, W]; choose another likeness model.")
        self._input, self._fixed_batch = given.name, given.shape[0] if isinstance(given.shape[0], int) else None
        outputs = self._session.get_outputs()
        ranked = [each for each in outputs if len(each.shape) == 2] or [each for each in outputs if len(each.shape) == 3]
        if not ranked:
            raise AthanorError(f"{path.name} gives no numbers for a whole picture; choose another likeness model.")
        self._output = ranked[0].name
        side_px = given.shape[2] if isinstance(given.shape[2], int) else 224
        self._preparation = _Preparation.read(path.parent, side_px, _IMAGENET_MEAN, _IMAGENET_STD)

    def images(self, pictures: Sequence[Image.Image]) -> numpy.ndarray:
        import torch

        def encoded(some: Sequence[Image.Image]) -> torch.Tensor:
            answers = self._session.run([self._output], {self._input: self._preparation.tensor(some).numpy()})[0]
            return torch.from_numpy(answers[:, 0] if answers.ndim == 3 else answers)

        return _batched(pictures, encoded, self._fixed_batch or _BATCH, is_fixed=self._fixed_batch is not None)

    def texts(self, texts: Sequence[str]) -> numpy.ndarray | None:
        return None


def _batched(items: Sequence, encode, size: int = _BATCH, is_fixed: bool = False) -> numpy.ndarray:
    """Unit vectors of `items`, so many at once; a fixed batch is filled up with its last item."""
    import torch

    pieces = []
    with torch.no_grad():
        for start in range(0, len(items), size):
            some = list(items[start : start + size])
            filled = [*some, *[some[-1]] * (size - len(some))] if is_fixed else some
            pieces.append(torch.nn.functional.normalize(encode(filled)[: len(some)].float().cpu(), dim=1))
    return torch.cat(pieces).numpy()
