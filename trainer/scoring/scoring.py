"""What is scored with what: the epochs of a run, on which images, drawn how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..compare.axes import parse_epochs
from ..compare.pace import known_pace, pace_of_training
from ..config import CompareJob, Job, ScoreJob, TrainJob, to_json
from ..data.batches import commonest_bucket
from ..data.captions import captioner_of
from ..errors import AthanorError
from ..runs.facts import RunFacts
from ..runs.run import Run
from ..settings import DataSettings
from ..trainees.templates import prompt_of
from ..trainees.words import named_in
from ..types import BaseModel, Dataset, Sample
from .embedders import BUILT_IN, kind_of_embedder
from .files import FOLDER
from .measured import Measured
from .plan import Drawing, plan_scores

LOOKS = "shapes and colours"
"""What judges likeness without any model."""


@dataclass(frozen=True)
class Scoring:
    run: Run
    base: BaseModel
    facts: RunFacts
    epochs: tuple[int, ...]
    held_out: tuple[Sample, ...]
    captions: tuple[str, ...]
    training: tuple[Sample, ...]
    masked_loss: bool
    data: DataSettings
    notes: tuple[str, ...]

    @classmethod
    def of(cls, run: Run, base: BaseModel | None, dataset: Dataset | None, epochs: str, max_images: int) -> Scoring:
        """Raises AthanorError where there is no base, no held-out image or no such epoch, with what to do."""
        facts, job = RunFacts.of(run, base), run.job()
        trained = job if isinstance(job, TrainJob) else None
        if base is None:
            if trained is None:
                raise AthanorError(f"{run.name} was trained by another program, so that its base is not known; connect base_model, or say --base.")
            base = trained.base
        elif facts.family and base.family != facts.family:
            raise AthanorError(
                f"{run.name} was trained on {facts.family}, but {base.name} is {base.family}; connect a base model of the same family."
            )
        base = facts.drawn(base)
        if trained is not None:
            training = trained.dataset.with_role("train")
        else:
            # What another program trained on is not known; whoever holds images out of a dataset says so of the others.
            training = dataset.with_role("train") if dataset and dataset.with_role("validation") else ()
        held_out, notes = _held_out(run, trained, dataset, training)
        if len(held_out) > max_images:
            notes.append(f"{max_images} of {len(held_out)} held-out images were taken, evenly chosen; raise max images for more.")
            held_out = tuple(held_out[i * len(held_out) // max_images] for i in range(max_images))
        best = run.best_epoch()
        numbers = parse_epochs(epochs, [epoch.number for epoch in run.epochs()], best.number if best and best.validation_loss is not None else None)
        captions = tuple(_caption(job, facts, dataset, sample) for sample in held_out)
        masked = trained is not None and trained.objective.masked_loss != "off"
        return cls(run, base, facts, numbers, held_out, captions, training, masked, trained.data if trained else DataSettings(), tuple(notes))

    def job(self, drawing: Drawing, embedder: str, are_sentences: bool) -> ScoreJob:
        """Everything that is drawn and measured. `are_sentences` tells that the captions are, which CLIP can read."""
        files, facts, (width_px, height_px) = {epoch.number: epoch for epoch in self.run.epochs()}, self.facts, self._size_px
        pictures = CompareJob(
            self.base,
            (),
            width_px,
            height_px,
            facts.precision,
            facts.token,
            facts.merge_files,
            facts.base_precision,
            facts.words,
            facts.trained_parts,
        )
        judges_captions = embedder != BUILT_IN and kind_of_embedder(Path(embedder)) == "clip" and are_sentences
        epochs, name = [files[number] for number in self.epochs], f"{self.run.name} {facts.unit}"
        return plan_scores(
            pictures, epochs, self.held_out, self.captions, self.training, drawing, name, embedder, judges_captions, self.masked_loss, self.data
        )

    @property
    def _size_px(self) -> tuple[int, int]:
        return self.facts.size_px if self.facts.family else commonest_bucket(self.held_out) if self.held_out[0].placement else self.facts.size_px

    def folder(self, job: ScoreJob) -> Path:
        """Where its pictures and losses are kept: those of the same base, images, captions and look of the pictures share one."""
        cell, pictures = job.pictures.cells[0], job.pictures
        images = [[sample.fingerprint, to_json(sample.placement), caption] for sample, caption in zip(job.held_out, job.captions, strict=True)]
        look = [pictures.base.fingerprint, pictures.base.zero_terminal_snr, pictures.precision, pictures.width_px, pictures.height_px]
        look += [cell.negative_prompt, cell.steps, cell.guidance, job.masked_loss, job.data.resize, *self.facts.look(pictures.base), images]
        digest = hashlib.sha256(json.dumps(look, ensure_ascii=False).encode("utf-8")).hexdigest()
        return self.run.folder / FOLDER / digest[:12]

    def forecast(self, job: ScoreJob, cache_folder: Path) -> str:
        """Before anything is drawn: how many pictures, and how long. `cache_folder` knows what earlier ones took."""
        folder, cells = self.folder(job), job.pictures.cells
        missing = [cell for cell in cells if not (folder / cell.file).is_file()]
        head = f"{len(job.epochs)} x {len(job.held_out)} x {job.num_seeds} = {len(cells)} pictures of {job.pictures.width_px} x {job.pictures.height_px} px"
        if not missing:
            return f"{head}; all are drawn already"
        size_px = (job.pictures.width_px, job.pictures.height_px)
        is_guided = (self.base.family, self.base.variant) != ("flux", "dev")
        pace = known_pace(cache_folder, self.facts.pace_key(self.base), size_px) or pace_of_training(self.run, size_px, is_guided)
        return f"{head}; {pace.told(sum(cell.steps for cell in missing))}" if pace else head

    def summary(self, measured: Measured) -> str:
        """For the head of the picture."""
        judge = Path(measured.embedder).name if measured.embedder else LOOKS
        images, seeds = len(measured.captions), measured.num_seeds
        return f"{images} held-out image{'s' * (images != 1)}, {seeds} seed{'s' * (seeds != 1)}, likeness by {judge}"


def _held_out(run: Run, trained: TrainJob | None, dataset: Dataset | None, training: Sequence[Sample]) -> tuple[tuple[Sample, ...], list[str]]:
    if dataset is None:
        found = trained.dataset.with_role("validation") if trained else ()
        if not found:
            raise AthanorError(
                f"{run.name} held no image out, so that there is nothing to measure on; connect a dataset of images that were not trained on, or name their folder with --images."
            )
        return found, []
    found = dataset.with_role("validation") or dataset.samples
    known = {(Path(sample.path).name, sample.fingerprint) for sample in training}
    fresh = tuple(sample for sample in found if (Path(sample.path).name, sample.fingerprint) not in known)
    if not fresh:
        raise AthanorError("Every image of the dataset was trained on; likeness to those would praise an epoch for copying. Give others.")
    notes = [f"{len(found) - len(fresh)} images of the dataset were trained on and left out."] if len(fresh) < len(found) else []
    return fresh, notes


def _caption(job: Job, facts: RunFacts, dataset: Dataset | None, sample: Sample) -> str:
    """What the loss of the image is measured with and its pictures are drawn for; an embedding stands in it by its name."""
    if isinstance(job, TrainJob):
        caption = captioner_of(job).plain(sample)
        return prompt_of(job.embedding, job.word_names, caption, 0) if job.kind == "embedding" else caption
    caption = sample.prompt(dataset.trigger if dataset else "")
    if not facts.token or named_in(caption, [facts.token]):
        return caption
    return ", ".join(part for part in (facts.token, caption) if part)
