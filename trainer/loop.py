"""The training: one function that reads from top to bottom."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .checks.engine import device_problems, process_problems
from .checks.notes import unused_notes
from .checks.prior import prior_notes
from .checks.validate import check_train_job
from .config import TrainJob
from .control import SAMPLE, SAVE, Control, Stopped
from .data.batches import num_batch_shapes
from .data.cache_folder import CACHE, mark_used
from .data.feed import Batch, Feed
from .dataset.looks import LOOKS
from .ending import ExplosionWatch, lost_patience
from .errors import AthanorError, raise_problems
from .memory.devices import PeakMemory, SlowdownWatch, best_device, make_room, peak_mib, slowdown_message
from .memory.performance import keeping as keeping_of
from .memory.performance import prepare
from .memory.space import bytes_to_come, space_problems
from .milestones import Milestones, Onlooker
from .objective.noise import noise_of
from .optimizing.steps import Steps, steps_of
from .optimizing.updates import Updates
from .preparation import prepare_training
from .prior.class_images import class_image_notes, draw_class_images
from .prior.holding import held_losses, trained_rows
from .processes import ALONE, PartedError, Processes
from .runs.curves import LoggedEvents
from .runs.events import EventLog, NoEvents
from .runs.run import Run
from .state import Position, is_damaged, load_state
from .step import backward_together, batch_losses
from .trainees.trainee import Trainee
from .types import Sample

if TYPE_CHECKING:
    import torch


_STATE_SHARE = 20
"""How many times as long as a state takes to be saved the run goes on before the next one: those of whole models take their time."""


def train(run: Run, control: Control, processes: Processes = ALONE) -> None:
    """Trains the job of `run` from where it was left to its end, or until `control` asks to stop; with all of `processes` together.

    Raises AthanorError for everything that the user can mend; what was saved before stays.
    """
    events = LoggedEvents(run.folder) if processes.leads else NoEvents()
    try:
        with ExitStack() as ending:
            _train(run, control, processes, events, ending)
    except Stopped:
        # What was encoded until then is in the cache.
        events.write("done", {"step": len(run.losses()), "stopped": True, "peak_mib": round(peak_mib(), 1)})


def _train(run: Run, control: Control, processes: Processes, events: EventLog, ending: ExitStack) -> None:
    job, device = run.train_job(), best_device()
    if processes.leads:
        check_train_job(job, looks_folder=run.folder.parent / CACHE / LOOKS)
        raise_problems([*device_problems(job, device.type), *process_problems(job, processes.count), *space_problems(job, run.folder)])
    job = draw_class_images(run, job, events, control, processes)
    ready = prepare_training(run, job, events, control, processes)
    job, family, trainee, denoiser, autocast = ready.job, ready.family, ready.trainee, ready.denoiser, ready.autocast
    process, keeping, slowdown = noise_of(job.base), keeping_of(job.performance), SlowdownWatch()
    num_shapes = num_batch_shapes(job.dataset.trained, job.train.batch_size)
    checkpointing = prepare(denoiser, job.performance, device, ready.largest_pass, num_shapes, bytes_to_come(job, trainee))
    updates, steps = Updates(job, trainee, device), steps_of(job)
    position = load_state(run.folder / "state", trainee.parameters(), updates) or Position(0)
    updates.begin()
    step, epoch_losses = position.step, list(position.epoch_losses)
    if processes.sum(step) != step * processes.count:
        raise AthanorError(
            f"The {processes.count} processes do not see the same states in {run.folder}; it must be one shared folder for all machines."
        )
    events.write("start", {**_start_report(job, trainee, step, steps), "checkpointing": checkpointing, "processes": processes.count})
    damaged = [f"The saved states in {run.folder / 'state'} are damaged, so that the run begins anew."] if is_damaged(run.folder / "state") else []
    for note in (*damaged, *class_image_notes(run.train_job()), *prior_notes(job), *unused_notes(job), *trainee.notes):
        events.write("warning", {"message": note})
    milestones = (Milestones if processes.leads else Onlooker)(run, ready, events, updates)

    def will_ask(number: int) -> bool:
        return processes.takes(steps.turn(number))

    feed = Feed(job, family, ready.captioner, ready.cache, ready.vae_id, trainee.caption, will_ask, trainee.prompt)
    ending.callback(feed.close)

    if step == 0:
        milestones.before_first_step()
    if step == steps.total:
        # The last epoch's file was deleted, or the worker ended between its state and its last word.
        milestones.after_step(step)

    def losses_of(number: int, batch: Batch) -> torch.Tensor | None:
        batch = trained_rows(ready, batch)
        if batch is None:
            return None
        with autocast, trainee.dropping(number), keeping():
            conditioning, mean, std = (
                ready.book.conditioning(batch.prompts, batch.framings, batch.dropped),
                batch.mean.to(device),
                batch.std.to(device),
            )
            losses = batch_losses(family, process, denoiser, mean, std, batch.mask, batch.draws, batch.times, conditioning, job.objective)
            return losses * batch.weights.to(device)

    further = held_losses(ready, process, keeping)
    watch = ExplosionWatch(job.run.explosion_factor, run.losses()[:step])
    ended_early = processes.leads and _lost_patience(run, job)
    last_state_sec, last_shape = time.monotonic(), None
    loop_started_sec, state_took_sec = last_state_sec, 0.0
    memory = PeakMemory()
    while step < steps.total and not processes.any_of(control.stop_requested or ended_early):
        started_sec = time.monotonic()
        epoch, samples = steps.epoch(step), [sample for number in steps.batches(step) for sample in feed.samples(number)]
        batches = {number: feed.batch(number) for number in steps.batches(step) if processes.takes(steps.turn(number))}
        updates.set_rates(step)
        shape = max((batch.mean.shape for batch in batches.values()), default=last_shape)
        if shape != last_shape:
            make_room(device)
            last_shape = shape
        value = processes.sum(backward_together(batches, len(samples), losses_of, updates.backward, further))
        if watch.broken(value):
            good_step = step if not math.isfinite(value) else step + 1 - watch.num_bad_steps()
            went_back = milestones.roll_back(good_step)
            processes.wait()
            raise AthanorError(_broken(value, step, epoch, steps.batches(step), samples, went_back)) if processes.leads else PartedError
        processes.add_gradients(trainee.parameters().values())
        updates.step()

        step += 1
        epoch_losses.append(value)
        seconds = round(time.monotonic() - started_sec, 4)
        slower = slowdown.step(tuple(batch.mean.shape for batch in batches.values()), seconds)
        if slower is not None:
            events.write("warning", {"message": slowdown_message(slower, device)})
        found = {} if (scale := updates.found()) is None else {"found": scale}
        events.write("step", {"step": step, "epoch": epoch, "loss": value, "rates": updates.rates(), "seconds": seconds, **found})
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
        if time.monotonic() - last_state_sec > max(job.run.state_minutes * 60, _STATE_SHARE * state_took_sec):
            state_began_sec = time.monotonic()
            milestones.save_state(Position(step, tuple(epoch_losses)))
            state_took_sec = time.monotonic() - state_began_sec
            mark_used(job.base.files)
            last_state_sec = time.monotonic()

    ready.cache.settle()
    if ended_early:
        events.write("warning", {"message": f"Ended early after epoch {step // steps.per_epoch}: {_impatient(job.run.patience)}"})
    stopped = step < steps.total and not ended_early
    if stopped:
        milestones.save_state(Position(step, tuple(epoch_losses)))
        if step > 0 and not (control.stop_after_epoch and step % steps.per_epoch == 0):
            milestones.save_unfinished(step)
    waited_share = feed.waited_sec / max(1e-9, time.monotonic() - loop_started_sec)
    events.write("done", {"step": step, "stopped": stopped, "peak_mib": round(peak_mib(), 1), "waited_share": round(waited_share, 4)})


def _start_report(job: TrainJob, trainee: Trainee, step: int, steps: Steps) -> dict[str, object]:
    parts = [{"name": group.name, "modules": group.num_modules, "parameters": group.num_parameters, "rate": group.rate} for group in trainee.groups]
    return {
        "step": step,
        "total_steps": steps.total,
        "steps_per_epoch": steps.per_epoch,
        "total_epochs": steps.epochs,
        "parts": parts,
        "family": job.base.family,
        "pid": os.getpid(),
        "class_images": len(job.dataset.with_role("regularization")),
    }


def _broken(value: float, step: int, epoch: int, batches: range, samples: Sequence[Sample], went_back: str) -> str:
    names = ", ".join(Path(sample.path).name for sample in samples)
    which = f"batch {batches[0] + 1}" if len(batches) == 1 else f"batches {batches[0] + 1} to {batches[-1] + 1}"
    what = f"The loss became {value}" if not math.isfinite(value) else f"The losses grew out of all bounds, to {value:.4g},"
    return (
        f"{what} at step {step + 1} (epoch {epoch}; {which}; images {names}), so the run was stopped. {went_back} "
        "Lower the learning rate, or choose precision fp32, and train anew."
    )


def _lost_patience(run: Run, job: TrainJob) -> bool:
    # A long run's events take seconds to read: only where somebody asks.
    return job.run.patience > 0 and lost_patience(run.validation_losses(), job.run.patience)


def _impatient(patience: int) -> str:
    return f"the held-out loss did not become lower {patience} time{'s' if patience > 1 else ''} in a row. Take the best epoch."
