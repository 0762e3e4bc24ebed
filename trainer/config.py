"""The job: every setting of a training as frozen values, and their way to JSON and back.

Each field carries its range and one sentence for people, so that nodes make their widgets, the command line its
options and validation its messages from one place.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from .errors import AthanorError
from .types import BaseModel, Dataset

Value = TypeVar("Value")
FORMAT_VERSION = 1


def setting(
    default: Any,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    multiline: bool = False,
    step: float | None = None,
) -> Any:
    """A dataclass field with its range, its choices, the step of its widget and a sentence for people."""
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "choices": choices, "multiline": multiline, "step": step}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class AdapterSettings:
    """Low-rank adaptation (Hu et al. 2021): W + alpha / rank * up @ down."""

    kind: str = setting("lora", "What is trained beside the base's weights.", choices=("lora",))
    rank: int = setting(16, "Inner dimension of the two small matrices. Larger holds more detail and makes a larger file.", 1, 1024)
    alpha: float = setting(16.0, "Scale of the change: alpha / rank multiplies it. Equal to rank is a scale of 1.", 0.001, 4096.0)


@dataclass(frozen=True)
class EmbeddingSettings:
    """Textual inversion (Gal et al. 2022): new vectors in the text encoder's token table."""

    token: str = setting("my-concept", "The word for the prompt; in ComfyUI it is written embedding:name.")
    num_vectors: int = setting(4, "How many tokens the embedding takes. More hold more detail and leave less room in the prompt.", 1, 75)
    initial_words: str = setting("", "Words whose vectors the training starts from, for example: red heart. Empty starts from small random vectors.")
    templates: str = setting(
        "captions",
        "What the prompts are made of: the captions of the images, or sentences about a subject or a style.",
        choices=("captions", "subject", "style"),
    )


@dataclass(frozen=True)
class TrainSettings:
    epochs: int = setting(10, "How often every image (times its repeats) is seen.", 1, 100_000)
    batch_size: int = setting(1, "Images in one step. Larger is steadier and needs more memory.", 1, 1024)
    rate: float = setting(1e-4, "Learning rate of the U-Net or transformer. 0 leaves it out.", 0.0, 10.0, step=1e-6)
    text_encoder_rate: float = setting(
        5e-5, "Learning rate of the text encoder. 0 leaves it out, and its outputs are then cached.", 0.0, 10.0, step=1e-6
    )
    optimizer: str = setting("adamw", "How the weights are moved.", choices=("adamw",))
    weight_decay: float = setting(0.01, "Pulls the trained weights towards zero, a little each step.", 0.0, 1.0, step=0.001)
    schedule: str = setting("cosine", "How the learning rate falls over the run.", choices=("constant", "cosine"))
    warmup_percent: float = setting(5.0, "Share of the steps over which the rate rises from zero.", 0.0, 100.0)
    max_grad_norm: float = setting(1.0, "Gradients longer than this are shortened to it. 0 turns it off.", 0.0, 1000.0)
    save_every_epochs: int = setting(1, "Keep the LoRA or embedding after every n-th epoch, and always after the last.", 1, 100_000)
    precision: str = setting("bf16", "Number format of the forward and backward pass; what is trained stays in fp32.", choices=("bf16", "fp32"))
    save_precision: str = setting("fp16", "Number format of the saved files.", choices=("fp16", "bf16", "fp32"))
    seed: int = setting(0, "Same seed, same run.", 0, 2**32 - 1)


@dataclass(frozen=True)
class SampleSettings:
    """Sample pictures on the way."""

    prompts: str = setting("", "One prompt a line. Each is drawn at every saved epoch. Lines that start with # are left out.", multiline=True)
    negative_prompt: str = setting("", "What the sample pictures should not show.")
    steps: int = setting(20, "Sampling steps of a sample picture.", 1, 1000)
    guidance: float = setting(7.0, "Classifier-free guidance of the sample pictures.", 0.0, 100.0)
    seed: int = setting(1, "Seed of the first sample picture; the next line takes the next one.", 0, 2**32 - 1)

    @property
    def lines(self) -> tuple[str, ...]:
        """The prompts: lines without blanks around them, comments and empty lines left out."""
        return tuple(line for raw in self.prompts.splitlines() if (line := raw.strip()) and not line.startswith("#"))


@dataclass(frozen=True)
class TrainJob:
    """Everything that one training is. Two equal jobs give the same result."""

    name: str
    base: BaseModel
    dataset: Dataset
    kind: Literal["lora", "embedding"] = "lora"
    adapter: AdapterSettings = AdapterSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    train: TrainSettings = TrainSettings()
    samples: SampleSettings = SampleSettings()


@dataclass(frozen=True)
class SheetCell:
    """One picture of a comparison: which epoch, how strong, which prompt."""

    file: str
    """Where it is saved, relative to the comparison's folder."""
    epoch: int
    """0 is the base without any LoRA."""
    strength: float
    prompt: str
    seed: int


@dataclass(frozen=True)
class CompareJob:
    """Pictures of epochs against strengths, sampled by the worker with one load of the base."""

    base: BaseModel
    epochs: tuple[tuple[int, str], ...]
    """Epoch number and file, in the order in which they are loaded."""
    cells: tuple[SheetCell, ...]
    negative_prompt: str
    steps: int
    guidance: float
    width_px: int
    height_px: int
    precision: str = "fp32"
    kind: Literal["compare"] = "compare"


Job = TrainJob | CompareJob


def to_json(value: Any) -> Any:
    """Dataclasses as objects, tuples as lists; strings, numbers, booleans and None as they are."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_json(getattr(value, item.name)) for item in dataclasses.fields(value)}
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


def range_problems(settings: Any, where: str) -> tuple[str, ...]:
    """A sentence for each field of `settings` outside its declared range or choices."""
    problems = []
    for item in dataclasses.fields(settings):
        value, limits = getattr(settings, item.name), item.metadata
        if not limits:
            continue
        if limits["choices"] and value not in limits["choices"]:
            problems.append(f"{where}: {item.name} is {value!r}; choose one of {', '.join(limits['choices'])}.")
        low, high = limits["minimum"], limits["maximum"]
        if low is not None and not low <= value <= high:
            problems.append(f"{where}: {item.name} is {value}; it must be from {low} to {high}.")
    return tuple(problems)


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
    return from_json(CompareJob if data.get("kind") == "compare" else TrainJob, data)
