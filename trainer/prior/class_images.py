"""Class images that the base draws itself (Ruiz et al. 2023, "DreamBooth", section 3.2), where the dataset has too few of them.

They are kept beside the run directories as pictures with their captions, in a folder for each base, prompt, size and way of drawing,
so that later runs take what is there. A picture's name tells its seed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..base_merges import merged_fingerprint
from ..compare.painter import Painter
from ..config import CompareJob, SheetCell, TrainJob
from ..control import Control
from ..data.batches import commonest_bucket
from ..data.cache import TensorCache, cache_key
from ..data.cache_folder import CACHE, CLASS_IMAGES, clean_folder, mark_used, size_limit_bytes
from ..dataset.duplicates import near_duplicates
from ..dataset.notes import listed
from ..dataset.roles import counted_regularization
from ..files import file_sha256, replace_atomically
from ..memory.devices import best_device, release
from ..objective.noise import trained_base
from ..processes import ALONE, Processes
from ..runs.events import EventLog
from ..runs.run import Run
from ..sampling import named_sampling, save_picture
from ..types import Dataset, Placement, Sample

CLASS_FOLDER = CLASS_IMAGES
CONCEPT = "class images"
PHASE = "class"
_BATCH = 4
_DIGEST_LENGTH = 16


@dataclass(frozen=True)
class ClassImage:
    path: Path
    prompt: str
    seed: int


def missing_class_images(job: TrainJob) -> int:
    """How many the base has to draw.

    Never more than training images with their repeats, all in all: the counting of kohya's trainers leaves the rest unused.
    """
    given = {sample.path for sample in job.dataset.with_role("regularization")}
    num_draws = sum(sample.repeats for sample in job.dataset.with_role("train"))
    return max(0, min(job.prior.class_images, num_draws) - len(given))


def class_image_notes(job: TrainJob) -> list[str]:
    """What should be known of the wanted number."""
    num_draws = sum(sample.repeats for sample in job.dataset.with_role("train"))
    if job.prior.class_images <= num_draws:
        return []
    return [
        f"Of the {job.prior.class_images} class images that are wanted {num_draws} are used, as many as there are training images with their repeats; "
        "the counting of kohya's trainers leaves the rest out."
    ]


def planned_class_images(job: TrainJob, root: Path) -> tuple[ClassImage, ...]:
    """What the base draws for `job`, under `root`, the folder of the run directories; the prompts in turn."""
    prior, lines = job.prior, job.prior.class_lines
    number = missing_class_images(job)
    if not number:
        return ()
    folders = [root / CLASS_FOLDER / _folder_name(job, line) for line in lines]
    images = []
    for i in range(number):
        which, turn = i % len(lines), i // len(lines)
        seed = (prior.class_seed + turn) % 2**32
        images.append(ClassImage(folders[which] / f"{seed:010d}.png", lines[which], seed))
    return tuple(images)


def draw_class_images(run: Run, job: TrainJob, events: EventLog, control: Control, processes: Processes = ALONE) -> TrainJob:
    """`job` with its class images in the dataset; those that are not there yet are drawn by the base alone.

    Each is kept at once, so that a run that was killed goes on with the next. Raises Stopped where `control` asks to stop.
    """
    root = run.folder.parent
    planned = planned_class_images(job, root)
    if not planned:
        return job
    with processes.leader_first():
        missing = [i for i, image in enumerate(planned) if not image.path.is_file()]
        if missing:
            _draw(job, planned, missing, root, events, control)
            for note in alike_notes(planned, commonest_bucket(job.dataset.with_role("train"))):
                events.write("warning", {"message": note})
        mark_used(image.path for image in planned)
        clean_folder(root / CLASS_FOLDER, size_limit_bytes(root / CLASS_FOLDER))
    return replace(job, dataset=with_class_images(job.dataset, planned))


def alike_notes(drawn: Sequence[ClassImage], size_px: tuple[int, int]) -> list[str]:
    """What should be known where a base draws the same over and over, which would keep that alone."""
    groups = near_duplicates(Dataset(tuple(_sample(image, size_px) for image in drawn)))
    surplus = sum(len(group) - 1 for group in groups)
    if not surplus:
        return []
    names = listed([Path(group[0].path).name for group in groups])
    return [
        f"{surplus} of the {len(drawn)} class images look like others of them (as {names}); write further class prompts, so that more of the class is kept."
    ]


def with_class_images(dataset: Dataset, drawn: Sequence[ClassImage]) -> Dataset:
    """All class images counted anew as kohya's trainers do: as many draws an epoch as there are of training images."""
    size_px = commonest_bucket(dataset.with_role("train"))
    given = tuple(replace(sample, repeats=1) for sample in dataset.with_role("regularization"))
    made = tuple(_sample(image, size_px) for image in drawn)
    others = tuple(sample for sample in dataset.samples if sample.role != "regularization")
    num_draws = sum(sample.repeats for sample in dataset.with_role("train"))
    return replace(dataset, samples=(*others, *counted_regularization((*given, *made), num_draws)))


def _sample(image: ClassImage, size_px: tuple[int, int]) -> Sample:
    content = f"{image.path.stat().st_size}-{file_sha256(image.path)[:_DIGEST_LENGTH]}"
    return Sample(
        path=str(image.path),
        width_px=size_px[0],
        height_px=size_px[1],
        fingerprint=content,
        caption=image.prompt,
        concept=CONCEPT,
        role="regularization",
        placement=Placement(bucket_px=size_px, resized_px=size_px, crop_px=(0, 0)),
    )


def _draw(job: TrainJob, planned: Sequence[ClassImage], missing: Sequence[int], root: Path, events: EventLog, control: Control) -> None:
    """In the same batches however many of them are there already, so that a picture does not depend on it."""
    import torch

    size_px, prior = commonest_bucket(job.dataset.with_role("train")), job.prior
    cells = [_cell(job, image) for image in planned]
    job_of_pictures = CompareJob(
        trained_base(job.base, job.objective),
        tuple(cells),
        *size_px,
        precision=job.train.precision,
        merge_files=job.adapter.merge_files,
        base_precision=job.train.base_precision,
    )
    done = len(planned) - len(missing)

    def tell() -> None:
        events.write("phase", {"name": PHASE, "done": done, "total": len(planned)})
        control.raise_if_stopped()

    tell()
    painter = Painter(job_of_pictures, best_device(), TensorCache(root / CACHE))
    painter.load(cells)
    try:
        for start in sorted({i - i % _BATCH for i in missing}):
            with torch.no_grad(), painter.autocast:
                pictures = painter.paint(cells[start : start + _BATCH])
            for i, picture in enumerate(pictures, start):
                if i not in missing:
                    continue
                image = planned[i]
                replace_atomically(
                    image.path.with_suffix(".txt"), lambda temporary, image=image: temporary.write_text(image.prompt, encoding="utf-8")
                )
                sampler, guidance = named_sampling(job.base, prior.class_guidance)
                negative, steps = prior.class_negative_prompt, prior.class_steps
                save_picture(image.path, picture, image.prompt, negative, steps, image.seed, guidance, job.base.name, sampler)
                done += 1
            tell()
    finally:
        painter.drop_models()
        release()


def _cell(job: TrainJob, image: ClassImage) -> SheetCell:
    prior = job.prior
    return SheetCell(
        file=image.path.name,
        epoch_file="",
        strength_model=0.0,
        strength_text=0.0,
        prompt=image.prompt,
        negative_prompt=prior.class_negative_prompt,
        seed=image.seed,
        steps=prior.class_steps,
        guidance=prior.class_guidance,
    )


def _folder_name(job: TrainJob, line: str) -> str:
    """The prompt's first words, and a mark of everything that decides what its pictures look like."""
    prior, train, base = job.prior, job.train, trained_base(job.base, job.objective)
    mark = cache_key(
        "class images",
        merged_fingerprint(base.text_identity, job.adapter),
        base.prediction,
        base.zero_terminal_snr,
        line,
        prior.class_negative_prompt,
        prior.class_steps,
        prior.class_guidance,
        commonest_bucket(job.dataset.with_role("train")),
        train.precision,
        train.base_precision,
    )
    words = re.sub(r"[^\w-]+", "-", line)[:40].strip("-_") or "class"
    return f"{words}-{mark[:8]}"
