"""Faces in pictures, by a detector's ONNX file: YuNet for photographs, the YOLO of deepghs/anime_face_detection for drawings."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from .errors import TaggerError
from .session import import_onnxruntime, refuse_pointer

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

ADVICE = (
    "Put face_detection_yunet_2023mar.onnx of opencv_zoo (photographs) or face_detect_v1.4_s/model.onnx of"
    " deepghs/anime_face_detection (drawings) into models/face_detectors."
)
Box = tuple[float, float, float, float]

_STRIDES = (8, 16, 32)
_YUNET_OUTPUTS = tuple(f"{part}_{stride}" for part in ("cls", "obj", "bbox") for stride in _STRIDES)
_YUNET_SCORE, _YUNET_OVERLAP = 0.9, 0.3
"""As in OpenCV's FaceDetectorYN."""
_YOLO_SCORE, _YOLO_OVERLAP = 0.25, 0.7
"""As in the library imgutils."""
_SIDE_PX = 640


@dataclass(frozen=True)
class Face:
    """Where a face is, as shares of the picture, and how sure the detector is, 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float
    score: float

    @property
    def box(self) -> Box:
        return self.left, self.top, self.right, self.bottom


class FaceDetector:
    """One detector. May be used by several threads; loaded at its first picture."""

    def __init__(self, file: Path):
        """Raises TaggerError if there is no such file."""
        if not file.is_file():
            raise TaggerError(f"There is no face detector {file}. {ADVICE}")
        self._file = file
        self._session: InferenceSession | None = None
        self._lock = threading.Lock()

    def find(self, image: Image.Image) -> tuple[Face, ...]:
        """The faces in an RGB picture, the surest first. Raises TaggerError if the file is no detector that is known."""
        session = self._opened()
        height, width = self._side(2), self._side(3)
        # The picture lies at the upper left: then one division turns every box into shares of it.
        scale = min(width / image.width, height / image.height)
        small = image.convert("RGB").resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BILINEAR)
        is_yunet = self.kind == "yunet"
        pixels = np.full((height, width, 3), 0 if is_yunet else 114, np.float32)
        pixels[: small.height, : small.width] = np.asarray(small)
        # YuNet wants BGR in 0..255, YOLO RGB in 0..1.
        pixels = pixels[..., ::-1] if is_yunet else pixels / 255
        outputs = session.run(
            list(_YUNET_OUTPUTS) if is_yunet else None, {session.get_inputs()[0].name: np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])}
        )
        boxes, scores = _of_yunet(outputs, width) if is_yunet else _of_yolo(outputs[0])
        chosen = _without_overlaps(boxes, scores, *((_YUNET_SCORE, _YUNET_OVERLAP) if is_yunet else (_YOLO_SCORE, _YOLO_OVERLAP)))
        shares = np.clip(boxes / np.tile((small.width, small.height), 2), 0, 1)
        return tuple(Face(*map(float, shares[i]), float(scores[i])) for i in chosen)

    @property
    def kind(self) -> Literal["yunet", "yolo"]:
        """By the names of the outputs. Raises TaggerError for anything else."""
        session = self._opened()
        names = {output.name for output in session.get_outputs()}
        if set(_YUNET_OUTPUTS) <= names:
            return "yunet"
        shape = session.get_outputs()[0].shape
        if len(names) == 1 and len(shape) == 3 and (not isinstance(shape[1], int) or shape[1] >= 5):
            return "yolo"
        raise TaggerError(f"{self._file} is no face detector that is known: its outputs are {', '.join(sorted(names))}. {ADVICE}")

    def _side(self, axis: int) -> int:
        side = self._opened().get_inputs()[0].shape[axis]
        return side if isinstance(side, int) and side > 0 else _SIDE_PX

    def _opened(self) -> InferenceSession:
        with self._lock:
            if self._session is None:
                ort = import_onnxruntime()
                refuse_pointer(self._file)
                options = ort.SessionOptions()
                options.log_severity_level = 3
                try:
                    # Small enough for the CPU, and a card that is busy with something else is left alone.
                    self._session = ort.InferenceSession(str(self._file), options, providers=["CPUExecutionProvider"])
                except Exception as error:  # onnxruntime's exceptions share no base class
                    raise TaggerError(f"{self._file} cannot be loaded: {error}. Download it again.") from error
            return self._session


def _of_yunet(outputs: Sequence[np.ndarray], width_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float [n, 4] in px and scores [n]: as FaceDetectorYN decodes them, anchor by anchor of three grids."""
    boxes, scores = [], []
    for i, stride in enumerate(_STRIDES):
        sure, there, box = outputs[i].reshape(-1), outputs[3 + i].reshape(-1), outputs[6 + i].reshape(-1, 4)
        place = np.arange(len(sure))
        columns, rows = place % (width_px // stride), place // (width_px // stride)
        x, y = (columns + box[:, 0]) * stride, (rows + box[:, 1]) * stride
        half_width, half_height = np.exp(box[:, 2]) * stride / 2, np.exp(box[:, 3]) * stride / 2
        boxes.append(np.stack([x - half_width, y - half_height, x + half_width, y + half_height], axis=1))
        scores.append(np.sqrt(np.clip(sure, 0, 1) * np.clip(there, 0, 1)))
    return np.concatenate(boxes), np.concatenate(scores)


def _of_yolo(output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From [1, 4 + classes, n]: middle and size of a box in px, then the score of each class."""
    rows = output[0].T
    x, y, half_width, half_height = rows[:, 0], rows[:, 1], rows[:, 2] / 2, rows[:, 3] / 2
    return np.stack([x - half_width, y - half_height, x + half_width, y + half_height], axis=1), rows[:, 4:].max(axis=1)


def _without_overlaps(boxes: np.ndarray, scores: np.ndarray, least_score: float, most_overlap: float) -> list[int]:
    """Non-maximum suppression: of boxes that cover each other by more than `most_overlap` (intersection over union) the surest one."""
    waiting = [int(i) for i in np.argsort(-scores, kind="stable") if scores[i] >= least_score]
    kept: list[int] = []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in waiting:
        low, high = np.maximum(boxes[kept, :2], boxes[i, :2]), np.minimum(boxes[kept, 2:], boxes[i, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        if not kept or (shared <= most_overlap * (areas[kept] + areas[i] - shared)).all():
            kept.append(i)
    return kept
