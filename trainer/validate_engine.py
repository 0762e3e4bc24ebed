"""What the optimizer, the schedule and their options must be to each other. Nothing heavy is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import optimizers, schedules
from .batches import steps_per_epoch
from .config import TrainJob
from .optimizers import AVERAGING, RATE_FINDING, missing_package
from .settings import optimizer as optimizer_section
from .settings import range_problems
from .settings import schedule as schedule_section


def engine_problems(job: TrainJob) -> list[str]:
    """A sentence for each thing that is out of range, has no effect, or cannot work together."""
    problems = [*range_problems(job.optimizer, "Optimizer"), *range_problems(job.schedule, "Schedule")]
    if job.train.optimizer in optimizers.OPTIMIZERS:
        problems += _section_problems(
            "Optimizer",
            job.train.optimizer,
            job.optimizer.kind,
            optimizer_section.chosen_options(job.optimizer),
            optimizers.own_options,
            optimizers.OPTIMIZERS.names(),
        )
        problems += _optimizer_problems(job)
    if job.train.schedule in schedules.SCHEDULES:
        problems += _section_problems(
            "Schedule",
            job.train.schedule,
            job.schedule.kind,
            schedule_section.chosen_options(job.schedule),
            schedules.own_options,
            schedules.SCHEDULES.names(),
        )
        problems += _schedule_problems(job)
    return problems


def _section_problems(
    noun: str, name: str, kind: str, chosen: Mapping[str, Any], own_options: Callable[[str], Mapping[str, Any]], names: tuple[str, ...]
) -> list[str]:
    if kind and kind != name:
        return [f"{noun}: the settings node is set up for {kind}, the training node for {name}; choose the same in both."]
    problems = []
    for option in (option for option in chosen if option not in own_options(name)):
        others = ", ".join(other for other in names if option in own_options(other))
        problems.append(f"{noun}: {option} does nothing with {name}; leave it out, or choose one that has it: {others}.")
    return problems


def _optimizer_problems(job: TrainJob) -> list[str]:
    name, train, problems = job.train.optimizer, job.train, []
    missing = missing_package(name)
    if missing:
        problems.append(missing)
    rates = [rate for rate in (train.rate, train.text_encoder_rate) if rate > 0]
    if name in RATE_FINDING and rates:
        if max(rates) < 0.1:
            problems.append(f"Optimizer: {name} finds the learning rate by itself and multiplies it by yours, {max(rates):g}; set the rates to 1, or to 0.")
        elif len(set(rates)) > 1:
            told = " and ".join(f"{rate:g}" for rate in rates)
            problems.append(f"Optimizer: {name} finds one rate for everything, but yours are {told}; set both to 1, or one of them to 0.")
    if name in AVERAGING:
        if train.schedule != "constant":
            problems.append(f"Optimizer: {name} takes the mean of the way instead of a falling rate; choose the schedule constant, not {train.schedule}.")
        if job.optimizer.ema_decay > 0:
            problems.append(f"Optimizer: {name} takes the mean of the way already, so ema_decay must be 0.")
    options = optimizer_section.all_options(name, job.optimizer)
    if options.get("nesterov") and not options["momentum"]:
        problems.append("Optimizer: nesterov does nothing without momentum; set momentum, for example to 0.9.")
    if job.optimizer.ema_on_cpu and job.optimizer.ema_decay == 0:
        problems.append("Optimizer: ema_on_cpu does nothing while ema_decay is 0; set ema_decay, for example to 0.999, or turn it off.")
    return problems


def _schedule_problems(job: TrainJob) -> list[str]:
    problems = []
    if job.train.schedule == "constant" and job.schedule.min_ratio > 0:
        problems.append("Schedule: min_ratio does nothing with constant, which never falls; set it to 0, or choose another schedule.")
    samples = job.dataset.with_role("train")
    if job.schedule.warmup_steps and samples and all(sample.placement for sample in samples):
        total = steps_per_epoch(samples, job.train.batch_size, job.optimizer.accumulation) * job.train.epochs
        if job.schedule.warmup_steps >= total:
            problems.append(f"Schedule: the warm-up of {job.schedule.warmup_steps} steps is as long as the whole run of {total}; make it shorter.")
    return problems
