"""Losses that hold what is trained to the base: the same noisy latents are asked of both, and the answers should be the same.

Two of them, each on its own images of a batch: class images, with their own captions; and training images, with the class word in the place of
the trigger (ai-toolkit's differential output preservation). Nothing random of their own is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ..data.feed import Batch
from ..errors import AthanorError
from ..objective.noise import Noise
from ..preparation import Prepared
from ..step import noised

if TYPE_CHECKING:
    import torch

Losses = Callable[[int, Batch], "torch.Tensor | None"]


def trained_rows(ready: Prepared, batch: Batch) -> Batch | None:
    """The images of `batch` that teach their own picture; None where there is none."""
    if ready.job.prior.class_target == "picture":
        return batch
    return _rows(batch, [i for i, sample in enumerate(batch.samples) if sample.role != "regularization"])


def held_losses(ready: Prepared, process: Noise, keeping: Callable[[], AbstractContextManager[object]]) -> tuple[Losses, ...]:
    """What the job asks for: from a batch's number and the batch to the loss of each image that is held, weighted, [B]."""
    prior = ready.job.prior
    if prior.holds and ready.trainee.switched_off is None:
        raise AthanorError("Nothing of the base is left beside what is trained, so that it cannot be held to the base; set hold weight to 0.")

    def of_class(number: int, batch: Batch) -> torch.Tensor | None:
        held = _rows(batch, [i for i, sample in enumerate(batch.samples) if sample.role == "regularization"])
        return None if held is None else _distances(ready, process, keeping, number, held, held.prompts) * held.weights.to(ready.device)

    def of_training(number: int, batch: Batch) -> torch.Tensor | None:
        held = _rows(batch, [i for i, prompt in enumerate(batch.class_prompts) if prompt is not None])
        if held is None:
            return None
        prompts = [prompt for prompt in held.class_prompts if prompt is not None]
        return _distances(ready, process, keeping, number, held, prompts) * held.weights.to(ready.device) * prior.hold_weight

    return (*((of_class,) if prior.class_target == "base" else ()), *((of_training,) if prior.hold_weight > 0 else ()))


def _rows(batch: Batch, numbers: Sequence[int]) -> Batch | None:
    return batch.rows(numbers) if numbers else None


def _distances(
    ready: Prepared,
    process: Noise,
    keeping: Callable[[], AbstractContextManager[object]],
    number: int,
    batch: Batch,
    prompts: Sequence[str],
) -> torch.Tensor:
    """How far the answers to `prompts` are from the base's own, [B]: the mean of their squared difference over all numbers of an image."""
    import torch

    trainee, device = ready.trainee, ready.device
    assert trainee.switched_off is not None
    mean, std, times = batch.mean.to(device), batch.std.to(device), batch.times.to(device)
    noisy, _ = noised(process, mean, std, batch.draws, times, ready.job.objective)

    def answers() -> torch.Tensor:
        told = ready.book.conditioning(prompts, batch.framings, batch.dropped)
        return ready.family.predict(ready.denoiser, noisy, times, told).float()

    trainee.rest()
    # An autocast of its own: it keeps the weights that it has cast, and here they know no gradient.
    with torch.no_grad(), ready.autocast, trainee.switched_off():
        of_base = answers()
    with ready.autocast, trainee.dropping(number), keeping():
        return (answers() - of_base).pow(2).flatten(1).mean(dim=1)
