"""What a training does now and then: validate, save, draw sample pictures. Nothing of it changes what is trained next."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .config import TrainJob
from .data.batches import commonest_bucket
from .errors import AthanorError
from .formats.files import save_tensors
from .formats.metadata import base_hashes, file_metadata, word_metadata
from .memory.performance import uncompiled
from .optimizing.steps import steps_of
from .optimizing.updates import Updates
from .preparation import Prepared
from .runs.events import EventLog
from .runs.keeping import keep_last
from .runs.run import WORDS_FOLDER, Run
from .sample_prompts import sample_prompts
from .sampling import draw_samples, named_sampling, save_picture
from .state import Position, drop_states_after, load_state, save_state
from .trainees.trainee import Trainee
from .trainees.words import words_of
from .validation import held_out_loss


@dataclass
class Milestones:
    run: Run
    ready: Prepared
    events: EventLog
    updates: Updates

    @property
    def job(self) -> TrainJob:
        return self.ready.job

    @property
    def trainee(self) -> Trainee:
        return self.ready.trainee

    def after_step(self, step: int, epoch_saves: bool = False) -> bool:
        """Everything that is due after `step` steps; whether a file was saved. `epoch_saves`: an epoch that ends here is saved whatever the settings."""
        steps, run, samples = steps_of(self.job), self.job.run, self.job.samples
        epoch, is_last = steps.epoch(step - 1), step == steps.total
        ends = is_last or step % steps.per_epoch == 0
        saves = is_last or (ends and (epoch_saves or epoch % self.job.train.save_every_epochs == 0))
        draws = saves if not samples.every_epochs else ends and (is_last or epoch % samples.every_epochs == 0)
        draws_between = not draws and samples.every_steps > 0 and step % samples.every_steps == 0
        saves_between = not saves and run.save_every_steps > 0 and step % run.save_every_steps == 0
        if not (saves or draws or draws_between or saves_between):
            return False
        if not self._is_finite:
            raise AthanorError(
                f"The weights became no numbers with step {step}, so the run was stopped. {self.roll_back(step - 1)} "
                "Lower the learning rate, or choose precision fp32, and train anew."
            )
        with self.updates.averaged():
            if saves:
                self._save_epoch(epoch, step)
            elif saves_between:
                self._save_file(None, step, f"{self.run.name}-step{step:08d}.safetensors")
            if samples.lines and (draws or draws_between):
                self._draw_samples(epoch if draws else None, step)
        if (saves or saves_between) and run.keep_last:
            keep_last(self.run, run.keep_last, run.save_every_steps)
        return saves or saves_between

    def _save_epoch(self, epoch: int, step: int) -> None:
        """Saves the epoch's file, then measures with it."""
        self._save_file(epoch, step, f"{self.run.name}-{epoch:06d}.safetensors")
        if self.job.dataset.with_role("validation"):
            self.validate(epoch, step)

    def before_first_step(self) -> None:
        """What the bare base is like."""
        if self.job.dataset.with_role("validation"):
            self.validate(0, 0)
        if self.job.samples.at_start and self.job.samples.lines:
            self._draw_samples(0, 0)

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

    def roll_back(self, step: int) -> str:
        """Goes back to the newest state of at most `step` steps and saves it as a file; a sentence that says so."""
        position = load_state(self.run.folder / "state", self.trainee.parameters(), self.updates, at_most=step)
        drop_states_after(self.run.folder / "state", step)
        if position is None or not position.step:
            return "There is no state from before that, but files saved earlier are whole."
        self.save_unfinished(position.step)
        return f"The run was rolled back to step {position.step}, whose file is {self.run.name}-step{position.step:08d}.safetensors."

    def _save_file(self, epoch: int | None, step: int, name: str) -> None:
        whole_epochs = step // steps_of(self.job).per_epoch
        words = self._save_words(whole_epochs, step, name)
        metadata = {**file_metadata(self.job, self.ready.family, whole_epochs, step), **self.trainee.metadata, **self._base_hashes}
        path, precision = self.run.folder / "epochs" / name, self.job.train.save_precision
        if self.trainee.save is not None:
            sha256 = self.trainee.save(path, metadata, precision)
        else:
            tensors = self.trainee.export()
            if self.job.kind == "embedding":
                metadata["ss_num_vectors"] = str(max(map(len, tensors.values())))
            sha256 = save_tensors(path, tensors, metadata, precision)
        told = {"words": words} if words else {}
        self.events.write("saved", {"epoch": epoch, "step": step, "file": f"epochs/{name}", "sha256": sha256, **told})

    def _save_words(self, epoch: int, step: int, beside: str) -> dict[str, str]:
        """The embeddings that are trained along, each in a file of its own; its path in the run by its name."""
        job, tensors = self.job, self.trainee.words()
        files = {}
        for word in words_of(job.kind, job.embedding):
            if word.name not in tensors:
                continue
            vectors = tensors[word.name]
            metadata = word_metadata(job, self.ready.family, epoch, step, word, max(map(len, vectors.values())))
            point = beside.removeprefix(f"{self.run.name}-")
            files[word.name] = f"{WORDS_FOLDER}/{self.run.name}-{word.name}-{point}"
            save_tensors(self.run.folder / files[word.name], vectors, {**metadata, **self._base_hashes}, job.train.save_precision)
        return files

    def save_state(self, position: Position) -> None:
        if not self._is_finite:
            # The next step's loss will say so; until then the last good state must stay.
            return
        save_state(self.run.folder / "state", position, self.trainee.parameters(), self.updates)
        self.events.write("state", {"step": position.step})

    def validate(self, epoch: int, step: int) -> None:
        with uncompiled(self.job.performance):
            loss = held_out_loss(self.ready)
        self.events.write("validation", {"epoch": epoch, "step": step, "loss": loss})

    def _draw_samples(self, epoch: int | None, step: int) -> None:
        """`epoch` is None in the middle of one."""
        ready = self.ready
        assert ready.vae is not None
        point = f"e{epoch:06d}" if epoch is not None else f"s{step:08d}"
        model = f"{self.run.name}-{epoch:06d}" if epoch is not None else f"{self.run.name}-step{step:08d}"
        self.trainee.rest()
        prompts = sample_prompts(self.job.samples)
        ready.vae.to(ready.device)
        with uncompiled(self.job.performance):
            pictures = draw_samples(
                ready.family, self.job.base, ready.denoiser, ready.vae, ready.book, prompts, self.trainee.prompt, self._picture_px, ready.autocast
            )
        ready.vae.to("cpu")
        for i, (each, image) in enumerate(zip(prompts, pictures, strict=True)):
            file = f"samples/{self.run.name}_{point}_{i:02d}.png"
            sampler, guidance = named_sampling(self.job.base, each.guidance)
            save_picture(self.run.folder / file, image, each.prompt, each.negative_prompt, each.steps, each.seed, guidance, model, sampler)
            self.events.write("sample", {"epoch": epoch, "step": step, "file": file, "prompt": each.prompt, "seed": each.seed})

    @property
    def _is_finite(self) -> bool:
        """Whether everything that is trained still has numbers."""
        import torch

        return all(bool(torch.isfinite(tensor).all()) for tensor in self.trainee.parameters().values())

    @cached_property
    def _base_hashes(self) -> dict[str, str]:
        return base_hashes(self.job.base)

    @cached_property
    def _picture_px(self) -> tuple[int, int]:
        """Sample pictures have the size that is trained most."""
        return commonest_bucket(self.job.dataset.with_role("train"))


class Onlooker(Milestones):
    """Of a process that does not lead: at all of this it only waits, at the next sum with the others."""

    def before_first_step(self) -> None:
        return

    def after_step(self, step: int, epoch_saves: bool = False) -> bool:
        return False

    def sample_now(self, step: int) -> None:
        return

    def save_unfinished(self, step: int) -> None:
        return

    def roll_back(self, step: int) -> str:
        return ""

    def save_state(self, position: Position) -> None:
        return
