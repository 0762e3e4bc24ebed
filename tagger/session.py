"""A tagger model in onnxruntime."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np

from .deepdanbooru import DeepDanbooru
from .errors import TaggerError
from .formats import Output, TaggerFormat
from .labels import Labels
from .models import load_labels, tagger_files, tagger_format
from .preprocess import PREPROCESSING_VERSION, Preprocessing

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = (
    "CUDAExecutionProvider",
    "ROCMExecutionProvider",
    "MIGraphXExecutionProvider",
    "DmlExecutionProvider",
    "CoreMLExecutionProvider",
    "OpenVINOExecutionProvider",
    "CPUExecutionProvider",
)
"""In the order in which they are tried. TensorRT is left out: it compiles for minutes before the first image."""

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_BLOCK_BYTES = 1 << 16
_NUM_BLOCKS = 64


@dataclass(frozen=True, eq=False)
class _Engine:
    """A session (onnxruntime's, or torch's for DeepDanbooru) and what its model says about itself."""

    session: onnxruntime.InferenceSession | DeepDanbooru
    input_name: str
    output: Output
    dtype: type[np.floating]
    side_px: int
    layout: Literal["NHWC", "NCHW"]
    fixed_batch: int | None
    providers: tuple[str, ...]
    wanted: tuple[str, ...]


_MAX_KEPT = 2
_kept: dict[str, _Engine] = {}
"""Models that ran on the CPU and may be needed again, by fingerprint, the one that was used last at the end."""
_kept_lock = threading.Lock()


class Tagger:
    """A tagger with its labels. The model itself is loaded when the first scores are asked for, once, from any thread."""

    def __init__(self, path: Path, providers: Sequence[str] | None = None):
        """`path` is a value of `find_taggers`; `providers` replaces the order in which onnxruntime's are tried.

        Raises TaggerError if a file is missing or the labels cannot be read.
        """
        self.files = tagger_files(path)
        self.labels: Labels = load_labels(path)
        self.format: TaggerFormat = tagger_format(self.files)
        self._wanted = None if providers is None else tuple(providers)
        self._engine: _Engine | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self.files.name

    @cached_property
    def fingerprint(self) -> str:
        """Of the model file and of the preprocessing: scores of equal fingerprints may be shared. Reads 4 MiB, loads nothing."""
        wanted = f"preprocessing {PREPROCESSING_VERSION}; {self.format.preprocessing}; {self.format.kind} {self.format.outputs};"
        digest = hashlib.sha256(wanted.encode())
        size = self.files.model.stat().st_size
        digest.update(str(size).encode())
        with self.files.model.open("rb") as file:
            for i in range(_NUM_BLOCKS):
                file.seek(i * max(0, size - _BLOCK_BYTES) // (_NUM_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
        return digest.hexdigest()

    @property
    def preprocessing(self) -> Preprocessing:
        """What is to be done to a picture, with the side of the square that the model takes."""
        return replace(self.format.preprocessing, side_px=self._opened().side_px)

    @property
    def fixed_batch(self) -> int | None:
        """How many images the model takes at once, if it takes no other number."""
        return self._opened().fixed_batch

    @property
    def is_open(self) -> bool:
        return self._engine is not None

    @property
    def providers(self) -> tuple[str, ...]:
        """What the model really runs on, the first one first."""
        return self._opened().providers

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about how the model runs. Empty before it is loaded."""
        engine = self._engine
        if engine is None or engine.wanted[0] == engine.providers[0]:
            return ()
        return (
            f"{self.name} runs on {_short(engine.providers[0])}, slower than it could: onnxruntime offers {_short(engine.wanted[0])} but"
            " could not start it, mostly because its version does not fit the installed driver or CUDA.",
        )

    def close(self) -> None:
        """Gives the memory back. The model is loaded again when it is needed again."""
        with self._lock:
            self._engine = None
        with _kept_lock:
            _kept.pop(self.fingerprint, None)

    def keep(self) -> None:
        """Closes it, but lets the next `Tagger` of the same model take it over, if it ran on the CPU: a GPU has better uses."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is None or _short(engine.providers[0]) != "CPU":
            return
        with _kept_lock:
            _kept.pop(self.fingerprint, None)
            _kept[self.fingerprint] = engine
            while len(_kept) > _MAX_KEPT:
                del _kept[next(iter(_kept))]

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities float32 [n, labels] of images float32 [n, side, side, 3] as `preprocess.prepare` makes them.

        Logits are turned into probabilities. All at once if the model allows it, else in its own batch size, the last one filled up.
        Raises TaggerError if the model fails or gives something else than probabilities.
        """
        engine = self._opened()
        step = engine.fixed_batch or len(pixels)
        scores = [self._run(engine, pixels[start : start + step]) for start in range(0, len(pixels), max(step, 1))]
        return np.concatenate(scores) if scores else np.zeros((0, len(self.labels)), np.float32)

    def _run(self, engine: _Engine, pixels: np.ndarray) -> np.ndarray:
        num_images = len(pixels)
        if engine.fixed_batch and num_images < engine.fixed_batch:
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], engine.fixed_batch - num_images, axis=0)])
        if engine.layout == "NCHW":
            pixels = pixels.transpose(0, 3, 1, 2)
        try:
            (scores,) = engine.session.run([engine.output.name], {engine.input_name: np.ascontiguousarray(pixels, dtype=engine.dtype)})
        except Exception as error:  # onnxruntime's exceptions share no base class
            hint = " Use a smaller batch size." if num_images > 1 else ""
            raise TaggerError(f"The tagger {self.name} failed on {_short(engine.providers[0])}: {error}.{hint}") from error
        scores = np.asarray(scores, dtype=np.float32).reshape(len(pixels), -1)[:num_images]
        if scores.shape[1] != len(self.labels):
            raise _wrong_count(self, scores.shape[1])
        if engine.output.kind == "logits":
            if np.isnan(scores).any():
                raise TaggerError(
                    f"The tagger {self.name} gave values that are no numbers on {_short(engine.providers[0])}: the file is damaged, or a model in"
                    " half precision runs on what cannot compute it. Download it again, or take one in full precision."
                )
            return _sigmoid(scores)
        if not (scores.min() >= -1e-3 and scores.max() <= 1 + 1e-3):
            raise TaggerError(
                f"The tagger {self.name} gave values from {scores.min():.3g} to {scores.max():.3g} where probabilities from 0 to 1 are"
                f" expected: it is not a model in the {self.format.name} format, or its provider computes nonsense."
            )
        return scores

    def _opened(self) -> _Engine:
        with self._lock:
            if self._engine is None:
                with _kept_lock:
                    kept = _kept.get(self.fingerprint) if self._wanted is None else None
                self._engine = kept or _open(self, self._wanted)
            return self._engine


def forget_kept() -> None:
    """Gives back the memory of all models that were kept."""
    with _kept_lock:
        _kept.clear()


def _open(tagger: Tagger, wanted: tuple[str, ...] | None) -> _Engine:
    if tagger.files.model.suffix.lower() == ".pt":
        return _open_torch(tagger)
    ort = import_onnxruntime()
    available = ort.get_available_providers()
    wanted = tuple(name for name in wanted or PROVIDERS if name in available) or ("CPUExecutionProvider",)
    if "CUDAExecutionProvider" in wanted and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # finds the CUDA libraries that torch's wheel brings
    options = ort.SessionOptions()
    options.enable_mem_pattern = "DmlExecutionProvider" not in wanted  # DirectML does not support it
    options.log_severity_level = 3
    model = tagger.files.model
    refuse_pointer(model)
    try:
        session = ort.InferenceSession(str(model), options, providers=list(wanted))
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise TaggerError(
            f"{model} ({model.stat().st_size:,} bytes) cannot be loaded: {error}. If the download was cut off, download it again;"
            " if the message speaks of an opset or IR version, update onnxruntime."
        ) from error
    inputs = session.get_inputs()
    fixed_batch, side_px, layout = _input_form(tagger, inputs[0].shape)
    if inputs[0].type not in _DTYPES or len(inputs) != 1:
        raise TaggerError(f"{model} is not a tagger: it takes {', '.join(i.type for i in inputs)} where one tensor(float) is expected.")
    return _Engine(
        session=session,
        input_name=inputs[0].name,
        output=_pick_output(tagger, [(output.name, output.shape[-1] if output.shape else None) for output in session.get_outputs()]),
        dtype=_DTYPES[inputs[0].type],
        side_px=side_px,
        layout=layout,
        fixed_batch=fixed_batch,
        providers=tuple(session.get_providers()),
        wanted=wanted,
    )


def _open_torch(tagger: Tagger) -> _Engine:
    session = DeepDanbooru(tagger.files.model)
    device = (session.device.upper(),)
    side_px = tagger.format.preprocessing.side_px
    return _Engine(session, "pixels", Output("scores", tagger.format.kind), np.float32, side_px, "NHWC", None, device, device)


def _input_form(tagger: Tagger, shape: Sequence[int | str | None]) -> tuple[int | None, int, Literal["NHWC", "NCHW"]]:
    """Batch size if fixed, side and layout of an input; WD models have [batch, 448, 448, 3], others [batch, 3, 448, 448]."""
    expected = "[batch, side, side, 3] or [batch, 3, side, side]"
    problem = TaggerError(f"{tagger.files.model} is not a tagger: its input is {list(shape)}, expected is {expected}.")
    if len(shape) != 4:
        raise problem
    is_open = not any(isinstance(length, int) for length in (shape[3], shape[1]))
    if 3 not in (shape[3], shape[1]) and not is_open:
        raise problem
    layout: Literal["NHWC", "NCHW"] = tagger.format.layout if is_open else "NHWC" if shape[3] == 3 else "NCHW"
    sides = {side for side in (shape[1:3] if layout == "NHWC" else shape[2:4]) if isinstance(side, int) and side > 0}
    if len(sides) > 1:
        raise problem
    fixed_batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
    return fixed_batch, sides.pop() if sides else tagger.format.preprocessing.side_px, layout


def _pick_output(tagger: Tagger, outputs: Sequence[tuple[str, int | str | None]]) -> Output:
    """The scores among a model's outputs (name and length): one that its kind of tagger names, else the first of the right length."""
    for wanted in tagger.format.outputs:
        for name, _ in outputs:
            if fnmatchcase(name, wanted.name):
                return Output(name, wanted.kind)
    fitting = [name for name, length in outputs if length == len(tagger.labels) or not isinstance(length, int)]
    if not fitting:
        raise _wrong_count(tagger, outputs[0][1])
    return Output(fitting[0], tagger.format.kind)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))


def import_onnxruntime() -> ModuleType:
    install = (
        f'Install exactly one of them: "{sys.executable}" -m pip install onnxruntime-gpu (NVIDIA cards) or onnxruntime (without).'
        " Never both: they overwrite each other."
    )
    try:
        import onnxruntime
    except ImportError as error:
        raise TaggerError(f"Tagging needs onnxruntime, which cannot be imported ({error}). {install}") from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise TaggerError(f"onnxruntime is installed but broken, as it is after one of its two variants was removed. Uninstall both. {install}")
    return onnxruntime


def refuse_pointer(model: Path) -> None:
    with model.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            raise TaggerError(f"{model} is only a git-lfs pointer, not the model. Download the file itself (or run `git lfs pull`).")


def _wrong_count(tagger: Tagger, num_outputs: int) -> TaggerError:
    return TaggerError(
        f"{tagger.files.model} has {num_outputs:,} outputs but {tagger.files.labels.name} has {len(tagger.labels):,} tags:"
        " the two files belong to different models. Download both from the same place."
    )


def _short(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")
