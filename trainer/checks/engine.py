"""What the optimizer, the schedule and their options must be to each other. Nothing heavy is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..config import TrainJob
from ..families import all_families, family
from ..memory.performance import performance_problems
from ..optimizing import optimizers, schedules
from ..optimizing.optimizers import AVERAGING, RATE_FINDING, device_problem, missing_package
from ..optimizing.steps import steps_of
from ..settings import optimizer as optimizer_section
from ..settings import range_problems
from ..settings import schedule as schedule_section


def engine_problems(job: TrainJob) -> list[str]:
    """A sentence for each thing that is out of range, has no effect, or cannot work together."""
    problems = [
        *range_problems(job.optimizer, "Optimizer"),
        *range_problems(job.schedule, "Schedule"),
        *range_problems(job.performance, "Performance"),
    ]
    if job.performance.block_offload and job.train.base_precision not in ("auto", job.train.precision):
        problems.append(
            f"Performance: block_offload keeps the base in {job.train.precision}; set base precision to auto, not {job.train.base_precision}, or turn it off."
        )
    if all(each.name != job.base.family for each in all_families()):
        return problems
    problems += [*_rate_problems(job), *_layout_problems(job)]
    if job.train.precision == "fp16" and family(job.base.family).large_text:
        problems.append(f"Training: {family(job.base.family).title} overflows in fp16; choose precision bf16.")
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


def device_problems(job: TrainJob, device_type: str) -> list[str]:
    """A sentence for each thing that this device cannot do; `device_type` is "cuda", "mps", "xpu" or "cpu"."""
    problems = performance_problems(job.performance, device_type)
    told = device_problem(job.train.optimizer, device_type)
    if told:
        problems.append(f"Optimizer: {told}")
    if job.train.precision == "fp16" and device_type != "cuda":
        problems.append("Training: precision fp16 needs a GPU from NVIDIA or AMD, and none is found here; choose bf16 or fp32.")
    if job.train.base_precision == "fp8" and device_type == "mps":
        problems.append("Training: base precision fp8 is not known to Apple's GPUs; choose auto.")
    return problems


def process_problems(job: TrainJob, num_processes: int) -> list[str]:
    """A sentence where some of several processes would never have anything to do, or could not work together."""
    if num_processes > 1 and job.kind == "checkpoint" and job.checkpoint.fused_backward:
        return ["Checkpoint: fused_backward moves the weights before several processes could add up their gradients; turn it off, or start one."]
    accumulation = job.optimizer.accumulation
    if accumulation >= num_processes:
        return []
    return [
        f"Optimizer: accumulation is {accumulation}, but {num_processes} processes train together and share the batches of each step; "
        f"set accumulation to {num_processes} or a multiple of it, or start fewer processes."
    ]


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


def _rates(job: TrainJob) -> list[float]:
    """Of everything that is trained."""
    num_encoders = len(family(job.base.family).text_parts) if job.kind != "embedding" else 1
    t5_rate = job.optimizer.t5_rate if job.kind != "embedding" else 0.0
    along = [job.embedding.embedding_rate] if job.kind == "lora" and job.word_names else []
    own = 0.0 if job.kind == "embedding" else job.train.rate
    return [rate for rate in (own, *job.text_rates[:num_encoders], t5_rate, *along) if rate > 0]


def _rate_problems(job: TrainJob) -> list[str]:
    chosen, second, problems = family(job.base.family), job.optimizer.text_encoder_2_rate, []
    if second >= 0 and job.kind == "embedding":
        problems.append("Optimizer: text_encoder_2_rate does nothing for an embedding, which has one rate; set it to -1.")
    elif second >= 0 and len(chosen.text_parts) < 2:
        instead = "T5 has its own t5_rate" if chosen.large_text else "of which one text encoder can be trained"
        problems.append(f"Optimizer: text_encoder_2_rate does nothing with {chosen.title}, {instead}; set it to -1.")
    if job.optimizer.t5_rate > 0 and job.kind == "embedding":
        problems.append("Optimizer: t5_rate does nothing for an embedding, which has one rate; set it to 0.")
    elif job.optimizer.t5_rate > 0 and chosen.t5_part(job.base) is None:
        told = "comes without its T5; choose the T5 file in Load Base Model, or" if chosen.large_text else f"is {chosen.title}, which has no T5;"
        problems.append(f"Optimizer: t5_rate is {job.optimizer.t5_rate:g}, but {job.base.name} {told} set t5_rate to 0.")
    return problems


def _layout_problems(job: TrainJob) -> list[str]:
    """Of what only transformers can do."""
    chosen, problems = family(job.base.family), []
    if chosen.has_block_rows:
        return problems
    if job.performance.block_offload:
        problems.append(
            f"Performance: block_offload moves the blocks of a transformer, and {chosen.title} is a U-Net, which has no row of equal ones; turn it off."
        )
    if job.performance.attention == "flash":
        problems.append(
            f"Performance: attention flash is for transformers, and {chosen.title} is a U-Net; choose auto, which uses flash attention where the GPU has it."
        )
    return problems


def _optimizer_problems(job: TrainJob) -> list[str]:
    name, train, problems = job.train.optimizer, job.train, []
    missing = missing_package(name)
    if missing:
        problems.append(missing)
    rates = _rates(job)
    if name in RATE_FINDING and rates:
        if max(rates) < 0.1:
            problems.append(
                f"Optimizer: {name} finds the learning rate by itself and multiplies it by yours, {max(rates):g}; set the rates to 1, or to 0."
            )
        elif len(set(rates)) > 1:
            told = " and ".join(f"{rate:g}" for rate in rates)
            problems.append(
                f"Optimizer: {name} finds one rate for everything, but yours are {told}; set them all to 1, or to 0 what should not be trained."
            )
        if job.kind == "lora" and job.adapter.lora_plus_ratio not in (0, 1):
            problems.append(f"Optimizer: {name} finds one rate for everything, so LoRA+ does not go with it; set its ratio to 0.")
    if name in AVERAGING:
        if train.schedule != "constant":
            problems.append(
                f"Optimizer: {name} takes the mean of the way instead of a falling rate; choose the schedule constant, not {train.schedule}."
            )
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
    samples = job.dataset.trained
    if job.schedule.warmup_steps and samples and all(sample.placement for sample in samples):
        total = steps_of(job).total
        if job.schedule.warmup_steps >= total:
            problems.append(f"Schedule: the warm-up of {job.schedule.warmup_steps} steps is as long as the whole run of {total}; make it shorter.")
    return problems
