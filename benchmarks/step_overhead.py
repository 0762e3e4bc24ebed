"""What does a step of Athanor cost beside the bare arithmetic?  `python benchmarks/step_overhead.py [--base FOLDER] [--steps N]`

Trains the same adapters on the same latents twice in one process, in turns: a bare loop of diffusers, peft and AdamW, and
Athanor's own, with its cache on disk, its events and its random numbers by counter. Prints seconds a step of both and their
ratio. Measured with the base that comes with the pack, whose steps are so short that every overhead shows.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach, trained
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.bases import describe_base
from athanor.trainer.batches import epoch_batches
from athanor.trainer.cache import TensorCache
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.dataset import assign_buckets, scan_folder
from athanor.trainer.families import family as family_named
from athanor.trainer.latents import load_latents
from athanor.trainer.loop import train
from athanor.trainer.noise import noise_of
from athanor.trainer.run import Run, open_run
from athanor.trainer.settings import AdapterSettings, TrainSettings
from athanor.trainer.views import View

MINIATURE = Path(__file__).resolve().parent.parent / "trainer" / "miniature"
BATCH_SIZE, RANK, NUM_ROUNDS = 4, 16, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=MINIATURE / "base")
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    base = describe_base(options.base)
    dataset = assign_buckets(
        scan_folder(MINIATURE / "concept", trigger="starlet"),
        resolution_px=base.native_px,
        min_px=base.native_px // 2,
        max_px=2 * base.native_px,
        step_px=base.bucket_step_px,
        upscale=True,
    )
    epochs = -(-options.steps // (-(-len(dataset.samples) // BATCH_SIZE)))
    settings = TrainSettings(epochs=epochs, batch_size=BATCH_SIZE, text_encoder_rate=0.0, precision="fp32", save_every_epochs=epochs)
    job = TrainJob("overhead", base, dataset, adapter=AdapterSettings(rank=RANK), train=settings)
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(NUM_ROUNDS):
            run = open_run(Path(folder), dataclasses.replace(job, name=f"overhead-{number}"))
            train(run, Control())
            ours.append(_seconds_a_step(run))
            bare.append(_bare_loop(job, Path(folder) / ".cache", len(run.losses())))
    sys.stdout.write(f"bare loop  {min(bare):.4f} s a step\nAthanor    {min(ours):.4f} s a step\nratio      {min(ours) / min(bare):.3f}\n")


def _seconds_a_step(run: Run) -> float:
    """The median over the run's steps, from the time of one event to the next: everything between two steps counts."""
    times = [event["time"] for event in run.events() if event["event"] == "step"]
    return statistics.median(later - earlier for earlier, later in itertools.pairwise(times))


def _bare_loop(job: TrainJob, cache_folder: Path, num_steps: int) -> float:
    """The arithmetic of the same steps with everything in memory beforehand; the median."""
    family, device = family_named(job.base.family), torch.device("cpu")
    text = family.load_text(job.base, torch.float32)
    with torch.no_grad():
        states = family.encode_text(text, [job.dataset.trigger], 1)["states"]
    denoiser = family.load_denoiser(job.base, torch.float32)
    kind, plans = adapter("lora"), plan_layers(denoiser, "denoiser", family.adapter_targets("denoiser"), job.adapter)
    layers = attach(kind, denoiser, plans, job.adapter, 0)
    parameters = list(trained(kind, layers).values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    samples = job.dataset.with_role("train")
    batches = [[samples[i] for i in batch] for batch in epoch_batches(samples, BATCH_SIZE, 0, 1)]
    loaded = [load_latents(job.base.fingerprint, [View(sample) for sample in batch], TensorCache(cache_folder), device)[0] for batch in batches]
    seconds = []
    for step in range(num_steps):
        latents = loaded[step % len(loaded)]
        started = time.perf_counter()
        noise, times = torch.randn_like(latents), torch.rand(len(latents))
        predicted = denoiser(noise_of(job.base).add(latents, noise, times), (times * 1000).long(), states.expand(len(latents), -1, -1)).sample
        torch.nn.functional.mse_loss(predicted, noise).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
