"""The held-out loss of saved epochs, measured anew from their files as it was measured during the training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from .control import Control
from .errors import AthanorError
from .preparation import prepare_training
from .prior.class_images import draw_class_images
from .runs.events import NoEvents
from .runs.run import Epoch, Run
from .settings import SampleSettings
from .validation import held_out_loss


def measured_epochs(run: Run, epochs: Sequence[Epoch], control: Control) -> Iterator[tuple[Epoch | None, float]]:
    """Each epoch and its loss; before them None and that of the start of the training. Nothing of the run is changed.

    A file in half precision gives its loss but for the rounding of its numbers. Raises AthanorError where nothing is held out.
    """
    job = run.train_job()
    if not job.dataset.with_role("validation"):
        raise AthanorError(f"{run.name} holds out no images to measure on; make a dataset with a held-out share and train anew.")
    job = draw_class_images(run, dataclasses.replace(job, samples=SampleSettings()), NoEvents(), control)
    ready = prepare_training(run, job, NoEvents(), control)
    yield None, held_out_loss(ready)
    for epoch in epochs:
        ready.trainee.take(epoch.path)
        ready.trainee.take_words(dict(epoch.words))
        yield epoch, held_out_loss(ready)
