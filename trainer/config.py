"""The job: every setting of a training as frozen values, and their way to JSON and back."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from .errors import AthanorError
from .settings import (
    AdapterSettings,
    CaptioningSettings,
    CaptionSettings,
    CheckpointSettings,
    DataSettings,
    EmbeddingSettings,
    ObjectiveSettings,
    OptimizerSettings,
    PerformanceSettings,
    PriorSettings,
    RunSettings,
    SampleSettings,
    ScheduleSettings,
    TrainSettings,
)
from .trainees.words import words_of
from .types import BaseModel, Dataset, Sample

Value = TypeVar("Value")
FORMAT_VERSION = 1


@dataclass(frozen=True)
class TrainJob:
    """Everything that one training is. Two equal jobs give the same result."""

    name: str
    base: BaseModel
    dataset: Dataset
    kind: Literal["lora", "embedding", "checkpoint"] = "lora"
    adapter: AdapterSettings = AdapterSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    train: TrainSettings = TrainSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    performance: PerformanceSettings = PerformanceSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    captions: CaptionSettings = CaptionSettings()
    data: DataSettings = DataSettings()
    samples: SampleSettings = SampleSettings()
    run: RunSettings = RunSettings()
    prior: PriorSettings = PriorSettings()

    @property
    def text_rates(self) -> tuple[float, float]:
        """The learning rates of the first and of the second text encoder; T5 has one of its own."""
        first, second = self.train.text_encoder_rate, self.optimizer.text_encoder_2_rate
        return first, first if second < 0 else second

    @property
    def trains_denoiser_weights(self) -> bool:
        """Whether the denoiser's own weights change, so that they cannot be kept smaller or elsewhere."""
        return self.kind == "checkpoint" and self.train.rate > 0

    @property
    def word_names(self) -> tuple[str, ...]:
        """The embeddings that are trained, the main one first; of a LoRA those that are trained along."""
        return tuple(word.name for word in words_of(self.kind, self.embedding))

    @property
    def trains_text(self) -> bool:
        """Whether captions must be encoded anew at each step."""
        return bool(self.word_names) or any(rate > 0 for rate in (*self.text_rates, self.optimizer.t5_rate))


@dataclass(frozen=True)
class SheetCell:
    """One picture of a comparison."""

    file: str
    """Where it is saved, relative to the comparison's folder."""
    epoch_file: str
    """The LoRA or embedding; empty is the base alone."""
    strength_model: float
    strength_text: float
    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    guidance: float
    label: str = ""
    """What is written into the picture as its model."""
    word_files: tuple[str, ...] = ()
    """Of the further embeddings, in the order of the job's `words`; none where the base alone is drawn."""


@dataclass(frozen=True)
class CompareJob:
    """Pictures of epochs, sampled by the worker with one load of the base."""

    base: BaseModel
    cells: tuple[SheetCell, ...]
    """In the order in which they are drawn."""
    width_px: int
    height_px: int
    precision: str = "fp32"
    token: str = ""
    """The word in the prompts that stands for the embedding, where the epochs are embeddings."""
    merge_files: str = ""
    """LoRAs that the base was given before it was trained upon, as in AdapterSettings."""
    base_precision: str = "auto"
    """How the denoiser's weights are kept, as in TrainSettings."""
    words: tuple[str, ...] = ()
    """Embeddings that each epoch has beside its own file: those that were trained with a LoRA, or with the embedding."""
    trained_parts: tuple[str, ...] = ()
    """Where the epochs are whole models: the parts of the base that they replace."""
    kind: Literal["compare"] = "compare"


@dataclass(frozen=True)
class ScoredEpoch:
    number: int
    """0 is the base alone."""
    path: str
    """Of its file; empty for the base alone."""
    name: str
    """Of the file in which its numbers are kept, unlike that of any epoch with another content."""


@dataclass(frozen=True)
class ScoreJob:
    """Numbers about epochs, measured by the worker with one load of the base: each epoch's kept as soon as they are there."""

    pictures: CompareJob
    """What is drawn: for each epoch, each held-out image and each seed one cell, in this order."""
    epochs: tuple[ScoredEpoch, ...]
    held_out: tuple[Sample, ...]
    """In their buckets."""
    captions: tuple[str, ...]
    """Of the held-out images, as the losses are measured with; the prompts of the pictures."""
    num_seeds: int
    training: tuple[Sample, ...] = ()
    """What may have been copied."""
    embedder: str = ""
    """Path of the model that judges likeness; empty for shapes and colours."""
    judges_captions: bool = False
    """Whether pictures and captions are compared as well, by a model that reads both."""
    masked_loss: bool = False
    """Whether the loss counts where the masks of the held-out images are."""
    data: DataSettings = DataSettings()
    """Of the training: how its images are resized."""
    kind: Literal["scores"] = "scores"


@dataclass(frozen=True)
class CaptionJob:
    """Sentences about pictures, written by the worker: each text into the run directory as soon as it is there."""

    captioner: str
    """A name of the captioner registry, like "florence2"."""
    model: str
    """The folder of the model."""
    pictures: tuple[tuple[str, str], ...]
    """For each the name under which its text is kept, and its absolute path."""
    settings: CaptioningSettings
    batch_size: int = 1
    kind: Literal["captions"] = "captions"


@dataclass(frozen=True)
class LoadedEpoch:
    number: int
    path: str
    sha256: str


@dataclass(frozen=True)
class LoadedJob:
    """Epochs that another program trained, as a run."""

    name: str
    unit: str
    """What they are numbered by: epoch or step."""
    epochs: tuple[LoadedEpoch, ...]
    content: Literal["lora", "embedding", "checkpoint"] = "lora"
    kind: Literal["loaded"] = "loaded"


Job = TrainJob | CompareJob | ScoreJob | CaptionJob | LoadedJob
_KINDS: dict[str, type[TrainJob] | type[CompareJob] | type[ScoreJob] | type[CaptionJob] | type[LoadedJob]] = {
    "compare": CompareJob,
    "scores": ScoreJob,
    "captions": CaptionJob,
    "loaded": LoadedJob,
}
"""By the job's `kind`; all others are trainings."""


def to_json(value: Any) -> Any:
    """Dataclasses as objects, tuples as lists; strings, numbers, booleans and None as they are.

    Fields whose metadata says `in_job: False` are left out: nothing that a job makes depends on them.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_json(getattr(value, item.name)) for item in dataclasses.fields(value) if item.metadata.get("in_job", True)}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    return value


def from_json(kind: type[Value], data: Any, where: str = "job") -> Value:
    """The inverse of `to_json`. Raises AthanorError for an unknown, missing or wrongly typed field, naming it."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass_from_json(kind, data, where)
    if origin is tuple:
        if not isinstance(data, list):
            raise AthanorError(f"{where} must be a list, not {data!r}.")
        inner = typing.get_args(kind)
        kinds = [inner[0]] * len(data) if len(inner) == 2 and inner[1] is Ellipsis else list(inner)
        if len(kinds) != len(data):
            raise AthanorError(f"{where} must have {len(kinds)} entries, not {len(data)}.")
        return tuple(from_json(each, item, f"{where}[{i}]") for i, (each, item) in enumerate(zip(kinds, data, strict=True)))  # type: ignore[return-value]
    if origin is Literal:
        if data not in typing.get_args(kind):
            raise AthanorError(f"{where} is {data!r}; it must be one of {', '.join(map(str, typing.get_args(kind)))}.")
        return data
    if origin in (typing.Union, types.UnionType):
        if data is None:
            return None  # type: ignore[return-value]
        return from_json(next(each for each in typing.get_args(kind) if each is not type(None)), data, where)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)  # type: ignore[return-value]
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise AthanorError(f"{where} must be of type {kind.__name__}, not {data!r}.")
    return data


def _dataclass_from_json(kind: type[Value], data: Any, where: str) -> Value:
    if not isinstance(data, dict):
        raise AthanorError(f"{where} must be an object, not {data!r}.")
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [name for name in data if name not in known]
    if unknown:
        raise AthanorError(f"{where} has the unknown setting {unknown[0]!r}; known are: {', '.join(known)}.")
    missing = [name for name, item in known.items() if name not in data and item.default is dataclasses.MISSING]
    if missing:
        raise AthanorError(f"{where} lacks {missing[0]!r}.")
    return kind(**{name: from_json(hints[name], value, f"{where}.{name}") for name, value in data.items()})


def write_job(path: Path, job: Job) -> None:
    path.write_text(json.dumps({"format": FORMAT_VERSION, **to_json(job)}, indent=1, ensure_ascii=False), encoding="utf-8")


def read_job(path: Path) -> Job:
    """Reads a job file. Raises AthanorError if it is not one of this version."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AthanorError(f"The job file {path} cannot be read: {error}.") from None
    if not isinstance(data, dict) or data.pop("format", None) != FORMAT_VERSION:
        raise AthanorError(f"{path} is not a job file of format {FORMAT_VERSION}.")
    return from_json(_KINDS.get(str(data.get("kind")), TrainJob), data)
