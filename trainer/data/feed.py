"""What the loop is fed with: for each batch of the run its images, how they are seen, their prompts, weights and random numbers.

Everything follows from the batch's number, so it can be fetched before it is asked for: a thread reads the next ones while
the denoiser is busy with this one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..config import TrainJob
from ..families.base import Family, Framing
from ..objective.draws import Draws, draws_of, encoder_drops
from ..objective.times import training_times
from ..optimizing.steps import steps_of
from ..seeds import stable_seed
from ..settings import ObjectiveSettings
from ..types import Sample
from .batches import batches_per_epoch, epoch_batches
from .cache import TensorCache
from .captions import Captioner
from .latents import load_latents, load_masks
from .views import view_at

if TYPE_CHECKING:
    import torch

_NUM_AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """B images of one bucket, C channels, H x W latents; all on the CPU."""

    samples: tuple[Sample, ...]
    mean: torch.Tensor
    """[B, C, H, W]"""
    std: torch.Tensor
    """[B, C, H, W]"""
    mask: torch.Tensor | None
    """[B, 1, H, W] in 0..1"""
    weights: torch.Tensor
    """[B]: how much each image counts."""
    prompts: tuple[str, ...]
    framings: tuple[Framing, ...]
    draws: Draws
    times: torch.Tensor
    """[B] in 0..1"""
    dropped: Mapping[str, tuple[bool, ...]]
    """For each text encoder that is dropped at times, whether it is, [B]."""
    class_prompts: tuple[str | None, ...]
    """For each image its prompt with the class word instead of the trigger; None where it is not held to the base."""

    def rows(self, numbers: Sequence[int]) -> Batch:
        """Those images of it alone, as they are seen in the whole."""
        if len(numbers) == len(self.samples):
            return self
        chosen = list(numbers)

        def some(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[i] for i in chosen)

        return replace(
            self,
            samples=some(self.samples),
            mean=self.mean[chosen],
            std=self.std[chosen],
            mask=None if self.mask is None else self.mask[chosen],
            weights=self.weights[chosen],
            prompts=some(self.prompts),
            framings=some(self.framings),
            draws=self.draws.rows(chosen),
            times=self.times[chosen],
            dropped={encoder: some(drops) for encoder, drops in self.dropped.items()},
            class_prompts=some(self.class_prompts),
        )


class Feed:
    """The batches of a run by their numbers, the first is 0.

    `vae_id`: what the latents were made with. `to_prompt`: from a caption and a draw to the prompt. `will_ask`: whether a
    batch will be asked for in this process. `as_written`: to the prompt of a regularization image.
    """

    def __init__(
        self,
        job: TrainJob,
        family: Family,
        captioner: Captioner,
        cache: TensorCache,
        vae_id: str,
        to_prompt: Callable[[str, int], str],
        will_ask: Callable[[int], bool] = lambda number: True,
        as_written: Callable[[str], str] = lambda caption: caption,
    ):
        self._job, self._family, self._captioner, self._cache = job, family, captioner, cache
        self._vae_id, self._to_prompt, self._will_ask, self._as_written = vae_id, to_prompt, will_ask, as_written
        self._samples = job.dataset.trained
        self.batches_per_epoch = batches_per_epoch(self._samples, job.train.batch_size)
        self.num_batches = self.batches_per_epoch * steps_of(job).epochs
        self._orders: dict[int, list[tuple[int, ...]]] = {}
        self._ahead: dict[int, Future[Batch]] = {}
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="athanor-feed")
        self.waited_sec = 0.0
        """How long `batch` has kept the loop waiting."""

    def batch(self, number: int) -> Batch:
        """The batch of that number. Raises AthanorError if a cached file is damaged."""
        started_sec = time.perf_counter()
        self._ahead = {n: future for n, future in self._ahead.items() if n >= number}
        following = islice((n for n in range(number + 1, self.num_batches) if self._will_ask(n)), _NUM_AHEAD)
        for n in (number, *following):
            if n not in self._ahead:
                self._ahead[n] = self._pool.submit(self._made, n)
        made = self._ahead.pop(number).result()
        self.waited_sec += time.perf_counter() - started_sec
        return made

    def samples(self, number: int) -> tuple[Sample, ...]:
        """The images of a batch, whoever asks for it; nothing is read for that."""
        epoch, index = number // self.batches_per_epoch + 1, number % self.batches_per_epoch
        return tuple(self._samples[i] for i in self._order(epoch)[index])

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _made(self, number: int) -> Batch:
        import torch

        job, objective = self._job, self._job.objective
        epoch, samples = number // self.batches_per_epoch + 1, self.samples(number)
        views = [view_at(sample, job.data, job.train.seed, number, row) for row, sample in enumerate(samples)]
        mean, std = load_latents(self._vae_id, views, self._cache, torch.device("cpu"))
        mask = None
        if objective.masked_loss != "off":
            mask = load_masks(views, self._family.vae_stride_px, objective.unmasked_weight, self._cache)
        draws = draws_of(job.train.seed, number, tuple(mean.shape), objective)
        times = training_times(draws.uniform, tuple(mean.shape[2:]), self._family, job.base, objective)
        captions = [self._captioner.prompt(sample, epoch, number, row) for row, sample in enumerate(samples)]
        prompts = tuple(self._prompt(sample, caption, number, row) for row, (sample, caption) in enumerate(zip(samples, captions, strict=True)))
        of_class = [self._captioner.class_prompt(sample, caption) for sample, caption in zip(samples, captions, strict=True)]
        class_prompts = tuple(None if prompt is None else self._as_written(prompt) for prompt in of_class)
        weights = torch.tensor(image_weights(samples, objective))
        dropped = encoder_drops(job.train.seed, number, len(samples), job.captions.encoder_dropouts)
        framings = tuple(view.framing for view in views)
        return Batch(samples, mean, std, mask, weights, prompts, framings, draws, times, dropped, class_prompts)

    def _prompt(self, sample: Sample, caption: str, number: int, row: int) -> str:
        if sample.role == "regularization":
            # It shows the class, not what is learned.
            return self._as_written(caption)
        return self._to_prompt(caption, stable_seed(self._job.train.seed, "template", number, row))

    def _order(self, epoch: int) -> list[tuple[int, ...]]:
        """The last two are kept: the thread is an epoch ahead at times."""
        order = self._orders.get(epoch)
        if order is None:
            order = epoch_batches(self._samples, self._job.train.batch_size, self._job.train.seed, epoch)
            self._orders = {**{known: each for known, each in self._orders.items() if abs(known - epoch) == 1}, epoch: order}
        return order


def image_weights(samples: Sequence[Sample], objective: ObjectiveSettings) -> list[float]:
    """How much each image counts: as its concept does, regularization images by their own weight besides."""
    concepts = objective.weights_of_concepts()
    return [
        (concepts.get(sample.concept) or (0.0 if sample.concept in concepts else 1.0))
        * (objective.regularization_weight if sample.role == "regularization" else 1.0)
        for sample in samples
    ]
