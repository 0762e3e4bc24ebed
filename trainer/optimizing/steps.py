"""How a run's batches become optimizer steps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ..config import TrainJob
from ..data.batches import batches_per_epoch


@dataclass(frozen=True)
class Steps:
    """Steps and batches are counted from 0."""

    batches_per_epoch: int
    accumulation: int
    epochs: int
    """The last one may be cut short by `steps`."""
    warmup: int
    steps: int = 0
    """Length of the run where it is told in steps; else 0."""

    @property
    def per_epoch(self) -> int:
        """The last step of an epoch may have fewer batches than are accumulated: no step reaches into the next epoch."""
        return -(-self.batches_per_epoch // self.accumulation)

    @property
    def total(self) -> int:
        return self.steps or self.per_epoch * self.epochs

    def epoch(self, step: int) -> int:
        """The epoch of a step, counted from 1."""
        return step // self.per_epoch + 1

    def turn(self, batch: int) -> int:
        """Which of its step's batches a batch is, from 0."""
        return batch % self.batches_per_epoch % self.accumulation

    def batches(self, step: int) -> range:
        """The batches whose gradients make up a step."""
        epoch, index = divmod(step, self.per_epoch)
        start = epoch * self.batches_per_epoch
        return range(start + index * self.accumulation, start + min(self.batches_per_epoch, (index + 1) * self.accumulation))


def steps_of(job: TrainJob) -> Steps:
    num_batches = batches_per_epoch(job.dataset.trained, job.train.batch_size)
    plain = Steps(num_batches, job.optimizer.accumulation, job.train.epochs, 0, job.run.steps)
    warmup = job.schedule.warmup_steps or round(plain.total * job.train.warmup_percent / 100)
    epochs = -(-job.run.steps // plain.per_epoch) if job.run.steps else job.train.epochs
    return dataclasses.replace(plain, epochs=epochs, warmup=warmup)
