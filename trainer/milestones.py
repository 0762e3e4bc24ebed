"""What a training does now and then: validate, save, draw sample pictures. Nothing of it changes what is trained next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .cache import TensorCache
from .captions import Captioner
from .config import TrainJob
from .draws import validation_draws
from .families.base import Family
from .formats.files import save_tensors
from .formats.metadata import base_hashes, file_metadata
from .latents import load_latents, load_masks
from .noise import noise_of
from .objectives import validation_times
from .prompts import PromptBook
from .run import EventLog, Run
from .sampling import draw_samples, save_picture
from .settings import ObjectiveSettings
from .state import Position, save_state
from .step import batch_losses
from .steps import steps_of
from .trainee import Trainee
from .types import Sample
from .updates import Updates
from .views import View

if TYPE_CHECKING:
    import torch
    from torch import nn

_NUM_VALIDATION_TIMES = 8
_PLAIN = ObjectiveSettings(masked_loss="normalized")
"""Held-out images are measured alike whatever the training minimises, so that runs can be compared."""


@dataclass
class Milestones:
    run: Run
    job: TrainJob
    family: Family
    events: EventLog
    trainee: Trainee
    updates: Updates
    book: PromptBook
    captioner: Captioner
    denoiser: nn.Module
    vae: nn.Module | None
    """On the CPU; None where no sample pictures are wanted."""
    cache: TensorCache
    device: torch.device
    autocast: torch.autocast

    def epoch_end(self, epoch: int, step: int) -> None:
        """Saves the epoch's file, then measures and draws with it."""
        with self.updates.averaged():
            self._save_file(epoch, step, f"{self.run.name}-{epoch:06d}.safetensors")
            if self.job.dataset.with_role("validation"):
                self.validate(epoch, step)
            if self.job.samples.lines:
                self._draw_samples(epoch, step)

    def sample_now(self, step: int) -> None:
        """Draws the sample pictures with what is trained so far."""
        if not self.job.samples.lines:
            self.events.write("warning", {"message": "No sample pictures were drawn: this run has no sample prompts."})
            return
        with self.updates.averaged():
            self._draw_samples(None, step)

    def save_unfinished(self, step: int) -> None:
        """Saves what is trained so far, in the middle of an epoch."""
        with self.updates.averaged():
            self._save_file(None, step, f"{self.run.name}-step{step:08d}.safetensors")

    def _save_file(self, epoch: int | None, step: int, name: str) -> None:
        whole_epochs = step // steps_of(self.job).per_epoch
        metadata = {**file_metadata(self.job, self.family, whole_epochs, step), **self.trainee.metadata, **self._base_hashes}
        sha256 = save_tensors(self.run.folder / "epochs" / name, self.trainee.export(), metadata, self.job.train.save_precision)
        self.events.write("saved", {"epoch": epoch, "step": step, "file": f"epochs/{name}", "sha256": sha256})

    def save_state(self, position: Position) -> None:
        save_state(self.run.folder / "state", position, self.trainee.parameters(), self.updates)
        self.events.write("state", {"step": position.step})

    def validate(self, epoch: int, step: int) -> None:
        """The mean loss over the held-out images, each at the same times with the same noise at every epoch."""
        self.trainee.rest()
        losses = [loss for sample in self.job.dataset.with_role("validation") for loss in self._validation_losses(sample)]
        self.events.write("validation", {"epoch": epoch, "step": step, "loss": sum(losses) / len(losses)})

    def _validation_losses(self, sample: Sample) -> list[float]:
        import torch

        view, process = View(sample), noise_of(self.job.base)
        mean, std = load_latents(self.job.base.fingerprint, [view], self.cache, self.device)
        masks = load_masks([view], self.family.vae_stride_px, 0.0, self.cache) if self.job.objective.masked_loss != "off" else None
        draws = validation_draws(Path(sample.path).name, validation_times(_NUM_VALIDATION_TIMES), tuple(mean.shape[1:]))
        prompt = self.trainee.caption(self.captioner.plain(sample), 0)
        losses: list[float] = []
        for piece in draws.pieces(self.job.train.batch_size):
            rows = len(piece.uniform)
            means, stds = mean.expand(rows, -1, -1, -1), std.expand(rows, -1, -1, -1)
            with torch.no_grad(), self.autocast:
                conditioning = self.book.conditioning([prompt] * rows, [view.framing] * rows)
                losses += batch_losses(self.family, process, self.denoiser, means, stds, masks, piece, piece.uniform, conditioning, _PLAIN).tolist()
        return losses

    def _draw_samples(self, epoch: int | None, step: int) -> None:
        """`epoch` is None in the middle of one."""
        assert self.vae is not None
        point = f"e{epoch:06d}" if epoch is not None else f"s{step:08d}"
        model = f"{self.run.name}-{epoch:06d}" if epoch is not None else f"{self.run.name}-step{step:08d}"
        self.trainee.rest()
        settings = self.job.samples
        self.vae.to(self.device)
        pictures = draw_samples(
            self.family, self.job.base, self.denoiser, self.vae, self.book, settings, self.trainee.prompt, self._picture_px, self.autocast
        )
        self.vae.to("cpu")
        for i, (prompt, seed, image) in enumerate(pictures):
            file = f"samples/{self.run.name}_{point}_{i:02d}.png"
            save_picture(
                self.run.folder / file,
                image,
                prompt,
                settings.negative_prompt,
                settings.steps,
                seed,
                settings.guidance,
                model,
            )
            self.events.write("sample", {"epoch": epoch, "step": step, "file": file, "prompt": prompt, "seed": seed})

    @cached_property
    def _base_hashes(self) -> dict[str, str]:
        return base_hashes(Path(self.job.base.path))

    @cached_property
    def _picture_px(self) -> tuple[int, int]:
        """Sample pictures have the size that is trained most."""
        return commonest_bucket(self.job.dataset.with_role("train"))


def commonest_bucket(samples: Sequence[Sample]) -> tuple[int, int]:
    sizes = Counter(sample.placement.bucket_px for sample in samples if sample.placement)
    return max(sizes, key=lambda size: (sizes[size], size))
