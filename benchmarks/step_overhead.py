"""What does a step of Athanor cost beside the bare arithmetic?

`python benchmarks/step_overhead.py [--sd15 TOKENIZERS | --sdxl TOKENIZERS] [--side 256] [--batch 1] [--precision bf16] [--steps 20] [--rounds 5] [--compile]`

A bare loop of diffusers, peft and AdamW and Athanor's own, with its cache on disk, its events, its reading ahead and its
random numbers by counter, take turns step by step in one process, each on its own copy of the same model with the same
adapters, batches and number format. Prints for each round the median step of both in wall time and in time of the processor
(which other programs on the machine disturb less), the median ratio of the rounds, and how long Athanor's loop waited for data.

Without --sd15 and --sdxl the base is the miniature that comes with the pack, whose steps are so short that every overhead shows;
with them that model in its full size with random weights. Where there is a GPU, it computes. TOKENIZERS is a folder with CLIP's tokenizer, such as ComfyUI's `comfy`.
--compile compiles the blocks of Athanor's model only: then the ratio is the speed-up, upside down.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from sd15_layout import write_checkpoint
from sdxl_layout import write_folder

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach, trained
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.bases import describe_base
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.data.batches import epoch_batches
from athanor.trainer.dataset import assign_buckets, scan_folder
from athanor.trainer.families import family as family_named
from athanor.trainer.loop import train
from athanor.trainer.memory.devices import best_device
from athanor.trainer.objective.noise import noise_of
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import AdapterSettings, PerformanceSettings, RunSettings, TrainSettings
from athanor.trainer.types import BaseModel

MINIATURE = Path(__file__).resolve().parent.parent / "trainer" / "miniature"
RANK, NUM_WARMUP_STEPS = 16, 3


@dataclasses.dataclass(frozen=True)
class Seconds:
    wall: float
    processor: float


class Bare:
    """The arithmetic of a step and nothing else, with everything in memory beforehand."""

    def __init__(self, job: TrainJob, device: torch.device):
        family, self._job, self._device = family_named(job.base.family), job, device
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[job.train.precision]
        denoiser = family.load_denoiser(job.base, self._dtype).to(device)
        kind, plans = adapter("lora"), plan_layers(denoiser, "denoiser", family.adapter_targets("denoiser"), job.adapter)
        self._parameters = list(trained(kind, attach(kind, denoiser, plans, job.adapter, 0)).values())
        self._denoiser, self._optimizer, self._noise = denoiser, torch.optim.AdamW(self._parameters, lr=1e-4), noise_of(job.base)
        width = next(parameter for name, parameter in denoiser.named_parameters() if "attn2.to_k" in name).shape[1]
        sizes = [job.dataset.trained[batch[0]].placement.bucket_px for batch in epoch_batches(job.dataset.trained, job.train.batch_size, 0, 1)]
        self._latents = [
            torch.randn((job.train.batch_size, family.latent_channels, *(side // family.vae_stride_px for side in size[::-1])), device=device)
            for size in sizes
        ]
        self._states = torch.randn((job.train.batch_size, 77, width), device=device, dtype=self._dtype)
        self._told = {}
        if denoiser.config.addition_embed_type == "text_time":
            pooled = denoiser.config.projection_class_embeddings_input_dim - 6 * denoiser.config.addition_time_embed_dim
            told = {
                "text_embeds": torch.randn((job.train.batch_size, pooled), device=device),
                "time_ids": torch.zeros((job.train.batch_size, 6), device=device),
            }
            self._told = {"added_cond_kwargs": told}

    def step(self, number: int) -> None:
        latents = self._latents[number % len(self._latents)]
        noise, times = torch.randn_like(latents), torch.rand(len(latents), device=self._device)
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            predicted = self._denoiser(self._noise.add(latents, noise, times), (times * 1000).long(), self._states, **self._told).sample
            loss = torch.nn.functional.mse_loss(predicted.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            torch.cuda.synchronize()


class TakingTurns(Control):
    """Does a bare step whenever Athanor's loop looks whether it should stop, which it does before each of its steps."""

    def __init__(self, run: Run, bare: Bare):
        super().__init__()
        self._run, self._bare, self._number = run, bare, 0
        self._since: tuple[float, float] | None = None
        self._has_started = False
        self.of_bare: list[Seconds] = []
        self.of_ours: list[Seconds] = []

    @property
    def stop_requested(self) -> bool:
        if not self._has_started:
            self._has_started = any(event["event"] == "start" for event in self._run.events())
        if not self._has_started:
            return False
        if self._since is not None:
            self.of_ours.append(Seconds(time.perf_counter() - self._since[0], time.process_time() - self._since[1]))
        wall, thread, whole = time.perf_counter(), time.thread_time(), time.process_time()
        self._bare.step(self._number)
        self._number += 1
        own = time.thread_time() - thread if torch.get_num_threads() == 1 else time.process_time() - whole
        self.of_bare.append(Seconds(time.perf_counter() - wall, own))
        # What Athanor's reading ahead took meanwhile counts as Athanor's.
        self._since = (time.perf_counter(), whole + own)
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = parser.add_mutually_exclusive_group()
    models.add_argument("--sd15", type=Path, default=None, metavar="TOKENIZERS")
    models.add_argument("--sdxl", type=Path, default=None, metavar="TOKENIZERS")
    parser.add_argument("--side", type=int, default=0, help="of the square pictures in px; 0 is the base's own size")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--steps", type=int, default=20, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.sd15:
            write_checkpoint(Path(folder) / "random sd15.safetensors")
            base = describe_base(Path(folder) / "random sd15.safetensors", (options.sd15,))
        elif options.sdxl:
            write_folder(Path(folder) / "random sdxl")
            base = describe_base(Path(folder) / "random sdxl", (options.sdxl,))
        else:
            base = describe_base(MINIATURE / "base")
        num_steps = options.steps * options.rounds + NUM_WARMUP_STEPS + 1
        job = benchmark_job(base, options.side or base.native_px, options.batch, options.precision, num_steps, RANK)
        job = dataclasses.replace(job, performance=PerformanceSettings(compile=options.compile))
        run = open_run(Path(folder), job)
        turns = TakingTurns(run, Bare(job, best_device()))
        train(run, turns)
        _tell(turns, options.steps, options.rounds)
        sys.stdout.write(f"waited for data: {100 * run.events()[-1]['waited_share']:.2f} % of the time\n")


def benchmark_job(base: BaseModel, side_px: int, batch_size: int, precision: str, num_steps: int, rank: int) -> TrainJob:
    """The pictures that come with the pack, all in one size; the denoiser alone is trained, and saved at the end alone."""
    scanned = scan_folder(MINIATURE / "concept", trigger="starlet")
    dataset = assign_buckets(scanned, resolution_px=side_px, min_px=side_px, max_px=side_px, step_px=base.bucket_step_px, upscale=True)
    train = TrainSettings(batch_size=batch_size, text_encoder_rate=0.0, precision=precision, save_every_epochs=100_000)
    return TrainJob("benchmark", base, dataset, adapter=AdapterSettings(rank=rank, alpha=rank), train=train, run=RunSettings(steps=num_steps))


def _tell(turns: TakingTurns, num_steps: int, num_rounds: int) -> None:
    bare, ours = turns.of_bare[NUM_WARMUP_STEPS:], turns.of_ours[NUM_WARMUP_STEPS:]
    ratios = []
    for number in range(num_rounds):
        part = slice(number * num_steps, (number + 1) * num_steps)
        wall = [statistics.median(each.wall for each in steps[part]) for steps in (bare, ours)]
        processor = [statistics.median(each.processor for each in steps[part]) for steps in (bare, ours)]
        ratios.append((wall[1] / wall[0], processor[1] / processor[0]))
        sys.stdout.write(
            f"round {number + 1}: bare {wall[0]:.4f} s a step, Athanor {wall[1]:.4f} s, ratio {ratios[-1][0]:.3f}; "
            f"of the processor {processor[0]:.4f} s and {processor[1]:.4f} s, ratio {ratios[-1][1]:.3f}\n"
        )
    sys.stdout.write(
        f"median of {num_rounds}: ratio {statistics.median(r[0] for r in ratios):.3f}, of the processor {statistics.median(r[1] for r in ratios):.3f}\n"
    )


if __name__ == "__main__":
    main()
