"""Does a run's job and tells what each batch was made of: `python witness.py RUN FILE [MAX_STEPS]`, in a process with another arithmetic.

Beside the test that compares two such tellings, since a process of its own can be given other instructions of the processor.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from athanor.trainer import loop
from athanor.trainer.control import Control
from athanor.trainer.data.feed import Batch, Feed
from athanor.trainer.runs.run import Run
from athanor.trainer.worker import work

Told = dict[int, dict[str, Any]]
"""By the batch's number: `names`, `framings`, `prompts` and `draws`, the tensors of random numbers."""


class StopAt(Control):
    def __init__(self, run: Run, max_steps: int):
        super().__init__()
        self._run, self._max_steps = run, max_steps

    @property
    def stop_requested(self) -> bool:
        return len(self._run.losses()) >= self._max_steps


def witnessed(run: Run, max_steps: int | None = None) -> Told:
    """Does the job, at most so many steps of it in all."""
    told: Told = {}

    class Witness(Feed):
        def batch(self, number: int) -> Batch:
            batch = super().batch(number)
            draws = {"posterior": batch.draws.posterior, "noise": batch.draws.noise, "uniform": batch.draws.uniform}
            names = [Path(sample.path).name for sample in batch.samples]
            told[number] = {"names": names, "framings": str(batch.framings), "prompts": batch.prompts, "draws": draws}
            return batch

    loop.Feed, original = Witness, loop.Feed
    try:
        assert work(run, Control() if max_steps is None else StopAt(run, max_steps)) == 0, run.events()
    finally:
        loop.Feed = original
    return told


if __name__ == "__main__":
    folder, file, *more = sys.argv[1:]
    told = witnessed(Run(Path(folder)), int(more[0]) if more else None)
    capability = torch.backends.cpu.get_cpu_capability()
    torch.save({"told": told, "threads": torch.get_num_threads(), "capability": capability, "cuda": torch.cuda.is_available()}, file)
