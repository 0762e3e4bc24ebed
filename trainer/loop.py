"""The training: one function that reads from top to bottom."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .cache import TensorCache
from .captions import captioner_of
from .config import TrainJob
from .control import Control, Stopped
from .embedding_trainee import embedding_trainee
from .errors import AthanorError
from .families import family as family_named
from .families.base import Family
from .feed import Feed
from .latents import missing_latents, store_latents
from .lora_trainee import lora_trainee
from .memory import best_device, peak_mib, release
from .milestones import Milestones
from .noise import noise_of, trained_base
from .optimizers import OPTIMIZERS
from .prompts import PromptBook, text_precision
from .run import EventLog, Run
from .schedules import rate_factor
from .state import Position, load_state
from .step import batch_losses
from .trainee import Trainee
from .types import Sample
from .validate import check_train_job
from .views import View, all_views

if TYPE_CHECKING:
    import torch
    from torch import nn

_STATE_EVERY_SEC = 120.0
_NUM_VALIDATION_TIMES = 8


def train(run: Run, control: Control) -> None:
    """Trains the job of `run` from where it was left to its end, or until `control` asks to stop.

    Raises AthanorError for everything that the user can mend; what was saved before stays.
    """
    try:
        _train(run, control)
    except Stopped:
        # What was encoded until then is in the cache.
        EventLog(run.folder).write("done", {"step": len(run.losses()), "stopped": True, "peak_mib": round(peak_mib(), 1)})


def _train(run: Run, control: Control) -> None:
    import torch

    job = run.train_job()
    check_train_job(job)
    events, family, device = EventLog(run.folder), family_named(job.base.family), best_device()
    job = dataclasses.replace(job, base=trained_base(job.base, job.objective))
    samples, held_out = job.dataset.trained, job.dataset.with_role("validation")
    precision = torch.bfloat16 if job.train.precision == "bf16" else torch.float32
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision is torch.bfloat16)
    cache = TensorCache(run.folder.parent / ".cache" if job.data.keep_latents == "disk" else None)
    process, captioner = noise_of(job.base), captioner_of(job)

    # Text first, then images, then the denoiser: each leaves memory before the next comes, unless it is trained.
    encoding = text_precision(family, job.train.precision)
    text = family.load_text(job.base, torch.bfloat16 if encoding == "bf16" else torch.float32)
    for encoder in text.parts().values():
        encoder.to(device)
    trainee = embedding_trainee(job, family, text) if job.kind == "embedding" else None
    measured = [captioner.plain(sample) for sample in held_out]
    captions = [trainee.caption(each, 0) if trainee else each for each in (*captioner.longest(samples), *measured)]
    prompts = [trainee.prompt(line) if trainee else line for line in job.samples.lines]
    book = PromptBook(family, job.base.fingerprint, cache, _num_chunks(family, text, captions, events), device, text, encoding)
    if job.kind == "lora" and job.train.text_encoder_rate == 0:
        book.store([*captioner.every_prompt(samples), *measured, *prompts, job.samples.negative_prompt], _phase(events, control, "text"))
        book.text = text = None
        release()

    views = [view for sample in samples for view in all_views(sample, job.data)] + [View(sample) for sample in held_out]
    vae = _store_images(job, family, views, cache, device, _phase(events, control, "latents"))
    denoiser = family.load_denoiser(job.base, precision).to(device)
    trainee = trainee or lora_trainee(job, family, denoiser, text)

    feed = Feed(job, family, captioner, cache, trainee.caption)
    steps_per_epoch, total_steps = feed.batches_per_epoch, feed.num_batches
    warmup_steps = round(total_steps * job.train.warmup_percent / 100)
    groups = [{"params": list(group.parameters.values()), "lr": group.rate} for group in trainee.groups]
    optimizer = OPTIMIZERS[job.train.optimizer](groups, job.train.weight_decay, job.optimizer)
    position = load_state(run.folder / "state", trainee.parameters(), optimizer) or Position(0)
    step, epoch_losses = position.step, list(position.epoch_losses)
    events.write("start", _start_report(trainee, step, total_steps, steps_per_epoch, job.train.epochs))
    milestones = Milestones(run, job, family, events, trainee, book, captioner, denoiser, vae, cache, device, autocast)

    if step == 0 and held_out:
        milestones.validate(0, 0)
    if step == total_steps:
        # The last epoch's file was deleted, or the worker ended between its state and its last word.
        milestones.epoch_end(job.train.epochs, step)
    parameters = list(trainee.parameters().values())
    last_state_sec = loop_started_sec = time.monotonic()
    while step < total_steps and not control.stop_requested:
        started_sec = time.monotonic()
        epoch, batch = step // steps_per_epoch + 1, feed.batch(step)
        factor = rate_factor(job.train.schedule, step, total_steps, warmup_steps)
        for group, settings in zip(optimizer.param_groups, trainee.groups, strict=True):
            group["lr"] = settings.rate * factor

        with autocast, trainee.dropping(step):
            conditioning = book.conditioning(batch.prompts, batch.framings)
            losses = batch_losses(
                family,
                process,
                denoiser,
                batch.mean.to(device),
                batch.std.to(device),
                batch.mask,
                batch.draws,
                batch.times,
                conditioning,
                job.objective,
            )
            loss = (losses * batch.weights.to(device)).mean()
        value = loss.item()
        if not math.isfinite(value):
            raise AthanorError(_not_finite(value, step, epoch, batch.samples))
        loss.backward()
        if job.train.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(parameters, job.train.max_grad_norm)
        optimizer.step()
        trainee.after_step()
        optimizer.zero_grad(set_to_none=True)

        step += 1
        epoch_losses.append(value)
        rates = {group.name: group.rate * factor for group in trainee.groups}
        events.write("step", {"step": step, "epoch": epoch, "loss": value, "rates": rates, "seconds": round(time.monotonic() - started_sec, 4)})
        if step % steps_per_epoch == 0:
            events.write("epoch", {"epoch": epoch, "step": step, "loss": sum(epoch_losses) / len(epoch_losses)})
            epoch_losses.clear()
            if epoch % job.train.save_every_epochs == 0 or step == total_steps:
                milestones.epoch_end(epoch, step)
                last_state_sec = -math.inf
        if time.monotonic() - last_state_sec > _STATE_EVERY_SEC:
            milestones.save_state(Position(step, tuple(epoch_losses)), optimizer)
            last_state_sec = time.monotonic()

    feed.close()
    stopped = step < total_steps
    if stopped:
        milestones.save_state(Position(step, tuple(epoch_losses)), optimizer)
        milestones.save_file(None, step, f"{run.name}-step{step:08d}.safetensors")
    waited_share = feed.waited_sec / max(1e-9, time.monotonic() - loop_started_sec)
    events.write("done", {"step": step, "stopped": stopped, "peak_mib": round(peak_mib(), 1), "waited_share": round(waited_share, 4)})


def _num_chunks(family: Family, text, captions: Sequence[str], events: EventLog) -> int:
    wanted = family.num_chunks(text, captions)
    if wanted > family.max_chunks:
        events.write("warning", {"message": f"Some captions are longer than {family.max_chunks * 75} tokens; what comes after is not seen."})
    return min(wanted, family.max_chunks)


def _phase(events: EventLog, control: Control, name: str) -> Callable[[int, int], None]:
    """Tells how far a preparation is, and ends it where a stop is asked for."""

    def show(done: int, total: int) -> None:
        events.write("phase", {"name": name, "done": done, "total": total})
        control.raise_if_stopped()

    return show


def _store_images(
    job: TrainJob, family: Family, views: Sequence[View], cache: TensorCache, device: torch.device, on_progress: Callable[[int, int], None]
) -> nn.Module | None:
    """Fills the cache; returns the autoencoder, on the CPU, where sample pictures will need it."""
    missing = missing_latents(job.base.fingerprint, views, cache)
    if not missing and not job.samples.lines:
        return None
    vae = family.load_vae(job.base)
    if missing:
        vae.to(device)
        store_latents(family, vae, job.base.fingerprint, missing, cache, device, on_progress)
        vae.to("cpu")
    if not job.samples.lines:
        del vae
        release()
        return None
    return vae


def _start_report(trainee: Trainee, step: int, total_steps: int, steps_per_epoch: int, total_epochs: int) -> dict[str, object]:
    parts = [{"name": group.name, "modules": group.num_modules, "parameters": group.num_parameters, "rate": group.rate} for group in trainee.groups]
    return {
        "step": step,
        "total_steps": total_steps,
        "steps_per_epoch": steps_per_epoch,
        "total_epochs": total_epochs,
        "parts": parts,
        "pid": os.getpid(),
    }


def _not_finite(value: float, step: int, epoch: int, batch: Sequence[Sample]) -> str:
    names = ", ".join(Path(sample.path).name for sample in batch)
    return (
        f"The loss became {value} at step {step + 1} (epoch {epoch}; images {names}), so the run was stopped; what was saved before is whole. "
        "Lower the learning rate, or choose precision fp32, and train anew."
    )
