"""Whole runs on a pretended GPU (tests/shared/pretended_gpu.py): what lies where and when, and that the processor's result comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy
import pytest
import torch
from pretended_gpu import Gpu, Stream, pretended_gpu
from safetensors.torch import load_file
from tiny_families import make_sd15_folder, make_sdxl_folder
from tiny_flow import make_flux_folder, make_sd35_folder

from athanor.trainer.bases import describe_base
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import AdapterSettings, EmbeddingSettings, OptimizerSettings, PerformanceSettings, SampleSettings, TrainSettings
from athanor.trainer.worker import work

FAMILIES = {"sd15": make_sd15_folder, "sdxl": make_sdxl_folder, "sd35": make_sd35_folder, "flux": make_flux_folder}
Job = Callable[..., TrainJob]


@pytest.fixture(scope="module")
def job_of(tmp_path_factory, dataset) -> Job:
    """job_of(family, train={…}, **sections): an epoch of a tiny base, plain descent, so that a last bit does not turn a step around."""
    bases = {}

    def job(name: str, train: dict | None = None, **sections) -> TrainJob:
        if name not in bases:
            bases[name] = describe_base(FAMILIES[name](tmp_path_factory.mktemp(name)).path)
        usual = {
            "epochs": 1,
            "batch_size": 2,
            "rate": 1e-2,
            "text_encoder_rate": 0.0,
            "precision": "fp32",
            "save_precision": "fp32",
            "optimizer": "sgd",
            "seed": 3,
        }
        settings = TrainSettings(**{**usual, **(train or {})})
        plain = TrainJob(
            "r", bases[name], dataset, adapter=AdapterSettings(rank=2), optimizer=OptimizerSettings(kind=settings.optimizer), train=settings
        )
        return dataclasses.replace(plain, **sections)

    return job


class Watched(Control):
    """Tells what lay on the GPU before the first step, and the most while it was done."""

    def __init__(self, run: Run, gpu: Gpu):
        super().__init__()
        self._run, self._gpu = run, gpu
        self._told: list[int] = []

    @property
    def stop_requested(self) -> bool:
        if len(self._told) < 2 and any(event["event"] == "start" for event in self._run.events()):
            self._told.append(self._gpu.peak_bytes if self._told else self._gpu.held_bytes)
            self._gpu.forget_peak()
        return False

    @property
    def before_bytes(self) -> int:
        return self._told[0]

    @property
    def step_bytes(self) -> int:
        return self._told[1]


def on_gpu(folder, job: TrainJob, total_bytes: int = 24 << 30) -> tuple[Run, Watched]:
    run = open_run(folder / "gpu", job)
    with pretended_gpu(total_bytes) as gpu:
        watched = Watched(run, gpu)
        code = work(run, watched)
    assert code == 0, run.events()[-1]
    return run, watched


def on_processor(folder, job: TrainJob) -> Run:
    run = open_run(folder / "processor", dataclasses.replace(job, performance=PerformanceSettings()))
    assert work(run, Control()) == 0, run.events()[-1]
    return run


def assert_alike(run: Run, other: Run, near: float = 1e-4) -> None:
    assert len(run.losses()) > 2 and run.losses() == pytest.approx(other.losses(), rel=near)
    for mine, theirs in zip(run.epochs(), other.epochs(), strict=True):
        tensors, wanted = load_file(mine.path), load_file(theirs.path)
        assert tensors.keys() == wanted.keys()
        apart = sum(float((tensors[key] - wanted[key]).square().sum()) for key in wanted)
        assert apart < near**2 * sum(float(tensor.square().sum()) for tensor in wanted.values())


def test_what_fails_on_a_gpu_fails_on_the_pretended_one():
    layer = torch.nn.Linear(4, 2)
    with pretended_gpu(total_bytes=4096) as gpu:
        layer.to("cuda")
        assert layer.weight.device == torch.device("cuda", 0) and layer.bias.is_cuda and gpu.held_bytes == 40
        here, there = torch.ones(3, 4), torch.ones(3, 4, device="cuda")
        with pytest.raises(RuntimeError, match="at least two devices, cuda:0 and cpu"):
            layer(here)
        with pytest.raises(RuntimeError, match="at least two devices"):
            here.add_(there)
        with pytest.raises(TypeError, match="to numpy"):
            numpy.asarray(there)
        with pytest.raises(RuntimeError, match="type for generator"):
            torch.rand(2, device="cuda", generator=torch.Generator())
        with pytest.raises(torch.cuda.OutOfMemoryError):
            torch.zeros(2048, device="cuda")
        assert (there * torch.tensor(2.0)).device.type == "cuda" and there[torch.tensor([0])].is_cuda
        loss = layer(there).square().mean() + here.to(there).sum()
        loss.backward()
        assert layer.weight.grad.device.type == "cuda" and loss.detach().cpu().numpy() == loss.item()
        late = Stream()
        with torch.cuda.stream(late):
            copied = here.to("cuda", non_blocking=True)
        with pytest.raises(RuntimeError, match="may not have written yet"):
            copied + 1
        torch.cuda.current_stream().wait_event(late.record_event())
        assert (copied + 1).sum() == 24
        held = gpu.held_bytes
        del copied
        assert gpu.held_bytes == held - 48
    assert layer.weight.device.type == "cpu"


EMBEDDING = {"kind": "embedding", "adapter": AdapterSettings(), "embedding": EmbeddingSettings(token="zork")}
RUNS = {
    "sd15, text encoder too": ("sd15", {"text_encoder_rate": 1e-2}, {}),
    "sdxl": ("sdxl", {}, {"samples": SampleSettings(prompts="a cat", steps=2)}),
    "sd35": ("sd35", {}, {}),
    "flux": ("flux", {}, {}),
    "embedding": ("sd35", {"rate": 0.0, "text_encoder_rate": 1e-3}, EMBEDDING),
    "checkpoint": ("sd15", {"rate": 1e-3}, {"kind": "checkpoint", "adapter": AdapterSettings()}),
    "fp8": ("sd35", {"base_precision": "fp8"}, {}),
    "nf4 and bf16": ("sdxl", {"base_precision": "nf4", "precision": "bf16"}, {}),
    "int8": ("sd15", {"base_precision": "int8"}, {}),
    "blocks wait outside": ("flux", {}, {"performance": PerformanceSettings(block_offload=True)}),
    "activations wait outside": ("sd15", {}, {"performance": PerformanceSettings(activation_offload=True)}),
    "half computed twice": ("sd35", {}, {"performance": PerformanceSettings(gradient_checkpointing="partial")}),
    "adamw8bit and a mean": ("sd15", {"optimizer": "adamw8bit", "rate": 1e-3}, {"optimizer": OptimizerSettings(kind="adamw8bit", ema_decay=0.5)}),
}


@pytest.mark.slow
@pytest.mark.parametrize("which", RUNS)
def test_a_run_is_what_it_is_on_the_processor(tmp_path, job_of, which):
    name, train, sections = RUNS[which]
    job = job_of(name, train, **sections)
    run, _ = on_gpu(tmp_path, job)
    assert_alike(run, on_processor(tmp_path, job))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "train"), [("sd15", {"precision": "fp16"}), ("flux", {"base_precision": "nf4"})])
def test_what_needs_a_gpu_trains_on_it(tmp_path, job_of, name, train):
    run, _ = on_gpu(tmp_path, job_of(name, train))
    losses = run.losses()
    assert run.finished() and len(losses) > 2 and all(loss > 0 for loss in losses)
    plain = on_processor(tmp_path, job_of(name))
    assert losses[0] == pytest.approx(plain.losses()[0], rel=0.1), "another number format of the same base"


@pytest.mark.slow
def test_less_lies_on_the_gpu_where_it_is_asked_for(tmp_path, job_of):
    def told(which: str, train: dict | None = None, t5_rate: float = 0.0, **performance) -> Watched:
        optimizer = OptimizerSettings(kind="sgd", t5_rate=t5_rate)
        return on_gpu(tmp_path / which, job_of("flux", train, optimizer=optimizer, performance=PerformanceSettings(**performance)))[1]

    off, partial, full = (told(how, gradient_checkpointing=how) for how in ("off", "partial", "full"))
    assert off.step_bytes > 1.3 * partial.step_bytes > 1.3 * 1.3 * full.step_bytes
    away = told("away", gradient_checkpointing="off", activation_offload=True)
    assert away.step_bytes < off.step_bytes / 2
    eighth = told("fp8", {"base_precision": "fp8"}, gradient_checkpointing="full")
    assert eighth.before_bytes < 0.3 * full.before_bytes and eighth.step_bytes < full.step_bytes
    blocks = told("blocks", block_offload=True)
    assert blocks.before_bytes < 0.45 * full.before_bytes and blocks.step_bytes < full.step_bytes
    clip = told("clip", {"text_encoder_rate": 1e-3}, gradient_checkpointing="full")
    t5 = told("t5", {"text_encoder_rate": 1e-3}, t5_rate=1e-3, gradient_checkpointing="full")
    assert t5.before_bytes > 1.2 * clip.before_bytes > 1.2 * 1.2 * full.before_bytes, "who is not trained has left before the first step"


@pytest.mark.slow
def test_a_block_that_is_used_before_it_has_come_is_found_out(tmp_path, job_of, monkeypatch):
    """So that the tests above say something of the order of copies and steps."""
    monkeypatch.setattr(Stream, "wait_event", lambda stream, event: None)
    with pytest.raises(AssertionError, match="may not have written yet"):
        on_gpu(tmp_path, job_of("sd35", performance=PerformanceSettings(block_offload=True)))
