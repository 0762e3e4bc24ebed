"""The training: one function that reads from top to bottom."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .base_merges import merge_into, merged_fingerprint
from .batches import largest_batch
from .cache import TensorCache
from .cache_folder import CACHE, mark_used
from .captions import captioner_of
from .config import TrainJob
from .control import SAMPLE, SAVE, Control, Stopped
from .curves import LoggedEvents
from .embedding_trainee import embedding_trainee
from .ending import ExplosionWatch, lost_patience
from .errors import AthanorError, raise_problems
from .families import family as family_named
from .families.base import Family, Framing, TextStack
from .feed import Batch, Feed
from .latents import missing_latents, store_latents, vae_fingerprint
from .lora_trainee import lora_trainee
from .memory import PeakMemory, SlowdownWatch, best_device, free_gpu_bytes, make_room, peak_mib, release, slowdown_message
from .milestones import Milestones
from .noise import noise_of, trained_base
from .offload import bring_encoders
from .performance import checkpoint_text, offload_blocks, prepare
from .performance import keeping as keeping_of
from .prompts import PromptBook, text_precision
from .run import EventLog, Run
from .sample_prompts import sample_prompts
from .state import Position, load_state
from .step import backward_together, batch_losses
from .steps import Steps, steps_of
from .storage import chosen_storage, hold, room_on
from .trainee import Trainee
from .types import Sample
from .updates import Updates
from .validate import check_train_job
from .validate_engine import device_problems
from .views import View, all_views, plain_view

if TYPE_CHECKING:
    import torch
    from torch import nn


def train(run: Run, control: Control) -> None:
    """Trains the job of `run` from where it was left to its end, or until `control` asks to stop.

    Raises AthanorError for everything that the user can mend; what was saved before stays.
    """
    try:
        with ExitStack() as ending:
            _train(run, control, ending)
    except Stopped:
        # What was encoded until then is in the cache.
        EventLog(run.folder).write("done", {"step": len(run.losses()), "stopped": True, "peak_mib": round(peak_mib(), 1)})


def _train(run: Run, control: Control, ending: ExitStack) -> None:
    import torch

    job = run.train_job()
    check_train_job(job)
    events, family, device = LoggedEvents(run.folder), family_named(job.base.family), best_device()
    raise_problems(device_problems(job, device.type))
    job = dataclasses.replace(job, base=trained_base(job.base, job.objective))
    samples, held_out = job.dataset.trained, job.dataset.with_role("validation")
    precision = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[job.train.precision]
    autocast = torch.autocast(device.type, dtype=precision if precision is not torch.float32 else None, enabled=precision is not torch.float32)
    mark_used(job.base.files)
    cache = TensorCache(run.folder.parent / CACHE if job.data.keep_latents == "disk" else None)
    process, captioner = noise_of(job.base), captioner_of(job)

    # Text first, then images, then the denoiser: each leaves memory before the next comes, unless it is trained.
    encoding = text_precision(family, job.train.precision)
    text = family.load_text(job.base, torch.bfloat16 if encoding == "bf16" else torch.float32)
    in_text = merge_into(job.adapter, family, text.parts())
    # Gradients that go through T5 need it whole.
    bring_encoders(text.parts().values(), device, free_gpu_bytes(device) if job.kind == "lora" and job.optimizer.t5_rate == 0 else math.inf)
    trainee = embedding_trainee(job, family, text) if job.kind == "embedding" else None
    measured = [captioner.plain(sample) for sample in held_out]
    captions = [trainee.caption(each, 0) if trainee else each for each in (*captioner.longest(samples), *measured)]
    drawn = sample_prompts(job.samples)
    prompts = [text for each in drawn for text in (trainee.prompt(each.prompt) if trainee else each.prompt, each.negative_prompt)]
    fingerprint = merged_fingerprint(job.base.text_identity, job.adapter)
    book = PromptBook(family, fingerprint, cache, _num_chunks(job, family, text, captions, events), device, text, encoding)
    if not job.trains_text:
        book.store([*captioner.every_prompt(samples), *measured, *prompts], _phase(events, control, "text"))
        book.text = text = None
        release()

    views = [view for sample in samples for view in all_views(sample, job.data)] + [plain_view(sample, job.data) for sample in held_out]
    vae, vae_id = _store_images(job, family, views, cache, device, _phase(events, control, "latents"))
    denoiser = family.load_denoiser(job.base, precision)
    merge_into(job.adapter, family, {"denoiser": denoiser}, before=in_text)
    if not job.performance.block_offload:
        denoiser = _held(job, denoiser, device, events).to(device)
    trainee = trainee or lora_trainee(job, family, denoiser, text)
    if (job.optimizer.t5_rate > 0 or job.kind == "embedding") and text is not None and (t5 := family.t5_part(job.base)) is not None:
        checkpoint_text(text.parts()[t5], job.performance, device)
    if job.performance.block_offload:
        offload_blocks(denoiser, device)

    feed = Feed(job, family, captioner, cache, vae_id, trainee.caption)
    ending.callback(feed.close)
    keeping, slowdown = keeping_of(job.performance), SlowdownWatch()

    def largest_pass() -> Callable[[], torch.Tensor]:
        size, count = largest_batch(samples, job.train.batch_size)
        noisy = torch.zeros(count, family.latent_channels, *(side // family.vae_stride_px for side in size[::-1]), device=device)
        prompt = (captions if job.trains_text else captioner.every_prompt(samples))[0]
        with autocast, torch.no_grad():
            conditioning = book.conditioning([prompt] * count, [Framing.whole(size)] * count)
        times = torch.full((count,), 0.5, device=device)
        return autocast(lambda: family.predict(denoiser, noisy, times, conditioning))

    checkpointing = prepare(denoiser, job.performance, device, largest_pass)
    updates, steps = Updates(job, trainee, device), steps_of(job)
    position = load_state(run.folder / "state", trainee.parameters(), updates) or Position(0)
    updates.begin()
    step, epoch_losses = position.step, list(position.epoch_losses)
    events.write("start", {**_start_report(trainee, step, steps), "checkpointing": checkpointing})
    milestones = Milestones(run, job, family, events, trainee, updates, book, captioner, denoiser, vae, vae_id, cache, device, autocast)

    if step == 0:
        milestones.before_first_step()
    if step == steps.total:
        # The last epoch's file was deleted, or the worker ended between its state and its last word.
        milestones.after_step(step)

    def losses_of(number: int, batch: Batch) -> torch.Tensor:
        with autocast, trainee.dropping(number), keeping():
            conditioning, mean, std = book.conditioning(batch.prompts, batch.framings, batch.dropped), batch.mean.to(device), batch.std.to(device)
            losses = batch_losses(family, process, denoiser, mean, std, batch.mask, batch.draws, batch.times, conditioning, job.objective)
            return losses * batch.weights.to(device)

    watch = ExplosionWatch(job.run.explosion_factor, run.losses()[:step])
    ended_early = _lost_patience(run, job)
    last_state_sec, last_shape = time.monotonic(), None
    loop_started_sec = last_state_sec
    memory = PeakMemory()
    while step < steps.total and not (control.stop_requested or ended_early):
        started_sec = time.monotonic()
        epoch, batches = steps.epoch(step), {number: feed.batch(number) for number in steps.batches(step)}
        updates.set_rates(step)
        shape = max(batch.mean.shape for batch in batches.values())
        if shape != last_shape:
            make_room(device)
            last_shape = shape
        value = backward_together(batches, losses_of, updates.backward)
        if watch.broken(value):
            good_step = step if not math.isfinite(value) else step + 1 - watch.num_bad_steps()
            told = _broken(value, step, epoch, steps.batches(step), [sample for batch in batches.values() for sample in batch.samples])
            raise AthanorError(told.format(milestones.roll_back(good_step)))
        updates.step()

        step += 1
        epoch_losses.append(value)
        seconds = round(time.monotonic() - started_sec, 4)
        slower = slowdown.step(tuple(batch.mean.shape for batch in batches.values()), seconds)
        if slower is not None:
            events.write("warning", {"message": slowdown_message(slower, device)})
        events.write("step", {"step": step, "epoch": epoch, "loss": value, "rates": updates.rates(), "seconds": seconds})
        if grown := memory.grown():
            events.write("memory", {"step": step, **grown})
        if step % steps.per_epoch == 0 or step == steps.total:
            events.write("epoch", {"epoch": epoch, "step": step, "loss": sum(epoch_losses) / len(epoch_losses)})
            epoch_losses.clear()
        if milestones.after_step(step, epoch_saves=control.stop_after_epoch):
            last_state_sec = -math.inf
            ended_early = _lost_patience(run, job)
        if control.stop_after_epoch and step % steps.per_epoch == 0:
            control.stop()
        if control.take_wish(SAMPLE):
            milestones.sample_now(step)
        if control.take_wish(SAVE):
            milestones.save_unfinished(step)
            last_state_sec = -math.inf
        if time.monotonic() - last_state_sec > job.run.state_minutes * 60:
            milestones.save_state(Position(step, tuple(epoch_losses)))
            mark_used(job.base.files)
            last_state_sec = time.monotonic()

    cache.settle()
    if ended_early:
        events.write("warning", {"message": f"Ended early after epoch {step // steps.per_epoch}: {_impatient(job.run.patience)}"})
    stopped = step < steps.total and not ended_early
    if stopped:
        milestones.save_state(Position(step, tuple(epoch_losses)))
        if not (control.stop_after_epoch and step % steps.per_epoch == 0):
            milestones.save_unfinished(step)
    waited_share = feed.waited_sec / max(1e-9, time.monotonic() - loop_started_sec)
    events.write("done", {"step": step, "stopped": stopped, "peak_mib": round(peak_mib(), 1), "waited_share": round(waited_share, 4)})


def _held(job: TrainJob, denoiser: nn.Module, device: torch.device, events: EventLog) -> nn.Module:
    """The frozen denoiser in the number format that was asked for, or that fits."""
    num_weights = sum(parameter.numel() for parameter in denoiser.parameters())
    storage = chosen_storage(job.train.base_precision, job.train.precision, num_weights, room_on(device))
    if job.train.base_precision == "auto" and storage != job.train.precision:
        events.write(
            "warning", {"message": f"The base is kept as {storage}, since it does not fit as {job.train.precision}; set base precision to choose."}
        )
    return hold(denoiser, storage, job.train.precision)


def _num_chunks(job: TrainJob, family: Family, text: TextStack, captions: Sequence[str], events: EventLog) -> int:
    wanted, most = family.num_chunks(text, captions), min(int(job.captions.max_tokens) // 75, family.max_chunks)
    if wanted > most:
        events.write("warning", {"message": f"Some captions are longer than {most * 75} tokens; what comes after is not seen."})
    return min(wanted, most)


def _phase(events: EventLog, control: Control, name: str) -> Callable[[int, int], None]:
    """Tells how far a preparation is, and ends it where a stop is asked for."""

    def show(done: int, total: int) -> None:
        events.write("phase", {"name": name, "done": done, "total": total})
        control.raise_if_stopped()

    return show


def _store_images(
    job: TrainJob, family: Family, views: Sequence[View], cache: TensorCache, device: torch.device, on_progress: Callable[[int, int], None]
) -> tuple[nn.Module | None, str]:
    """Fills the cache; returns the autoencoder, on the CPU, where sample pictures will need it, and its fingerprint."""
    loaded: list[nn.Module] = []

    def fingerprint() -> str:
        loaded.append(family.load_vae(job.base))
        return vae_fingerprint(loaded[0])

    vae_id = cache.remembered(f"vae of {job.base.family} in {job.base.fingerprint}", fingerprint)
    missing = missing_latents(vae_id, views, cache)
    if not loaded and (missing or job.samples.lines):
        loaded.append(family.load_vae(job.base))
    if missing:
        loaded[0].to(device)
        store_latents(family, loaded[0], vae_id, missing, cache, device, on_progress)
        loaded[0].to("cpu")
    if not job.samples.lines:
        loaded.clear()
        release()
    return (loaded[0] if loaded else None), vae_id


def _start_report(trainee: Trainee, step: int, steps: Steps) -> dict[str, object]:
    parts = [{"name": group.name, "modules": group.num_modules, "parameters": group.num_parameters, "rate": group.rate} for group in trainee.groups]
    return {
        "step": step,
        "total_steps": steps.total,
        "steps_per_epoch": steps.per_epoch,
        "total_epochs": steps.epochs,
        "parts": parts,
        "pid": os.getpid(),
    }


def _broken(value: float, step: int, epoch: int, batches: range, samples: Sequence[Sample]) -> str:
    """With {} where the sentence about going back belongs."""
    names = ", ".join(Path(sample.path).name for sample in samples).replace("{", "{{").replace("}", "}}")
    which = f"batch {batches[0] + 1}" if len(batches) == 1 else f"batches {batches[0] + 1} to {batches[-1] + 1}"
    what = f"The loss became {value}" if not math.isfinite(value) else f"The losses grew out of all bounds, to {value:.4g},"
    return (
        f"{what} at step {step + 1} (epoch {epoch}; {which}; images {names}), so the run was stopped. {{}} "
        "Lower the learning rate, or choose precision fp32, and train anew."
    )


def _lost_patience(run: Run, job: TrainJob) -> bool:
    # A long run's events take seconds to read: only where somebody asks.
    return job.run.patience > 0 and lost_patience(run.validation_losses(), job.run.patience)


def _impatient(patience: int) -> str:
    return f"the held-out loss did not become lower {patience} time{'s' if patience > 1 else ''} in a row. Take the best epoch."
