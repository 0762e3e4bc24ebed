"""Measures epochs: one load of the base, each epoch worn once, everything kept the moment it is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..checks.validate import check_score_job
from ..compare.draw import save_cell
from ..compare.painter import Painter
from ..config import ScoredEpoch, ScoreJob, SheetCell
from ..control import Control
from ..data.cache import TensorCache
from ..data.cache_folder import CACHE
from ..data.latents import missing_latents, store_latents, vae_fingerprint
from ..data.views import plain_view
from ..files import replace_atomically
from ..held_out import HeldOut
from ..memory.devices import best_device, peak_mib
from ..runs.events import EventLog
from ..runs.run import Run
from .embedders import load_embedder
from .features import looks_of
from .likeness import caption_likeness, copying, diversity, likeness, mirrored_too
from .measured import EpochValues, Measured, Values, write_measured
from .norms import layer_norms

if TYPE_CHECKING:
    import torch

_BATCH = 4
_MAX_TRAINING = 4000


def measure_epochs(run: Run, job: ScoreJob, control: Control) -> None:
    """Losses and pictures of every epoch that are not there yet, then what can be told from them, into measured.json.

    Ends well when it is asked to stop: what is there then is not measured again. Raises AthanorError for what the user can mend.
    """
    check_score_job(job)
    work = _Work(run.folder, job, EventLog(run.folder), best_device())
    work.begin()
    for epoch in job.epochs:
        if control.stop_requested or not work.measure(epoch, control):
            break
    if work.is_done:
        work.free()
        write_measured(run.folder, work.judged())
    work.events.write("done", {"step": work.num_done, "stopped": not work.is_done, "peak_mib": round(peak_mib(), 1)})


class _Work:
    def __init__(self, folder: Path, job: ScoreJob, events: EventLog, device: torch.device):
        self._folder, self._job, self.events, self._device = folder, job, events, device
        self._painter: Painter | None = None
        self._held_out: HeldOut | None = None
        files = [*(folder / cell.file for cell in job.pictures.cells), *(self._losses_file(epoch) for epoch in job.epochs)]
        self._total, self.num_done = len(files), sum(file.is_file() for file in files)

    @property
    def is_done(self) -> bool:
        return self.num_done == self._total

    def begin(self) -> None:
        job = self._job
        self.events.write("start", {"step": self.num_done, "total_steps": self._total})
        if self.is_done:
            return
        cache = TensorCache(self._folder.parents[2] / CACHE)
        painter = Painter(job.pictures, self._device, cache)
        painter.load(job.pictures.cells, job.captions)
        base, views = job.pictures.base, [plain_view(sample, job.data) for sample in job.held_out]
        vae_id = cache.remembered(f"vae of {base.family} in {base.fingerprint}", lambda: vae_fingerprint(painter.vae))
        missing = missing_latents(vae_id, views, cache)
        store_latents(painter.family, painter.vae, vae_id, missing, cache, self._device, lambda done, total: None)
        self._held_out = HeldOut(painter.family, base, vae_id, cache, self._device, painter.autocast, _BATCH, job.masked_loss)
        self._painter = painter

    def measure(self, epoch: ScoredEpoch, control: Control) -> bool:
        """Its losses and its pictures; False if it was asked to stop meanwhile."""
        if not self._losses_file(epoch).is_file():
            self._write_losses(epoch)
            self.num_done += 1
            self.events.write("score", {"step": self.num_done, "epoch": epoch.number})
        waiting = [cell for cell in self._cells(epoch) if not (self._folder / cell.file).is_file()]
        for start in range(0, len(waiting), _BATCH):
            if control.stop_requested:
                return False
            self._draw(waiting[start : start + _BATCH])
        return True

    def _write_losses(self, epoch: ScoredEpoch) -> None:
        painter, held_out = self._painter, self._held_out
        assert painter is not None and held_out is not None
        painter.wear(epoch.path, 1.0, 1.0)
        means = []
        for sample, caption in zip(self._job.held_out, self._job.captions, strict=True):
            losses = held_out.losses(
                painter.denoiser,
                plain_view(sample, self._job.data),
                lambda rows, framing, caption=caption: painter.conditioning(epoch.path, [caption] * rows, [framing] * rows),
            )
            means.append(sum(losses) / len(losses))
        replace_atomically(self._losses_file(epoch), lambda temporary: temporary.write_text(json.dumps(means), encoding="utf-8"))

    def _draw(self, cells: Sequence[SheetCell]) -> None:
        import torch

        painter = self._painter
        assert painter is not None
        with torch.no_grad(), painter.autocast:
            pictures = painter.paint(cells)
        for cell, picture in zip(cells, pictures, strict=True):
            save_cell(self._folder, cell, picture, painter.base)
            self.num_done += 1
            self.events.write("cell", {"step": self.num_done, "file": cell.file})

    def free(self) -> None:
        """The base leaves memory before the model that judges comes."""
        if self._painter is not None:
            self._painter.drop_models()
        self._painter = self._held_out = None

    def judged(self) -> Measured:
        """Everything that the pictures, the losses and the files tell."""
        job = self._job
        embedder = load_embedder(job.embedder, self._device)
        shown = [plain_view(sample, job.data).picture() for sample in job.held_out]
        wanted, texts = embedder.images(shown), embedder.texts(job.captions) if job.judges_captions else None
        trained = self._training_looks()
        epochs = []
        for epoch in job.epochs:
            values = [Values("validation loss", tuple(json.loads(self._losses_file(epoch).read_text(encoding="utf-8"))))]
            # [images, seeds, numbers]
            pictures = [_opened(self._folder / cell.file) for cell in self._cells(epoch)]
            given = embedder.images(pictures).reshape(len(job.held_out), job.num_seeds, -1)
            values.append(Values("likeness", likeness(given, wanted)))
            if texts is not None:
                values.append(Values("caption likeness", caption_likeness(given, texts)))
            if job.num_seeds > 1:
                values.append(Values("diversity", diversity(given)))
            if trained is not None:
                values.append(Values("copying", copying(looks_of(pictures).reshape(len(job.held_out), job.num_seeds, -1), trained)))
            norms = tuple(layer_norms(Path(epoch.path)).items()) if epoch.path and not job.pictures.trained_parts else ()
            epochs.append(EpochValues(epoch.number, tuple(values), norms))
        own = copying(looks_of(shown)[:, None], trained) if trained is not None else ()
        images = tuple(sample.path for sample in job.held_out)
        return Measured(tuple(epochs), job.captions, images, job.num_seeds, job.embedder, sum(own) / len(own) if own else None)

    def _training_looks(self):
        """[N, numbers] of the training images and their mirror images; None where there are none."""
        training = self._job.training
        if len(training) > _MAX_TRAINING:
            told = f"Copies are looked for in {_MAX_TRAINING} of the {len(training)} training images, evenly chosen."
            self.events.write("warning", {"message": told})
            training = tuple(training[i * len(training) // _MAX_TRAINING] for i in range(_MAX_TRAINING))
        return (
            looks_of([picture for sample in training for picture in mirrored_too(plain_view(sample, self._job.data).picture())]) if training else None
        )

    def _cells(self, epoch: ScoredEpoch) -> Sequence[SheetCell]:
        num = len(self._job.held_out) * self._job.num_seeds
        first = self._job.epochs.index(epoch) * num
        return self._job.pictures.cells[first : first + num]

    def _losses_file(self, epoch: ScoredEpoch) -> Path:
        return self._folder / "losses" / f"{epoch.name}.json"


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
