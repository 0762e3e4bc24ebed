"""Does a whole run fit into a GPU of so many GB?  `python benchmarks/memory_run.py TOKENIZERS [--gb 6] [--side 512] [--model FILE]`

Trains two steps on a GPU that is pretended (tests/shared/pretended_gpu.py): the processor computes, every byte that would lie
on the GPU is counted, and what is over its size fails as it would there. Captions, images, steps and a sample picture are the
real thing, with the model at its full size, so it takes minutes. Without --model it is SD1.5's layout with random weights.
TOKENIZERS is a folder with CLIP's tokenizer, such as ComfyUI's `comfy`. 0.75 of the GB are left to the driver and the desktop.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

from sd15_layout import write_checkpoint
from step_overhead import RANK, benchmark_job

from athanor.trainer.bases import describe_base
from athanor.trainer.control import Control
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import PerformanceSettings, SampleSettings
from athanor.trainer.settings.performance import CHECKPOINTING
from athanor.trainer.worker import work

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "shared"))
from pretended_gpu import Gpu, pretended_gpu

GIB, OTHERS_GIB = 1 << 30, 0.75


class Phases(Control):
    """Writes what lies on the GPU whenever the training looks whether it should stop: after each text, image and step."""

    def __init__(self, run: Run, gpu: Gpu):
        super().__init__()
        self._run, self._gpu, self._told = run, gpu, ""
        self.most_bytes = 0

    @property
    def stop_requested(self) -> bool:
        last = self._run.events()[-1]
        phase = last["name"] if last["event"] == "phase" else f"{len(self._run.losses())} steps"
        self.most_bytes = max(self.most_bytes, self._gpu.peak_bytes)
        if phase != self._told:
            sys.stdout.write(f"{phase}: {self._gpu.held_bytes / GIB:.2f} GiB lie there now, {self._gpu.peak_bytes / GIB:.2f} at most until now\n")
            sys.stdout.flush()
            self._gpu.forget_peak()
        self._told = phase
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizers", type=Path)
    parser.add_argument("--model", type=Path, default=None, help="a checkpoint or a diffusers folder of any family")
    parser.add_argument("--gb", type=float, default=6.0)
    parser.add_argument("--side", type=int, default=0, help="of the square pictures in px; 0 is the model's own size")
    parser.add_argument("--checkpointing", choices=CHECKPOINTING, default="auto")
    parser.add_argument("--base-precision", default="auto")
    parser.add_argument("--block-offload", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.model is None:
            write_checkpoint(Path(folder) / "random sd15.safetensors")
        base = describe_base(options.model or Path(folder) / "random sd15.safetensors", (options.tokenizers,))
        job = benchmark_job(base, options.side or base.native_px, 1, "bf16", 2, RANK)
        job = dataclasses.replace(
            job,
            train=dataclasses.replace(job.train, base_precision=options.base_precision),
            performance=PerformanceSettings(gradient_checkpointing=options.checkpointing, block_offload=options.block_offload),
            samples=SampleSettings(prompts="a picture", steps=1, every_epochs=1),
            run=dataclasses.replace(job.run, explosion_factor=0.0),
        )
        run = open_run(Path(folder), job)
        with pretended_gpu(int((options.gb - OTHERS_GIB) * GIB)) as gpu:
            phases = Phases(run, gpu)
            code = work(run, phases)
        for event in run.events():
            if event["event"] in ("warning", "error"):
                sys.stdout.write(f"{event['message']}\n")
        checkpointing = next((event["checkpointing"] for event in run.events() if event["event"] == "start"), "none")
        most = max(phases.most_bytes, gpu.peak_bytes) / GIB
        told = "fits into" if code == 0 else "does not fit into"
        sys.stdout.write(
            f"{base.family} at {options.side or base.native_px} px {told} {options.gb:g} GB: {most:.2f} GiB at most, checkpointing {checkpointing}\n"
        )


if __name__ == "__main__":
    main()
