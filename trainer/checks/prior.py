"""Checks of class images and of what holds a training to the base; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config import TrainJob
from ..dataset.duplicates import near_duplicates
from ..dataset.notes import listed, several
from ..dataset.roles import copies_among
from ..prior.class_words import mentions
from ..settings import PriorSettings, range_problems
from ..types import Dataset, Sample

_WHERE = "Prior preservation"
_DRAWING = ("class_prompts", "class_negative_prompt", "class_steps", "class_guidance", "class_seed")


def prior_problems(job: TrainJob, looks_folder: Path | None = None) -> list[str]:
    """A sentence for each problem. In `looks_folder` is kept what images look like, so that each is opened once."""
    prior = job.prior
    if job.kind == "embedding":
        return (
            [] if prior == PriorSettings() else [f"{_WHERE}: an embedding leaves the model as it is, so that nothing needs to be kept; leave it out."]
        )
    problems = [*range_problems(prior, _WHERE), *_drawing_problems(job), *_holding_problems(job)]
    class_images = job.dataset.with_role("regularization")
    if prior.class_target == "base" and not class_images and not prior.class_images:
        problems.append(
            f"{_WHERE}: class_target is base but there are no class images; choose a regularization folder in Load Dataset, or set class_images and class_prompts."
        )
    return [*problems, *_trigger_problems(job, class_images), *_copy_problems(job.dataset.with_role("train"), class_images, looks_folder)]


def prior_notes(job: TrainJob) -> list[str]:
    """What is no problem but should be known."""
    if job.prior.hold_weight <= 0:
        return []
    unheld = [sample for sample in job.dataset.with_role("train") if not mentions(_caption(job, sample), job.dataset.trigger)]
    names = listed([Path(sample.path).name for sample in unheld])
    return [f"{several(len(unheld), 'image')} not held to the base, for the caption is without the trigger: {names}."] if unheld else []


def _drawing_problems(job: TrainJob) -> list[str]:
    prior, usual = job.prior, PriorSettings()
    if prior.class_images and not prior.class_lines:
        return [
            f"{_WHERE}: {prior.class_images} class images are wanted but class_prompts is empty; write what they show, such as: a photo of a cat."
        ]
    changed = [name for name in _DRAWING if getattr(prior, name) != getattr(usual, name)]
    if changed and not prior.class_images:
        return [f"{_WHERE}: {', '.join(changed)} does nothing while class_images is 0; set how many you want, for example 50."]
    return []


def _holding_problems(job: TrainJob) -> list[str]:
    prior, trigger = job.prior, job.dataset.trigger.strip()
    problems = []
    if prior.holds and job.kind != "lora":
        problems.append(
            f"{_WHERE}: {'class_target base' if prior.class_target == 'base' else 'hold_weight'} compares with the base, which a training of the whole "
            "model does not keep; set class_target to picture and hold_weight to 0."
        )
    if prior.hold_weight == 0:
        if prior.class_word:
            problems.append(f"{_WHERE}: class_word is {prior.class_word!r} but does nothing while hold_weight is 0; set that, for example to 1.")
        return problems
    if not prior.class_word.strip():
        problems.append(
            f"{_WHERE}: hold_weight is {prior.hold_weight:g} but class_word is empty; write what kind of thing the trigger is, such as cat."
        )
    elif trigger and mentions(prior.class_word, trigger):
        problems.append(f"{_WHERE}: the class_word {prior.class_word!r} has the trigger {trigger!r} in it; write the class alone, such as cat.")
    if not trigger:
        problems.append(
            f"{_WHERE}: hold_weight is {prior.hold_weight:g} but the dataset has no trigger to be replaced; set it in Load Dataset, or hold_weight to 0."
        )
    elif not any(mentions(_caption(job, sample), trigger) for sample in job.dataset.with_role("train")):
        problems.append(
            f"{_WHERE}: hold_weight is {prior.hold_weight:g} but no caption has the trigger {trigger!r}; put it into the captions, for example with "
            f"the rule trigger: {trigger} in Edit Tags."
        )
    return problems


def _trigger_problems(job: TrainJob, class_images: Sequence[Sample]) -> list[str]:
    trigger, problems = job.dataset.trigger.strip(), []
    spoilt = [sample for sample in class_images if mentions(sample.caption or "", trigger)]
    if spoilt:
        problems.append(
            f"{_WHERE}: captions of {several(len(spoilt), 'class image')} "
            f"({listed(_names(spoilt))}) have the trigger {trigger!r}, which class images must not teach; take it out there."
        )
    problems += [
        f"{_WHERE}: the class prompt {line!r} has the trigger {trigger!r}; write the class alone, such as: a photo of a cat."
        for line in job.prior.class_lines
        if mentions(line, trigger)
    ]
    return problems


def _copy_problems(trained: Sequence[Sample], class_images: Sequence[Sample], looks_folder: Path | None) -> list[str]:
    trained, class_images = _once(trained), _once(class_images)
    if not trained or not class_images:
        return []
    advice = "class images show others of the class. Take them out of the regularization folder."
    copies = copies_among(class_images, trained)
    problems = []
    if copies:
        names = listed([Path(path).name for path in copies])
        problems.append(f"{_WHERE}: {_are(len(copies))} trained as instance images too ({names}); {advice}")
    others = [sample for sample in class_images if sample.path not in copies]
    pairs = []
    for group in near_duplicates(Dataset((*trained, *others)), cache_folder=looks_folder) if others else ():
        instance = next((sample for sample in group if sample.role == "train"), None)
        pairs += [(sample, instance) for sample in group if instance is not None and sample.role == "regularization"]
    if pairs:
        told = listed([f"{Path(sample.path).name} like {Path(instance.path).name}" for sample, instance in pairs])
        problems.append(f"{_WHERE}: {_are(len(pairs))} too much like training images ({told}); {advice}")
    return problems


def _are(number: int) -> str:
    return f"{several(number, 'class image')} {'is' if number == 1 else 'are'}"


def _once(samples: Sequence[Sample]) -> list[Sample]:
    """One of each file: it stands there once for each of its sizes."""
    return list({sample.path: sample for sample in samples}.values())


def _names(samples: Sequence[Sample]) -> list[str]:
    return list(dict.fromkeys(Path(sample.path).name for sample in samples))


def _caption(job: TrainJob, sample: Sample) -> str:
    settings = sample.captioning.applied_to(job.captions) if sample.captioning else job.captions
    return " ".join((settings.prefix, sample.prompt(job.dataset.trigger), settings.suffix))
