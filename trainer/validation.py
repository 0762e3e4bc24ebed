"""The held-out loss of a training: the mean over its held-out images, with what is trained as it is now."""

from __future__ import annotations

from .data.views import plain_view
from .families.base import Conditioning, Framing
from .held_out import HeldOut
from .preparation import Prepared
from .types import Sample


def held_out_loss(ready: Prepared) -> float:
    """Of one held-out image at least; always at the same times with the same noise, see `held_out`."""
    ready.trainee.rest()
    job = ready.job
    measure = HeldOut(
        ready.family,
        job.base,
        ready.vae_id,
        ready.cache,
        ready.device,
        ready.autocast,
        job.train.batch_size,
        job.objective.masked_loss != "off",
    )
    losses = [loss for sample in job.dataset.with_role("validation") for loss in _losses(ready, measure, sample)]
    return sum(losses) / len(losses)


def _losses(ready: Prepared, measure: HeldOut, sample: Sample) -> list[float]:
    prompt = ready.trainee.caption(ready.captioner.plain(sample), 0)

    def conditioning(rows: int, framing: Framing) -> Conditioning:
        return ready.book.conditioning([prompt] * rows, [framing] * rows)

    return measure.losses(ready.denoiser, plain_view(sample, ready.job.data), conditioning)
