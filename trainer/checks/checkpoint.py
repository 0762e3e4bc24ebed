"""What the training of a whole model asks of its settings. Nothing heavy is loaded."""

from __future__ import annotations

import dataclasses
import re

from ..config import TrainJob
from ..errors import AthanorError
from ..families import family
from ..optimizing.optimizers import AVERAGING, RATE_FINDING
from ..settings import AdapterSettings, range_problems

_FUSED = ("adafactor",)


def checkpoint_problems(job: TrainJob) -> list[str]:
    """A sentence for each thing that is out of range, has no effect, or cannot work together."""
    settings, train, problems = job.checkpoint, job.train, list(range_problems(job.checkpoint, "Checkpoint"))
    if train.rate == 0 and not job.trains_text:
        problems.append("All learning rates are 0, so nothing would be trained; raise the rate of the U-Net, for example to 0.000002.")
    try:
        chosen = family(job.base.family)
    except AthanorError:
        return problems  # told already
    if train.rate == 0 and job.trains_text and not chosen.saves_whole:
        problems.append(
            f"The learning rate of the transformer is 0, but {chosen.title} is saved as the file of its transformer; raise it, or train a LoRA of the text encoders."
        )
    try:
        re.compile(settings.pattern)
    except re.error as error:
        problems.append(f"Checkpoint: the pattern {settings.pattern!r} is no regular expression: {error}.")
    if settings.weights == "bf16" and train.precision != "bf16":
        problems.append(f"Checkpoint: weights in bf16 need the precision bf16, not {train.precision}; choose it, or keep the weights in fp32.")
    if settings.weights == "bf16" and train.optimizer in (*RATE_FINDING, *AVERAGING):
        problems.append(
            f"Checkpoint: {train.optimizer} looks at all weights together, which bf16 weights do not go with; keep them in fp32, or choose adamw8bit or adafactor."
        )
    return [*problems, *_fused_problems(job), *_useless(job)]


def _fused_problems(job: TrainJob) -> list[str]:
    if not job.checkpoint.fused_backward:
        return []
    train, problems = job.train, []
    if train.optimizer not in _FUSED:
        problems.append(
            f"Checkpoint: fused_backward goes with the optimizer adafactor, not with {train.optimizer}; choose it, or turn fused_backward off."
        )
    if job.optimizer.accumulation > 1:
        problems.append(
            f"Checkpoint: fused_backward moves the weights after each batch, so that the gradients of {job.optimizer.accumulation} cannot be added up; "
            "set accumulation to 1, or turn fused_backward off."
        )
    if train.max_grad_norm > 0:
        problems.append(
            f"Checkpoint: with fused_backward the gradients are never all there, so that they cannot be shortened to {train.max_grad_norm:g} together; "
            "set max grad norm to 0 (Adafactor limits its steps by itself), or turn fused_backward off."
        )
    if train.precision == "fp16":
        problems.append("Checkpoint: fused_backward does not go with precision fp16, whose gradients are scaled; choose bf16.")
    return problems


def _useless(job: TrainJob) -> list[str]:
    problems, usual = [], AdapterSettings()
    # Kind, rank and alpha are always set to something; they do not ask for anything.
    if dataclasses.replace(job.adapter, kind=usual.kind, rank=usual.rank, alpha=usual.alpha) != usual:
        problems.append("Adapter Settings do nothing where the model's own weights are trained; disconnect them, or use Train LoRA.")
    if job.train.rate > 0:
        if job.train.base_precision != "auto":
            problems.append(
                f"Training: base precision {job.train.base_precision} is for weights that stay as they are, but these are trained; set it to auto."
            )
        if job.performance.block_offload:
            problems.append(
                "Performance: block_offload moves weights that stay as they are, but these are trained; turn it off, and use bf16 weights with fused_backward."
            )
    return problems
