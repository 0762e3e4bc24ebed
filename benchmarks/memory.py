"""What fits into which GPU?  `python benchmarks/memory.py [--only flux-512 sdxl-1024 …]` prints docs/memory.md's table.

`--check [SIDE]` instead does the step of SD1.5 truly, on the CPU, and tells what it computed beside how much the process grew.
`--measure` does every step truly, on the GPU that is there, and tells the most that it had reserved.

Without it nothing is loaded and nothing is multiplied: the full-size models are made of tensors without memory, one training
step of Athanor's own code runs over them (adapters, checkpointing, autocast, AdamW), and every tensor's bytes are counted from
its birth to its end. Rows are computed, not measured. What the driver and the allocator take is a fixed sum.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "shared"))
from full_size import MAKERS

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.families import family as family_named
from athanor.trainer.families.base import Family, Framing
from athanor.trainer.memory.offload import repeated_blocks
from athanor.trainer.memory.performance import offload_blocks, set_checkpointing
from athanor.trainer.memory.storage import hold
from athanor.trainer.settings import AdapterSettings

GIB = 1 << 30
RESERVE_BYTES = 3 * GIB // 4
"""The driver, the desktop, and what the allocator loses between its blocks."""
GPUS_GB = (6, 8, 12, 16, 24)
RANK, MARGIN = 16, 1.05
WAYS = [(storage, how) for storage in ("bf16", "fp8", "nf4") for how in ("off", "partial", "full")] + [("offload", "full")]
"""How the base is kept and how much is computed twice, from the fastest to the smallest."""


@dataclass(frozen=True)
class Case:
    family: str
    model: str
    """A key of MAKERS."""
    side_px: int
    words: tuple[int, int]
    """Tokens of a caption and their width."""
    pooled: int = 0
    channels: int = 4


CASES = {
    "sd15-512": Case("sd15", "sd15", 512, (77, 768)),
    "sdxl-1024": Case("sdxl", "sdxl", 1024, (77, 2048), 1280),
    "sd35-medium-512": Case("sd35", "sd35 medium", 512, (154, 4096), 2048, 16),
    "sd35-medium-1024": Case("sd35", "sd35 medium", 1024, (154, 4096), 2048, 16),
    "sd35-large-512": Case("sd35", "sd35 large", 512, (154, 4096), 2048, 16),
    "sd35-large-1024": Case("sd35", "sd35 large", 1024, (154, 4096), 2048, 16),
    "flux-512": Case("flux", "flux dev", 512, (512, 4096), 768, 16),
    "flux-1024": Case("flux", "flux dev", 1024, (512, 4096), 768, 16),
}


class Peak(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and the most of them at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._alive: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.count(tensor for tensor in tree_iter(made) if isinstance(tensor, torch.Tensor))
        return made

    def count(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, size = id(storage), storage.nbytes()
            if key in self._alive and self._alive[key]() is storage:
                continue
            self.now += size
            self.most = max(self.most, self.now)

            def ended(_: weakref.ref, key: int = key, size: int = size) -> None:
                self.now -= size
                self._alive.pop(key, None)

            self._alive[key] = weakref.ref(storage, ended)


@dataclass(frozen=True)
class Needs:
    """Bytes of a case."""

    weights: dict[str, int]
    """Of the frozen base by number format, and "offload" with only three blocks on the GPU."""
    unfolding: dict[str, int]
    """For a moment, of the largest layer, where weights are kept smaller than they are used."""
    rest: dict[str, int]
    """Adapters, gradients, optimizer and activations, by checkpointing."""


def needs_of(case: Case) -> Needs:
    rest: dict[str, int] = {}
    for how in ("off", "partial", "full"):
        mode, family = FakeTensorMode(), family_named(case.family)
        denoiser = _model(case, mode, family)
        frozen = [parameter for parameter in denoiser.parameters() if not parameter.requires_grad]
        weights = sum(parameter.numel() * 2 for parameter in frozen)
        rest[how] = _step_peak(case, family, denoiser, mode, how) - weights
    blocks = repeated_blocks(denoiser)
    per_block = [sum(p.numel() * 2 for p in block.parameters() if not p.requires_grad) for block in blocks]
    linear = [layer.weight for layer in denoiser.modules() if isinstance(layer, nn.Linear) and not layer.weight.requires_grad]
    convolutions = [layer.weight for layer in denoiser.modules() if isinstance(layer, nn.Conv2d) and not layer.weight.requires_grad]
    of_linear, of_convolutions = (sum(weight.numel() for weight in found) for found in (linear, convolutions))
    largest = max(weight.numel() for weight in linear)
    kept = {"bf16": weights, "fp8": weights - of_linear - of_convolutions, "nf4": int(weights - (2 - 0.53) * of_linear)}
    if blocks:
        kept["offload"] = weights - sum(per_block) + 3 * max(per_block)
    return Needs(kept, {"bf16": 0, "offload": 0, "fp8": 10 * largest, "nf4": 2 * largest}, rest)


def _model(case: Case, mode: FakeTensorMode, family: Family) -> nn.Module:
    """The full-size denoiser in bf16 with its adapters, its tensors without memory."""
    denoiser = MAKERS[case.model]()["denoiser"].to(torch.bfloat16)
    settings, kind = AdapterSettings(rank=RANK, alpha=RANK), adapter("lora")
    attach(kind, denoiser, plan_layers(denoiser, "denoiser", family.adapter_targets("denoiser"), settings), settings, 0)
    for module in denoiser.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                fake = FakeTensor(mode, parameter.detach(), torch.device("cpu"))
                module._parameters[name] = nn.Parameter(fake, requires_grad=parameter.requires_grad)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = FakeTensor(mode, buffer, torch.device("cpu"))
    return denoiser


def _step_peak(case: Case, family: Family, denoiser: nn.Module, mode: contextlib.AbstractContextManager[Any], how: str, counted: bool = True) -> int:
    """Of the second step, whose optimizer has its running means already. Where it is not `counted` it is only done, where `mode` makes tensors."""
    with mode:
        trained = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained)
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
        side = case.side_px // family.vae_stride_px
        noisy, times = torch.zeros(1, case.channels, side, side), torch.full((1,), 0.5)
        given = {"states": torch.zeros(1, *case.words), **({"pooled": torch.zeros(1, case.pooled)} if case.pooled else {})}
        # SDXL's sizes come with the frame; what SD3.5's frame puts together is there already.
        conditioning = family.frame(given, [Framing.whole((case.side_px, case.side_px))]) if case.family == "sdxl" else given
        set_checkpointing(denoiser, how)
        denoiser.train()
        if not counted:
            _step(family, denoiser, optimizer, noisy, times, conditioning)
            return 0
        peak = Peak()
        peak.count((*denoiser.parameters(), *denoiser.buffers(), noisy, times, *conditioning.values()))
        peak.count(value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor))
        with peak:
            _step(family, denoiser, optimizer, noisy, times, conditioning)
    return peak.most


def _step(family: Family, denoiser: nn.Module, optimizer: torch.optim.Optimizer, noisy: torch.Tensor, times: torch.Tensor, words: Any) -> None:
    with torch.autocast(noisy.device.type, dtype=torch.bfloat16):
        loss = family.predict(denoiser, noisy, times, words).float().pow(2).mean()
    loss.backward()
    optimizer.step()


def check(side_px: int) -> None:
    """Of each way of checkpointing, in a process of its own: what is computed, and by how much the process grew."""
    for how in ("off", "partial", "full"):
        case, family, mode = replace(CASES["sd15-512"], side_px=side_px), family_named("sd15"), FakeTensorMode()
        computed = _step_peak(case, family, _model(case, mode, family), mode, how)
        command = [sys.executable, str(Path(__file__).resolve()), "--grow", how, "--side", str(side_px)]
        grown = int(subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=True).stdout.split()[-1])
        told = f"computed {computed / GIB:.3f} GiB, the process grew by {grown / GIB:.3f} GiB, {grown / computed - 1:+.1%}"
        sys.stdout.write(f"sd15, {side_px} px, checkpointing {how}: {told}\n")
        sys.stdout.flush()


def _grow(side_px: int, how: str) -> None:
    """Does the step with weights that have memory, and prints how many bytes more the process had at most."""
    case, family, process = replace(CASES["sd15-512"], side_px=side_px), family_named("sd15"), psutil.Process()
    denoiser = MAKERS["sd15"]()["denoiser"].to(torch.bfloat16)
    # What the libraries load at their first use is none of the step's.
    torch.nn.functional.conv2d(torch.ones(1, 4, 8, 8, dtype=torch.bfloat16), torch.ones(4, 4, 3, 3, dtype=torch.bfloat16))
    before, most, ended = process.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.002):
            most = max(most, process.memory_info().rss)

    denoiser.to_empty(device="cpu")
    for parameter in denoiser.parameters():
        parameter.data.fill_(0.01)
    settings, kind = AdapterSettings(rank=RANK, alpha=RANK), adapter("lora")
    attach(kind, denoiser, plan_layers(denoiser, "denoiser", family.adapter_targets("denoiser"), settings), settings, 0)
    watcher = threading.Thread(target=watch)
    watcher.start()
    _step_peak(case, family, denoiser, contextlib.nullcontext(), how, counted=False)
    ended.set()
    watcher.join()
    sys.stdout.write(f"{most - before}\n")


def measured(case: Case, device: torch.device) -> list[tuple[str, int | None]]:
    """The ways of `options_of` with the most bytes that the GPU had reserved in a step; None where that was too little for it."""
    family, found = family_named(case.family), []
    for storage, how in WAYS:
        denoiser = MAKERS[case.model]()["denoiser"].to(torch.bfloat16)
        if storage == "offload" and not repeated_blocks(denoiser):
            continue
        denoiser.to_empty(device="cpu")
        for tensor in (*denoiser.parameters(), *denoiser.buffers()):
            tensor.data.fill_(0.01)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            found.append((_way(storage, how), _reserved(case, family, denoiser, storage, how, device)))
        except torch.cuda.OutOfMemoryError:
            found.append((_way(storage, how), None))
        del denoiser
        gc.collect()
    return found


def _reserved(case: Case, family: Family, denoiser: nn.Module, storage: str, how: str, device: torch.device) -> int:
    settings, kind = AdapterSettings(rank=RANK, alpha=RANK), adapter("lora")
    denoiser.requires_grad_(False)
    if storage != "offload":
        denoiser = hold(denoiser, storage, "bf16").to(device)
    attach(kind, denoiser, plan_layers(denoiser, "denoiser", family.adapter_targets("denoiser"), settings), settings, 0)
    if storage == "offload":
        offload_blocks(denoiser, device)
    _step_peak(case, family, denoiser, device, how, counted=False)
    return torch.cuda.max_memory_reserved()


def _way(storage: str, how: str) -> str:
    return f"{'bf16, block_offload' if storage == 'offload' else storage}, checkpointing {how}"


def options_of(needs: Needs) -> list[tuple[str, int]]:
    """Ways to train from the fastest to the smallest, with their bytes."""
    found = []
    for storage, how in WAYS:
        if storage in needs.weights:
            total = needs.weights[storage] + needs.unfolding[storage] + int(needs.rest[how] * MARGIN) + RESERVE_BYTES
            found.append((_way(storage, how), total))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--check", nargs="?", type=int, const=512, metavar="SIDE")
    parser.add_argument("--grow", default="", help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, default=512, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.grow:
        _grow(options.side, options.grow)
        return
    if options.check:
        check(options.check)
        return
    if options.measure:
        if not torch.cuda.is_available():
            parser.error("--measure needs a GPU; without it the rows are computed.")
        for name in options.only:
            for way, most in measured(CASES[name], torch.device("cuda")):
                told = "does not fit" if most is None else f"{most / GIB:.2f} GiB measured"
                sys.stdout.write(f"{CASES[name].model}, {CASES[name].side_px} px, {way}: {told}\n")
                sys.stdout.flush()
        return
    rows, details = [], []
    for name in options.only:
        case, needs = CASES[name], needs_of(CASES[name])
        ways = options_of(needs)
        cells = [next((way for way, total in ways if total <= gb * GIB), "–") for gb in GPUS_GB]
        title = f"{case.model}, {case.side_px} px"
        rows.append(f"| {title} | {' | '.join(cells)} | computed |")
        details.append(f"| {title} | " + " | ".join(f"{total / GIB:.1f}" for _, total in ways) + " | computed |")
        names = [way for way, _ in ways]
        sys.stdout.write(f"{title}: " + "; ".join(f"{way} {total / GIB:.2f} GiB" for way, total in ways) + "\n")
        sys.stdout.flush()
    head = "| model | " + " | ".join(f"{gb} GB" for gb in GPUS_GB)
    sys.stdout.write(f"\n{head} | |\n|{' --- |' * (len(GPUS_GB) + 2)}\n" + "\n".join(rows) + "\n")
    sys.stdout.write(f"\n| model | {' | '.join(names)} | |\n|{' --- |' * (len(names) + 2)}\n" + "\n".join(details) + "\n")


if __name__ == "__main__":
    main()
