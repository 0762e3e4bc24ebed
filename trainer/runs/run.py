"""The run directory: the one truth about a training, read by the host, the worker, the plots and a reloaded page.

<run>/job.json              every setting
<run>/events.jsonl          what happened, one JSON object a line, appended only
<run>/epochs/               <name>-000003.safetensors
<run>/embeddings/           <name>-<embedding>-000003.safetensors, of embeddings that are trained along
<run>/samples/              sample pictures
<run>/state/                what a resume needs, in two to four slots
<run>/worker.log            stdout and stderr of the worker
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..config import CaptionJob, CompareJob, Job, LoadedEpoch, LoadedJob, ScoreJob, TrainJob, read_job, to_json, write_job
from ..errors import AthanorError
from ..files import file_sha256, replace_atomically, safe_name
from .events import EVENTS_FILE, parse_events, settled

JOB_FILE, LOG_FILE = "job.json", "worker.log"
LOADED_FOLDER = ".loaded"
WORDS_FOLDER = "embeddings"
"""Of the embeddings that are saved beside an epoch's own file."""


@dataclass(frozen=True)
class Epoch:
    """A saved point of a run."""

    number: int
    step: int
    path: Path
    sha256: str
    """Of the whole file."""
    validation_loss: float | None = None
    training_loss: float | None = None
    """Mean over the epoch's steps."""
    words: tuple[tuple[str, Path], ...] = ()
    """Name and file of each embedding that was saved beside it."""


@dataclass(frozen=True)
class SamplePicture:
    epoch: int
    """0 before the first step."""
    path: Path
    prompt: str
    seed: int


@dataclass(frozen=True)
class Run:
    """A run directory. The value is its path: everything else is read from the files when asked."""

    folder: Path

    @property
    def name(self) -> str:
        """Of the folder; of what is loaded, the training's own."""
        return self.folder.name.rsplit("-", 1)[0] if self.is_loaded else self.folder.name

    @property
    def is_loaded(self) -> bool:
        """Whether another program saved its epochs."""
        return self.folder.parent.name == LOADED_FOLDER

    def job(self) -> Job:
        return read_job(self.folder / JOB_FILE)

    def train_job(self) -> TrainJob:
        job = self.job()
        if not isinstance(job, TrainJob):
            held = {CompareJob: "a comparison", ScoreJob: "scores", CaptionJob: "captions", LoadedJob: "the epochs of another program"}[type(job)]
            raise AthanorError(f"{self.folder} holds {held}, not a training.")
        return job

    def content(self) -> str:
        """What its epochs are: "lora", "embedding" or "checkpoint"."""
        job = self.job()
        return job.content if isinstance(job, LoadedJob) else self.train_job().kind

    def token(self) -> str:
        """The word that stands for the embedding in prompts; empty for LoRAs."""
        if self.content() != "embedding":
            return ""
        return self.job().name if self.is_loaded else self.train_job().embedding.token

    def words(self) -> tuple[str, ...]:
        """The embeddings that each epoch has beside its own file."""
        job = self.job()
        if isinstance(job, LoadedJob):
            return ()
        names = self.train_job().word_names
        return names[1:] if self.token() else names

    def events(self) -> list[dict[str, Any]]:
        try:
            # A power cut may end a line within a letter, or leave blocks of nothing.
            text = (self.folder / EVENTS_FILE).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        return settled(parse_events(text))

    def finished(self) -> bool:
        """Whether it came to its end and its last epoch is still there; earlier ones may have been deleted to save space."""
        events = self.events()
        ended = any(event["event"] == "done" and not event["stopped"] for event in events)
        last = max(
            (event for event in events if event["event"] == "saved" and event["epoch"] is not None), key=lambda event: event["epoch"], default=None
        )
        return ended and last is not None and (self.folder / last["file"]).is_file()

    def epochs(self) -> tuple[Epoch, ...]:
        """The saved epochs that are still there, the oldest first."""
        if self.is_loaded:
            job = self.job()
            assert isinstance(job, LoadedJob)
            return tuple(Epoch(each.number, 0, Path(each.path), each.sha256) for each in job.epochs if Path(each.path).is_file())
        found: dict[int, Epoch] = {}
        validation: dict[int, float] = {}
        training: dict[int, float] = {}
        for event in self.events():
            if event["event"] == "saved" and event["epoch"] is not None:
                found[event["epoch"]] = Epoch(event["epoch"], event["step"], self.folder / event["file"], event["sha256"], words=self._words(event))
            elif event["event"] == "validation":
                validation[event["epoch"]] = event["loss"]
            elif event["event"] == "epoch":
                training[event["epoch"]] = event["loss"]
        there = sorted(number for number, epoch in found.items() if all(path.is_file() for path in (epoch.path, *dict(epoch.words).values())))
        return tuple(replace(found[n], validation_loss=validation.get(n), training_loss=training.get(n)) for n in there)

    def _words(self, event: Mapping[str, Any]) -> tuple[tuple[str, Path], ...]:
        return tuple((name, self.folder / file) for name, file in event.get("words", {}).items())

    def samples(self) -> tuple[SamplePicture, ...]:
        """Those of the epochs; what was drawn on wish in the middle of one is left out."""
        # By file, since a run that begins anew draws those of its start again.
        events = {event["file"]: event for event in self.events() if event["event"] == "sample" and event["epoch"] is not None}
        return tuple(SamplePicture(e["epoch"], self.folder / e["file"], e["prompt"], e["seed"]) for e in events.values())

    def losses(self) -> list[float]:
        """The loss of each optimizer step."""
        return [event["loss"] for event in self.events() if event["event"] == "step"]

    def rates(self) -> dict[str, list[float]]:
        """By part the learning rate of each optimizer step, as it truly was."""
        found: dict[str, list[float]] = {}
        for event in self.events():
            if event["event"] == "step":
                for part, rate in event["rates"].items():
                    found.setdefault(part, []).append(rate)
        return found

    def validation_losses(self) -> dict[int, float]:
        """By epoch; 0 is the base without any training."""
        return {event["epoch"]: event["loss"] for event in self.events() if event["event"] == "validation"}

    def validation_by_step(self) -> dict[int, float]:
        """By optimizer step; 0 is the base without any training."""
        return {event["step"]: event["loss"] for event in self.events() if event["event"] == "validation"}

    def best_epoch(self) -> Epoch | None:
        """The saved epoch with the lowest validation loss that is a number; the last one where nothing was held out."""
        epochs = self.epochs()
        measured = [epoch for epoch in epochs if epoch.validation_loss is not None and math.isfinite(epoch.validation_loss)]
        if measured:
            return min(measured, key=lambda epoch: epoch.validation_loss or 0.0)
        return epochs[-1] if epochs else None

    def log_tail(self, num_lines: int = 30) -> str:
        try:
            text = (self.folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-num_lines:])


def job_hash(job: Job) -> str:
    """Equal for jobs that give the same result: every setting but those of performance, and but the paths, whose content is told by fingerprints."""
    data = to_json(job)
    data["base"] = {name: data["base"][name] for name in ("fingerprint", "prediction", "clip_skip")}
    if isinstance(job, TrainJob):
        # So that a run that did not fit goes on with more checkpointing from where it was.
        del data["performance"]
        samples = [{**each, "path": Path(each["path"]).name, "mask": _mask_kind(each["mask"])} for each in data["dataset"]["samples"]]
        data["dataset"] = {"trigger": data["dataset"]["trigger"], "samples": samples}
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode("utf-8")).hexdigest()


def _mask_kind(mask: str | None) -> str | None:
    """What it holds is told by the sample's fingerprint."""
    return mask if mask in (None, "alpha") else "a file"


def open_run(root: Path, job: TrainJob) -> Run:
    """The run of this job under `root`: the one that holds it already, or a new directory for it.

    The first takes the job's name, further ones with other settings get -2, -3 and so on behind it.
    """
    name, wanted, number = safe_name(job.name), job_hash(job), 1
    while True:
        folder = root / (name if number == 1 else f"{name}-{number}")
        number += 1
        if not folder.exists():
            write_job_file(folder, job)
            return Run(folder)
        if not (folder / JOB_FILE).exists():
            if any(folder.iterdir()):
                continue
            write_job_file(folder, job)
            return Run(folder)
        try:
            known = read_job(folder / JOB_FILE)
        except AthanorError:
            continue
        if job_hash(known) == wanted:
            if known != job:
                # The same model or images, at another place by now.
                write_job_file(folder, job)
            return Run(folder)


def open_loaded(root: Path, name: str, unit: str, files: Sequence[tuple[int, Path]], content: Literal["lora", "embedding", "checkpoint"]) -> Run:
    """A run of files that another program saved. It keeps only what is drawn of them; the same files give the same run."""
    epochs = tuple(LoadedEpoch(number, str(path), file_sha256(path)) for number, path in files)
    job = LoadedJob(name, unit, epochs, content)
    digest = hashlib.sha256(json.dumps(to_json(job), sort_keys=True).encode("utf-8")).hexdigest()
    folder = root / LOADED_FOLDER / f"{safe_name(name)}-{digest[:8]}"
    if not (folder / JOB_FILE).is_file():
        write_job_file(folder, job)
    return Run(folder)


def write_job_file(folder: Path, job: Job) -> None:
    replace_atomically(folder / JOB_FILE, lambda temporary: write_job(temporary, job))
