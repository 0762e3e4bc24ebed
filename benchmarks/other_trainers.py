"""How long does a step take beside the bare arithmetic, ComfyUI's own Train LoRA node, and sd-scripts?

`python benchmarks/other_trainers.py TOKENIZERS [--side 256] [--steps 6] [--precision bf16]`

The full SD1.5 layout with random weights, LoRA of rank 16, batch 1, latents encoded beforehand, no gradient checkpointing,
AdamW; one after the other, each in a process of its own on the same machine, and the median step of each, in wall time and in
time of the processor, which other programs on the machine disturb less (on a GPU only the first counts). TOKENIZERS is a
folder with CLIP's tokenizer, such as ComfyUI's `comfy`.
- ComfyUI: the checkout that ATHANOR_COMFYUI names. Its node trains every weight, convolutions and norms too; the others the 192 layers of sd-scripts.
- sd-scripts: the checkout that ATHANOR_SD_SCRIPTS names, with the Python of ATHANOR_SD_SCRIPTS_PYTHON (as a rule another environment).
What is not named is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).resolve().parent
RANK = 16
LIMIT_SEC = 1800
Moment = tuple[float, float]
"""Wall time and time of the processor, in seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizers", type=Path)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument(
        "--only", choices=("bare", "athanor", "comfyui", "sd-scripts"), nargs="+", default=("bare", "athanor", "comfyui", "sd-scripts")
    )
    parser.add_argument("--inside", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        {"bare": _bare, "athanor": _athanor, "comfyui": _comfyui}[options.inside](options)
        return
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        subprocess.run([sys.executable, str(HERE / "sd15_layout.py"), str(options.folder / "random sd15.safetensors")], check=True)
        medians = {name: _medians(_steps(name, options)) for name in options.only if _is_there(name)}
    bare = medians.get("bare")
    for name, (wall, processor) in medians.items():
        told = f"{name:12}{wall:8.3f} s a step, {processor:8.3f} s of the processor"
        sys.stdout.write(told + (f"; {wall / bare[0]:.2f} and {processor / bare[1]:.2f} times the bare loop\n" if bare else "\n"))


def _is_there(name: str) -> bool:
    variable = {"comfyui": "ATHANOR_COMFYUI", "sd-scripts": "ATHANOR_SD_SCRIPTS"}.get(name)
    if variable and not os.environ.get(variable):
        sys.stdout.write(f"{name} is left out: {variable} names no checkout.\n")
        return False
    return True


def _medians(steps: list[Moment]) -> tuple[float, float]:
    return statistics.median(step[0] for step in steps), statistics.median(step[1] for step in steps)


def _steps(name: str, options: argparse.Namespace) -> list[Moment]:
    """Wall time and time of the processor of the steps but the first two."""
    if name == "sd-scripts":
        return _sd_scripts(options)
    own = [str(options.tokenizers.resolve()), "--side", str(options.side), "--steps", str(options.steps), "--precision", options.precision]
    command = [sys.executable, str(Path(__file__).resolve()), *own, "--inside", name, "--folder", str(options.folder)]
    place = Path(os.environ["ATHANOR_COMFYUI"]) if name == "comfyui" else HERE
    done = subprocess.run(command, cwd=place, stdout=subprocess.PIPE, text=True, encoding="utf-8", timeout=LIMIT_SEC, check=True)
    return json.loads(done.stdout.splitlines()[-1])[2:]


def _now() -> Moment:
    return time.perf_counter(), time.process_time()


def _tell(moments: list[Moment]) -> None:
    sys.stdout.write(json.dumps([_between(*pair) for pair in pairwise(moments)]) + "\n")


def _between(earlier: Moment, later: Moment) -> Moment:
    return later[0] - earlier[0], later[1] - earlier[1]


def _job(options: argparse.Namespace):
    from step_overhead import benchmark_job

    from athanor.trainer.bases import describe_base

    base = describe_base(options.folder / "random sd15.safetensors", (options.tokenizers,))
    return benchmark_job(base, options.side, 1, options.precision, options.steps + 2, RANK)


def _bare(options: argparse.Namespace) -> None:
    from step_overhead import Bare

    from athanor.trainer.memory.devices import best_device

    bare, moments = Bare(_job(options), best_device()), [_now()]
    for number in range(options.steps + 2):
        bare.step(number)
        moments.append(_now())
    _tell(moments)


def _athanor(options: argparse.Namespace) -> None:
    from athanor.trainer.control import Control
    from athanor.trainer.loop import train
    from athanor.trainer.runs.run import open_run

    run = open_run(options.folder / "runs", _job(options))
    moments: list[Moment] = []

    class Watched(Control):
        @property
        def stop_requested(self) -> bool:
            # Asked a few times while the data is prepared, then before each step.
            moments.append(_now())
            return False

    train(run, Watched())
    _tell(moments[-options.steps - 3 :])


def _comfyui(options: argparse.Namespace) -> None:
    sys.argv[1:] = [] if _has_gpu() else ["--cpu"]
    sys.path.insert(0, str(Path.cwd()))
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.sd
    import comfy.utils
    import torch
    from comfy_extras.nodes_train import TrainLoraNode

    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(options.folder / "random sd15.safetensors"), output_vae=False)
    words = clip.encode_from_tokens_scheduled(clip.tokenize("a photo"))
    latents = {"samples": torch.randn(1, 4, options.side // 8, options.side // 8)}
    moments: list[Moment] = []
    comfy.utils.set_progress_bar_global_hook(lambda *_, **__: moments.append(_now()))
    given = {
        "model": model, "latents": latents, "positive": words, "batch_size": 1, "steps": options.steps + 3, "grad_accumulation_steps": 1,
        "learning_rate": 1e-4, "rank": RANK, "optimizer": "AdamW", "loss_function": "MSE", "seed": 0, "training_dtype": options.precision,
        "lora_dtype": "fp32", "quantized_backward": False, "algorithm": "LoRA", "gradient_checkpointing": False, "checkpoint_depth": 1,
        "offloading": False, "existing_lora": "[None]", "bucket_mode": False, "bypass_mode": False,
    }  # fmt: skip
    TrainLoraNode.execute(**{name: [value] for name, value in given.items()})
    _tell(moments)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _sd_scripts(options: argparse.Namespace) -> list[Moment]:
    import psutil

    checkout, folder = Path(os.environ["ATHANOR_SD_SCRIPTS"]), options.folder
    images = folder / "images" / "1_thing"
    images.mkdir(parents=True)
    _picture(options.side).save(images / "a.png")
    (images / "a.txt").write_text("a photo", encoding="utf-8")
    # Where sd-scripts looks before it asks the hub.
    tokenizer = shutil.copytree(options.tokenizers / "sd1_tokenizer", folder / "tokenizers" / "openai_clip-vit-large-patch14")
    # sd-scripts pads to the length that stands there, and ComfyUI's says 8192.
    told = json.loads((tokenizer / "tokenizer_config.json").read_text(encoding="utf-8"))
    (tokenizer / "tokenizer_config.json").write_text(json.dumps({**told, "model_max_length": 77}), encoding="utf-8")
    command = [
        os.environ.get("ATHANOR_SD_SCRIPTS_PYTHON", sys.executable), "train_network.py",
        "--pretrained_model_name_or_path", str(folder / "random sd15.safetensors"), "--train_data_dir", str(images.parent),
        "--output_dir", str(folder / "out"), "--output_name", "lora", "--save_model_as", "safetensors", "--caption_extension", ".txt",
        "--resolution", str(options.side), "--network_module", "networks.lora", "--network_dim", str(RANK), "--network_alpha", str(RANK),
        "--network_train_unet_only", "--train_batch_size", "1", "--max_train_steps", str(options.steps + 3), "--learning_rate", "1e-4",
        "--optimizer_type", "AdamW", "--mixed_precision", "no" if options.precision == "fp32" else options.precision, "--cache_latents", "--sdpa",
        "--max_data_loader_n_workers", "0", "--tokenizer_cache_dir", str(folder / "tokenizers"), "--seed", "0",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **({} if _has_gpu() else {"ACCELERATE_USE_CPU": "true"})}
    moments: dict[int, Moment] = {}
    with subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        watched = psutil.Process(process.pid)
        told = b""
        # The bar is drawn anew at each step, without an end of line.
        while piece := process.stdout.read(1):
            told += piece
            if piece in b"\r\n]":
                match = re.search(rb"steps: .*\| *(\d+)/\d+ \[", told.splitlines()[-1] if told.splitlines() else b"")
                if match:
                    used = watched.cpu_times()
                    moments.setdefault(int(match[1]), (time.perf_counter(), used.user + used.system))
    if process.returncode:
        raise SystemExit(f"sd-scripts failed:\n{told.decode('utf-8', 'replace')[-3000:]}")
    return [_between(moments[step], moments[step + 1]) for step in sorted(moments) if step + 1 in moments][2:]


def _picture(side: int):
    import numpy
    from PIL import Image

    return Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=numpy.uint8))


if __name__ == "__main__":
    main()
