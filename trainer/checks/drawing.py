"""What a model cannot follow when pictures are drawn: told for sample pictures, class images, comparisons and scores alike."""

from __future__ import annotations

from collections.abc import Iterable

from ..config import CompareJob, TrainJob
from ..families import known_family
from ..families.base import Family
from ..sample_prompts import drawn_as_written
from ..settings import PriorSettings, SampleSettings
from ..types import BaseModel

_NO_GUIDANCE = 1.0
"""Classifier-free guidance of 1 is none (Ho and Salimans 2022, equation 6), so that it promises nothing."""


def drawing_problems(job: TrainJob) -> list[str]:
    """Of a training's own pictures: a sentence for each setting without effect on this base."""
    chosen = known_family(job.base.family)
    if chosen is None:
        return []
    problems, samples, prior = [], job.samples, job.prior
    prompts = drawn_as_written(samples) if samples.lines else []
    if not chosen.reads_negative_prompt:
        if any(each.negative_prompt for each in prompts):
            problems.append(
                f"Sample pictures: {chosen.title} is drawn without a negative prompt, so that it does nothing; leave it empty, and take --n out of the prompts."
            )
        if prior.class_negative_prompt:
            problems.append(
                f"Prior preservation: {chosen.title} is drawn without a negative prompt, so that class_negative_prompt does nothing; leave it empty."
            )
    if chosen.reads_negative_prompt:
        negated = [each for each in prompts if each.negative_prompt]
        if negated and all(each.guidance == _NO_GUIDANCE for each in negated):
            problems.append("Sample pictures: the negative prompt does nothing at guidance 1, which is none; leave it empty, or raise the guidance.")
        if prior.class_images and prior.class_negative_prompt and prior.class_guidance == _NO_GUIDANCE:
            problems.append(
                "Prior preservation: class_negative_prompt does nothing at class_guidance 1, which is none; leave it empty, or raise the guidance."
            )
    if not chosen.reads_guidance(job.base):
        told = _unread(each.guidance for each in prompts)
        usual = SampleSettings().guidance
        if told is not None:
            problems.append(
                f"Sample pictures: guidance is {told:g} but does nothing, since {_drawn_without(job.base, chosen)}; "
                f"set it to 1 or back to {usual:g}, and take --l and --g out of the prompts."
            )
        if prior.class_images and (told := _unread([prior.class_guidance])) is not None:
            problems.append(
                f"Prior preservation: class_guidance is {told:g} but does nothing, since {_drawn_without(job.base, chosen)}; "
                f"set it to 1 or back to {PriorSettings().class_guidance:g}."
            )
    return problems


def cell_problems(job: CompareJob) -> list[str]:
    """Of a comparison's pictures or those of scores."""
    chosen = known_family(job.base.family)
    if chosen is None:
        return []
    problems = []
    if not chosen.reads_negative_prompt and any(cell.negative_prompt for cell in job.cells):
        problems.append(f"{chosen.title} is drawn without a negative prompt, so that it does nothing; leave it empty.")
    if not chosen.reads_guidance(job.base) and (told := _unread(cell.guidance for cell in job.cells)) is not None:
        problems.append(
            f"Guidance is {told:g} but does nothing, since {_drawn_without(job.base, chosen)}; set it to 1 or back to {SampleSettings().guidance:g}."
        )
    return problems


def _unread(guidances: Iterable[float]) -> float | None:
    """The first one that somebody must have chosen: neither the usual one nor none."""
    return next((each for each in guidances if each not in (SampleSettings().guidance, _NO_GUIDANCE)), None)


def _drawn_without(base: BaseModel, chosen: Family) -> str:
    return f"{base.name} is {chosen.title} {base.variant}, which is drawn without guidance"
