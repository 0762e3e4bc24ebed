"""All checks of a job, before anything loads; every problem is told at once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from ..adapters.check import UNPACKED_ONLY, adapter_problems, merges
from ..config import CompareJob, ScoreJob, TrainJob
from ..errors import AthanorError, InvalidJobError, raise_problems
from ..families import family, known_family
from ..files import safe_name
from ..formats.contents import lora_family
from ..formats.header import read_header
from ..memory.storage import nf4_problem
from ..sample_prompts import prompt_problems
from ..settings import AdapterSettings, CheckpointSettings, TrainSettings, range_problems
from ..types import BaseModel, Dataset
from .checkpoint import checkpoint_problems
from .choice import choice_problems
from .drawing import cell_problems, drawing_problems
from .effects import effect_problems
from .engine import engine_problems
from .parts import unused_files
from .prior import prior_problems
from .words import clash_problems, word_problems


def check_train_job(job: TrainJob, embedding_folders: Sequence[Path] = (), looks_folder: Path | None = None) -> None:
    """Raises InvalidJobError with every problem of `job`. In `embedding_folders` no file may have the name of one of its embeddings.

    In `looks_folder` is kept what images look like, so that each is opened once.
    """
    try:
        names = job.word_names
    except AthanorError as error:
        raise InvalidJobError([str(error)]) from None
    of_base = base_problems(job.base)
    problems = [*_name_problems(job.name), *of_base, *_dataset_problems(job.dataset, job.base)]
    if job.train.base_precision == "nf4" and (problem := nf4_problem()) is not None:
        problems.append(problem)
    if job.kind == "lora" and job.train.base_precision == "nf4" and job.adapter.kind in UNPACKED_ONLY:
        problems.append(
            f"Training: {job.adapter.kind} does not go onto a base in nf4, which packs its weights; choose the base precision fp8 or int8, or another adapter."
        )
    problems += [*range_problems(job.train, "Training"), *engine_problems(job), *range_problems(job.samples, "Sample pictures")]
    problems += _run_problems(job)
    problems += effect_problems(job)
    if job.kind == "lora":
        problems += _lora_problems(job)
    elif job.kind == "checkpoint":
        problems += checkpoint_problems(job)
    else:
        problems += _embedding_problems(job.adapter, job.train)
    if job.kind != "checkpoint" and job.checkpoint != CheckpointSettings():
        problems.append("Checkpoint: weights, fused_backward, blocks and pattern of a whole model are for Train Checkpoint; set them back.")
    problems += [*word_problems(job), *clash_problems(names, embedding_folders)]
    problems += _other_lora_problems(job)
    if not of_base:
        problems += choice_problems(job)
    problems += prior_problems(job, looks_folder)
    raise_problems(problems)


def _other_lora_problems(job: TrainJob) -> list[str]:
    """Of LoRAs to start from or to merge that were made for another family."""
    try:
        files = [path for path in (job.adapter.start_file, *(path for path, _ in merges(job.adapter))) if path and Path(path).is_file()]
    except AthanorError:
        return []
    problems = []
    for path in map(Path, files):
        try:
            made_for = lora_family(read_header(path))
        except AthanorError as error:
            problems.append(f"Adapter: {error} Choose another LoRA.")
            continue
        if made_for and made_for != job.base.family:
            problems.append(
                f"Adapter: {path.name} is a LoRA for {family(made_for).title}, and {job.base.name} is another family; choose one made for it."
            )
    return problems


def _run_problems(job: TrainJob) -> list[str]:
    """Of the run's length and end, and of its sample pictures."""
    problems = list(range_problems(job.run, "Run"))
    if job.run.patience and not job.dataset.with_role("validation"):
        problems.append("Run: patience needs held-out images, and there are none; set held out % in Load Dataset, or patience to 0.")
    samples = job.samples
    unused = [name for name in ("every_epochs", "every_steps", "at_start") if getattr(samples, name) and not samples.lines]
    problems += [f"Sample pictures: {name} does nothing without prompts; write some, or set it back." for name in unused]
    problems += prompt_problems(samples, _side_step_px(job.base))
    return [*problems, *drawing_problems(job)]


def check_compare_job(job: CompareJob) -> None:
    """Raises InvalidJobError with every problem of `job`."""
    problems = list(base_problems(job.base))
    files = dict.fromkeys(cell.epoch_file for cell in job.cells if cell.epoch_file)
    problems += [f"The file {path} is not there any more; queue the training again." for path in files if not Path(path).is_file()]
    merged = [path for path, _ in merges(AdapterSettings(merge_files=job.merge_files))]
    problems += [
        f"The LoRA {path}, which the run merged into its base first, is not there any more; put it back."
        for path in merged
        if not Path(path).is_file()
    ]
    if job.base_precision == "nf4" and (problem := nf4_problem()) is not None:
        problems.append(problem)
    stride = _side_step_px(job.base)
    if job.width_px % stride or job.height_px % stride or min(job.width_px, job.height_px) < stride:
        problems.append(f"Pictures of {job.width_px} x {job.height_px} px cannot be drawn; both sides must be multiples of {stride}.")
    raise_problems([*problems, *cell_problems(job)])


def check_score_job(job: ScoreJob) -> None:
    """Raises InvalidJobError with every problem of `job`."""
    problems = []
    try:
        check_compare_job(job.pictures)
    except InvalidJobError as error:
        problems += error.problems
    if not job.held_out:
        problems.append(
            "No image is held out, so that nothing can be measured; set held out % in Load Dataset, or connect a dataset of other images."
        )
    unplaced = [sample for sample in (*job.held_out, *job.training) if sample.placement is None]
    problems += [f"{sample.path} has no bucket yet; put a Bucket node behind the dataset." for sample in unplaced[:1]]
    gone = [sample for sample in (*job.held_out, *job.training) if not Path(sample.path).is_file()]
    problems += [f"The image {sample.path} is not there any more; load the dataset again." for sample in gone[:3]]
    raise_problems(problems)


def base_problems(base: BaseModel) -> tuple[str, ...]:
    try:
        found = family(base.family)
        if base.clip_skip > found.max_clip_skip:
            told = f"can be at most {found.max_clip_skip}" if found.max_clip_skip else "has no effect"
            return (f"Clip skip is {base.clip_skip}; for {found.title} it {told}. Set it to 0 in Load Base Model.",)
        return found.missing_files(base) or unused_files(base, found)
    except AthanorError as error:
        return (str(error),)


def _side_step_px(base: BaseModel) -> int:
    """What both sides of a picture are multiples of; that of the smallest latents for a family that is told of as unknown."""
    found = known_family(base.family)
    return 8 if found is None else found.side_step_px


def _name_problems(name: str) -> tuple[str, ...]:
    try:
        safe_name(name)
    except AthanorError as error:
        return (f"Run name: {error}",)
    return ()


def _dataset_problems(dataset: Dataset, base: BaseModel) -> list[str]:
    problems = []
    if not dataset.with_role("train"):
        problems.append("The dataset has no image to train on; choose a folder with images in Load Dataset, or hold fewer of them out.")
    unplaced = [sample for sample in dataset.samples if sample.placement is None]
    if unplaced:
        problems.append(
            f"{len(unplaced)} images have no bucket (the first is {Path(unplaced[0].path).name}); put a Bucket node between the dataset and the training."
        )
    stride = _side_step_px(base)
    odd = sorted(
        {sample.placement.bucket_px for sample in dataset.samples if sample.placement and any(side % stride for side in sample.placement.bucket_px)}
    )
    if odd:
        problems.append(
            f"The bucket {odd[0][0]} x {odd[0][1]} px does not fit the model: both sides must be multiples of {stride}; set the step in the Bucket node."
        )
    gone = [sample.path for sample in dataset.samples if not os.access(sample.path, os.R_OK)]
    if gone:
        problems.append(f"{len(gone)} images of the dataset cannot be read (the first is {gone[0]}); put them back, or load the dataset again.")
    else:
        other = [sample.path for sample in dataset.samples if sample.num_bytes not in (None, Path(sample.path).stat().st_size)]
        if other:
            problems.append(
                f"{len(other)} images are not those that this training was set up with (the first is {other[0]}); put them back as they were, or load the dataset anew, which makes a new run."
            )
    return problems


def _lora_problems(job: TrainJob) -> list[str]:
    adapter, problems = job.adapter, [*range_problems(job.adapter, "Adapter"), *adapter_problems(job.adapter)]
    found = known_family(job.base.family)
    if found is not None and found.has_block_rows and not adapter.start_file:
        title = found.title
        if adapter.kind == "locon":
            problems.append(f"Adapter: {title} has no convolutions, so that LoCon would be the same as LoRA; choose lora.")
        elif adapter.conv_rank > 0:
            problems.append(f"Adapter: conv_rank is {adapter.conv_rank}, but {title} has no convolutions; set it to 0.")
    if job.train.rate == 0 and not any((*job.text_rates, job.optimizer.t5_rate)):
        problems.append("All learning rates are 0, so nothing would be trained; raise the rate of the U-Net, for example to 0.0001.")
    return problems


def _embedding_problems(adapter: AdapterSettings, train: TrainSettings) -> list[str]:
    problems = [*adapter_problems(adapter)]
    usual = AdapterSettings()
    # Kind, rank and alpha are always set to something; they do not ask for anything.
    if dataclasses.replace(adapter, merge_files="", files_sha256="", kind=usual.kind, rank=usual.rank, alpha=usual.alpha) != usual:
        problems.append("Of Adapter Settings an embedding takes only the LoRAs to merge first; set the others back.")
    if train.rate not in (0.0, TrainSettings().rate):
        problems.append(
            f"Training: rate is {train.rate:g}, which moves the U-Net or transformer; an embedding has the text encoder's rate alone. Set it to 0."
        )
    if train.text_encoder_rate == 0:
        problems.append("The learning rate is 0, so the embedding would not change; set it, for example to 0.005.")
    return problems
