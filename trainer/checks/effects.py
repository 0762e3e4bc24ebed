"""Settings that would do nothing: refused with a sentence instead of ignored. Nothing heavy is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from ..config import TrainJob
from ..data.remembered_t5 import remembers_t5
from ..data.views import View
from ..families import all_families, family
from ..objective.noise import noise_of
from ..objective.objectives import resolved_huber_schedule
from ..optimizing.steps import steps_of
from ..settings import CaptionSettings, DataSettings, range_problems
from ..trainees.templates import reads_captions
from ..types import Dataset

_FLOW_ONLY = ("shifted", "resolution_shifted")


def effect_problems(job: TrainJob) -> list[str]:
    """A sentence for each setting of objective, captions and data that is out of range, or without effect for this job."""
    problems = [*range_problems(job.objective, "Objective"), *range_problems(job.captions, "Captions"), *range_problems(job.data, "Data")]
    problems += _unused(job.objective, "Objective", _objective_conditions(job))
    problems += _unused(job.captions, "Captions", _caption_conditions(job.captions, job.dataset))
    problems += _unused(job.data, "Data", _data_conditions(job.data, job.dataset))
    problems += [*_objective_problems(job), *_dataset_problems(job), *_caption_problems(job)]
    return problems


def _unused(settings: Any, where: str, conditions: Iterable[tuple[bool, tuple[str, ...], str]]) -> list[str]:
    """For each (in use, fields, what to do): the fields that were changed although they are not in use."""
    defaults = {item.name: item.default for item in dataclasses.fields(settings)}
    return [
        f"{where}: {name} is {getattr(settings, name)!r} but does nothing; {advice}, or put {name} back to {defaults[name]!r}."
        for in_use, names, advice in conditions
        if not in_use
        for name in names
        if getattr(settings, name) != defaults[name]
    ]


def _objective_conditions(job: TrainJob) -> Iterable[tuple[bool, tuple[str, ...], str]]:
    settings = job.objective
    yield settings.weighting == "min_snr", ("min_snr_gamma",), "choose the weighting min_snr"
    bends = settings.loss in ("huber", "smooth_l1")
    yield bends, ("huber_schedule", "huber_c"), "choose the loss huber or smooth_l1"
    scales = bends and resolved_huber_schedule(noise_of(job.base), settings) != "snr"
    yield scales, ("huber_scale",), "choose huber or smooth_l1 with the schedule constant or exponential"
    kind = settings.timestep_sampling
    yield kind == "logit_normal", ("logit_mean",), "choose the timestep sampling logit_normal"
    yield kind in ("logit_normal", "sigmoid", *_FLOW_ONLY), ("logit_std",), "choose the timestep sampling logit_normal, sigmoid or a shifted one"
    yield kind == "mode", ("mode_scale",), "choose the timestep sampling mode"
    yield kind == "shifted", ("shift",), "choose the timestep sampling shifted"
    yield settings.noise_offset > 0, ("noise_offset_random",), "set noise_offset, for example to 0.05"
    # Below 0 it only takes from the offset.
    yield settings.noise_offset > 0 or settings.adaptive_noise_scale >= 0, ("adaptive_noise_scale",), "set noise_offset, for example to 0.05"
    yield settings.multires_iterations > 0, ("multires_discount",), "set multires_iterations, for example to 6"
    yield settings.input_perturbation > 0, ("input_perturbation_random",), "set input_perturbation, for example to 0.1"
    yield settings.masked_loss != "off", ("unmasked_weight",), "choose the masked loss plain or normalized"


def _caption_conditions(settings: CaptionSettings, dataset: Dataset) -> Iterable[tuple[bool, tuple[str, ...], str]]:
    every = [settings, *dict.fromkeys(said.applied_to(settings) for sample in dataset.trained if (said := sample.captioning))]
    yield any(each.is_flexible for each in every), ("keep_tokens",), "turn shuffle on, or set tag_dropout or tag_warmup"
    yield any(each.tag_warmup > 0 for each in every), ("tag_warmup_start",), "set tag_warmup, for example to 0.3"
    yield any(each.is_random for each in every), ("variants",), "turn shuffle or wildcards on, or set tag_dropout or tag_warmup"


def _data_conditions(settings: DataSettings, dataset: Dataset) -> Iterable[tuple[bool, tuple[str, ...], str]]:
    every = [settings, *dict.fromkeys(said.applied_to(settings) for sample in dataset.trained if (said := sample.viewing))]
    yield any(each.has_variants for each in every), ("variants",), "turn random_crop or colors on"


def _objective_problems(job: TrainJob) -> list[str]:
    settings, prediction, problems = job.objective, job.base.prediction, []
    if settings.min_timestep >= settings.max_timestep:
        problems.append(
            f"Objective: min_timestep is {settings.min_timestep} and max_timestep {settings.max_timestep}; the first must be the smaller one, 0 and 1000 are all."
        )
    if prediction == "flow":
        for name, off in (("weighting", "none"), ("noise_offset", 0.0), ("adaptive_noise_scale", 0.0), ("multires_iterations", 0)):
            if getattr(settings, name) != off:
                problems.append(
                    f"Objective: {name} is {getattr(settings, name)!r}, which is made for models that predict noise or v; {job.base.name} is a rectified flow. Set it to {off!r}."
                )
        if settings.loss in ("huber", "smooth_l1") and settings.huber_schedule == "snr":
            problems.append(
                f"Objective: the huber_schedule snr needs a signal-to-noise ratio that {job.base.name}, a rectified flow, has not; choose auto."
            )
    elif settings.timestep_sampling in _FLOW_ONLY:
        problems.append(
            f"Objective: the timestep_sampling {settings.timestep_sampling} is made for rectified flows; {job.base.name} predicts {_TITLES[prediction]}. Choose auto."
        )
    if settings.zero_terminal_snr == "on" and prediction != "v":
        problems.append(
            f"Objective: zero_terminal_snr works with v prediction only, since noise alone tells nothing of itself; {job.base.name} predicts {_TITLES[prediction]}. Choose auto."
        )
    problems += [
        f"Objective: concept_weights has the line {name!r}; write the concept, = and a number from 0 to 100, for example: cat = 0.5."
        for name, weight in settings.weights_of_concepts().items()
        if weight is None
    ]
    return problems


_TITLES = {"epsilon": "noise", "v": "v", "flow": "the flow"}


def _dataset_problems(job: TrainJob) -> list[str]:
    settings, samples, problems = job.objective, job.dataset.trained, []
    if not samples:
        return problems
    has_masks = any(View(sample).has_mask for sample in job.dataset.samples)
    if not has_masks and (settings.masked_loss == "normalized" or settings.unmasked_weight != 0):
        problems.append(
            "Objective: the masked loss is set up but no image has a mask; choose masks in Load Dataset, or put masked_loss back to plain."
        )
    if settings.regularization_weight != 1 and not job.dataset.with_role("regularization") and not job.prior.class_images:
        problems.append(
            f"Objective: regularization_weight is {settings.regularization_weight} but there are no regularization images; choose their folder in Load Dataset, let Prior Settings draw some, or set it to 1."
        )
    concepts = {sample.concept for sample in samples}
    strangers = [name for name, weight in settings.weights_of_concepts().items() if weight is not None and name not in concepts]
    problems += [
        f"Objective: concept_weights names the concept {name!r}, which no image has; there are: {', '.join(sorted(concepts))[:300]}."
        for name in strangers
    ]
    if job.data.mirror and any(s.placement and s.placement.mirrored for s in samples):
        problems.append("Data: mirror is on, but the dataset holds the mirror images already; turn it off here or in the Bucket node.")
    if job.data.resize != "auto" and all(s.placement and s.placement.resized_px == (s.width_px, s.height_px) for s in samples):
        problems.append("Data: resize does nothing, since no image is resized; put it back to 'auto'.")
    if job.data.random_crop and all(s.placement and s.placement.resized_px == s.placement.bucket_px for s in samples):
        problems.append("Data: random_crop does nothing, since every image fits its size exactly; turn it off.")
    return problems


def _never_dropped(job: TrainJob) -> list[str]:
    every, samples = job.captions.dropout_every_epochs, job.dataset.trained
    if not every or not samples or any(sample.placement is None for sample in samples) or every <= (epochs := steps_of(job).epochs):
        return []
    return [
        f"Captions: dropout_every_epochs is {every}, but the run has {epochs} epoch{'s' * (epochs != 1)}, so no caption would be dropped; lower it, or set it to 0."
    ]


def _caption_problems(job: TrainJob) -> list[str]:
    plain = CaptionSettings()
    if job.kind == "embedding" and not reads_captions(job.embedding) and job.captions != plain:
        changed = [item.name for item in dataclasses.fields(plain) if getattr(job.captions, item.name) != item.default]
        return [
            f"Captions: {', '.join(changed)} does nothing with the templates {job.embedding.templates}, which make the prompts without captions; choose the templates captions, or leave out the Caption Settings."
        ]
    problems = _never_dropped(job)
    if all(each.name != job.base.family for each in all_families()):
        return problems
    chosen = family(job.base.family)
    if chosen.max_chunks == 1 and job.captions.max_tokens != plain.max_tokens:
        problems.append(
            f"Captions: max_tokens is {job.captions.max_tokens!r} but does nothing with {chosen.title}, whose T5 has its own length; put it back to {plain.max_tokens!r}."
        )
    separate = chosen.separate_encoders if chosen.t5_part(job.base) else tuple(name for name in chosen.separate_encoders if name != "t5")
    problems += [
        f"Captions: {name}_dropout is {rate:g} but does nothing, since {job.base.name} "
        f"{'comes without its T5' if chosen.separate_encoders else f'is {chosen.title}, whose encoders are not dropped one by one'}; set it to 0."
        for name, rate in job.captions.encoder_dropouts.items()
        if name not in separate
    ]
    if job.captions.variants and job.trains_text and not remembers_t5(job):
        problems += [
            f"Captions: variants is {job.captions.variants} but does nothing while the text encoder is trained, as every caption is new then; set it to 0, or the text encoder's rate."
        ]
    return problems
