"""Checkpointing, compiled and offloaded blocks change how a step is computed, not what comes out."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil

import pytest
import torch
from tiny_families import vae_model
from tiny_flow import flux_models, make_flux_folder

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach, trained
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.bases import describe_base
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import family
from athanor.trainer.families._vae import decode_within_memory
from athanor.trainer.loop import train
from athanor.trainer.memory import performance
from athanor.trainer.memory.devices import SlowdownWatch, checkpointing_for, make_room, saved_bytes, slowdown_message
from athanor.trainer.memory.offload import BlockOffload, bring_encoders
from athanor.trainer.memory.performance import (
    checkpoint_text,
    compile_blocks,
    offload_blocks,
    performance_problems,
    set_attention,
    set_checkpointing,
    uncompiled,
)
from athanor.trainer.runs.run import job_hash, open_run
from athanor.trainer.settings import AdapterSettings, PerformanceSettings
from athanor.trainer.trainees.lora import lora_trainee

SD15 = family("sd15")


class Small:
    """The tiny U-Net with its adapters, and one pass through it."""

    def __init__(self, job: TrainJob):
        self.denoiser = SD15.load_denoiser(job.base, torch.float32)
        only = dataclasses.replace(job, train=dataclasses.replace(job.train, text_encoder_rate=0.0))
        self.parameters = lora_trainee(only, SD15, self.denoiser, None).parameters()
        draw = torch.Generator().manual_seed(1)
        for parameter in self.parameters.values():
            parameter.data = torch.randn(parameter.shape, generator=draw) * 0.1
        self.noisy = torch.randn(2, 4, 8, 8, generator=draw)
        self.states = torch.randn(2, 7, 16, generator=draw)

    def forward(self) -> torch.Tensor:
        return SD15.predict(self.denoiser, self.noisy, torch.tensor([0.3, 0.7]), {"states": self.states})

    def gradients(self) -> list[torch.Tensor]:
        self.forward().pow(2).mean().backward()
        found = [parameter.grad.clone() for parameter in self.parameters.values()]
        for parameter in self.parameters.values():
            parameter.grad = None
        return found


@pytest.fixture
def small(job) -> Small:
    return Small(job)


@pytest.mark.parametrize("how", ["partial", "full"])
def test_computing_twice_gives_the_same_gradients_and_keeps_less(small, how):
    plain, plain_bytes = small.gradients(), saved_bytes(small.denoiser, small.forward)
    set_checkpointing(small.denoiser, how)
    assert all(torch.equal(one, two) for one, two in zip(small.gradients(), plain, strict=True))
    kept = saved_bytes(small.denoiser, small.forward)
    assert kept < (0.9 if how == "partial" else 0.6) * plain_bytes
    set_checkpointing(small.denoiser, "off")
    assert saved_bytes(small.denoiser, small.forward) == plain_bytes


def test_what_a_pass_keeps_is_measured_without_computing_it(small):
    """Against the tensors that a real pass keeps."""
    kept = {}

    def pack(tensor):
        weights = {parameter.untyped_storage()._cdata for parameter in small.denoiser.parameters()}
        if tensor.untyped_storage()._cdata not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        small.forward()
    real = sum(storage.nbytes() for storage in kept.values())
    assert saved_bytes(small.denoiser, small.forward) == pytest.approx(real, rel=0.1)


def test_checkpointing_follows_from_what_fits():
    gib = 1 << 30
    assert checkpointing_for(4 * gib, 10 * gib) == "off"
    assert checkpointing_for(4 * gib, 4 * gib) == "partial"
    assert checkpointing_for(8 * gib, 2 * gib) == "full"


class Row(torch.nn.Module):
    """A transformer's shape: equal blocks in a row, frozen but for a small part of each."""

    _no_split_modules = ("Block",)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.enter = torch.nn.Linear(3, 6)
        self.blocks = torch.nn.ModuleList(Block() for _ in range(5))
        for name, parameter in self.named_parameters():
            parameter.requires_grad_("small" in name)

    def forward(self, x, checkpointed=False):
        x = self.enter(x)
        for block in self.blocks:
            x = torch.utils.checkpoint.checkpoint(block.__call__, x, use_reentrant=False) if checkpointed else block(x)
        return x


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.large, self.small = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)

    def forward(self, x):
        return x + torch.tanh(self.large(x)) + self.small(x)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_offloaded_blocks_give_the_same_gradients_and_are_away_in_between(checkpointed):
    x, plain, away = torch.randn(4, 3), Row(), Row()
    offload = offload_blocks(away, torch.device("cpu"))
    most = 0

    def count(*_):
        nonlocal most
        most = max(most, sum(block.large.weight.numel() > 0 for block in away.blocks))

    for block in away.blocks:
        block.large.register_forward_hook(count)
    assert all(block.large.weight.numel() == 0 and block.small.weight.numel() == 36 for block in away.blocks)
    for _ in range(2):
        for row in (plain, away):
            row.zero_grad()
            row(x, checkpointed).pow(2).sum().backward()
        for one, two in zip(plain.blocks, away.blocks, strict=True):
            assert torch.equal(one.small.weight.grad, two.small.weight.grad)
    assert most <= 3
    with torch.no_grad():
        assert torch.equal(plain(x), away(x))
    offload.close()
    assert all(torch.equal(one.large.weight, two.large.weight) for one, two in zip(plain.blocks, away.blocks, strict=True))


@pytest.mark.parametrize(("free", "is_away"), [(0, True), (10**12, False)])
def test_a_text_encoder_that_does_not_fit_encodes_the_same_block_by_block(tmp_path, free, is_away):
    made = make_flux_folder(tmp_path)
    flux, base = family("flux"), describe_base(made.path)
    text, plain = flux.load_text(base, torch.float32), flux.load_text(base, torch.float32)
    bring_encoders(text.parts().values(), torch.device("cpu"), free)
    t5 = text.encoders[1]
    assert all(parameter.numel() == 0 for block in t5.encoder.block for parameter in block.parameters()) == is_away
    assert t5.shared.weight.numel() > 0
    captions = ["a cat", "b"]
    with torch.no_grad():
        found, expected = (flux.encode_text(each, captions, 1) for each in (text, plain))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_picture_too_large_for_the_memory_is_decoded_in_pieces():
    torch.manual_seed(0)
    vae, latents = vae_model(1.0), torch.randn(1, 4, 8, 8)
    whole, decode, tried = vae.decode(latents).sample, vae.decode, []

    def small(given):
        tried.append(vae.use_tiling)
        if not vae.use_tiling:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return decode(given)

    vae.decode = small
    pixels = decode_within_memory(vae, latents)
    assert tried == [False, True] and pixels.shape == whole.shape and not vae.use_tiling


def test_a_u_net_has_no_row_of_blocks_to_offload(small):
    with pytest.raises(AthanorError, match="no row of equal blocks"):
        offload_blocks(small.denoiser, torch.device("cpu"))
    assert BlockOffload([], torch.device("cpu")) is not None


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="needs a C++ compiler")
@pytest.mark.parametrize("whole_stages", [False, True])
def test_compiled_blocks_give_nearly_the_same_gradients(small, whole_stages, request):
    if whole_stages:
        request.getfixturevalue("thorough")
    plain = small.gradients()
    compile_blocks(small.denoiser, whole_stages)
    assert all(torch.allclose(one, two, atol=1e-5, rtol=1e-3) for one, two in zip(small.gradients(), plain, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="needs a C++ compiler")
def test_gradients_come_through_a_compiled_stage_that_enlarges():
    from diffusers.models.unets.unet_2d_blocks import UpBlock2D

    torch.manual_seed(0)
    sizes = {"in_channels": 8, "prev_output_channel": 8, "out_channels": 8, "temb_channels": 8}
    model = torch.nn.Module()
    model.up_blocks = torch.nn.ModuleList([UpBlock2D(**sizes, num_layers=1, resnet_groups=4).requires_grad_(False)])

    def gradients() -> list[torch.Tensor]:
        draw = torch.Generator().manual_seed(1)
        below, beside, time = (torch.randn(shape, generator=draw) for shape in ((1, 8, 4, 4), (1, 8, 4, 4), (1, 8)))
        inputs = (below.requires_grad_(), beside.requires_grad_())
        model.up_blocks[0](inputs[0], (inputs[1],), time).pow(2).mean().backward()
        return [each.grad for each in inputs]

    plain = gradients()
    compile_blocks(model, whole_stages=True)
    assert all(torch.allclose(one, two, rtol=1e-4, atol=1e-7) for one, two in zip(gradients(), plain, strict=True))


@pytest.mark.parametrize("whole_stages", [False, True])
def test_blocks_or_stages_are_compiled_and_left_aside_where_sizes_are_others(small, whole_stages):
    plain = small.forward()
    compile_blocks(small.denoiser, whole_stages)
    compiled = {type(module).__name__ for module in small.denoiser.modules() if module._compiled_call_impl is not None}
    assert ("BasicTransformerBlock" in compiled) != whole_stages and ("CrossAttnUpBlock2D" in compiled) == whole_stages
    torch._dynamo.utils.counters.clear()
    with uncompiled(PerformanceSettings(compile=True)):
        assert torch.equal(small.forward(), plain)
    assert not torch._dynamo.utils.counters["stats"]


def test_what_a_device_cannot_do_is_told(monkeypatch):
    assert performance_problems(PerformanceSettings(), "cpu") == []
    told = performance_problems(PerformanceSettings(block_offload=True, activation_offload=True, attention="flash"), "cpu")
    assert len(told) == 3 and all(sentence.startswith("Performance: ") for sentence in told)
    assert (
        "only with gradient_checkpointing full"
        in performance_problems(PerformanceSettings(block_offload=True, gradient_checkpointing="off"), "cuda")[0]
    )
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    assert "needs a C++ compiler" in performance_problems(PerformanceSettings(compile=True), "cpu")[0]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install xformers" in performance_problems(PerformanceSettings(attention="xformers"), "cuda")[0]
    assert "needs Triton" in performance_problems(PerformanceSettings(compile=True), "cuda")[0]


def test_attention_that_the_model_does_not_have_is_refused(small):
    set_attention(small.denoiser, "auto")
    with pytest.raises(AthanorError, match="has no attention flash; choose auto"):
        set_attention(small.denoiser, "flash")


def test_activations_kept_elsewhere_change_nothing(small):
    plain = small.gradients()
    with performance.keeping(PerformanceSettings(activation_offload=True))():
        loss = small.forward().pow(2).mean()
    loss.backward()
    assert all(torch.equal(parameter.grad, wanted) for parameter, wanted in zip(small.parameters.values(), plain, strict=True))


def test_a_run_with_checkpointing_is_the_same_run_to_the_bit(tmp_path, job):
    job = dataclasses.replace(job, train=dataclasses.replace(job.train, epochs=1))
    plain, twice = open_run(tmp_path / "plain", job), dataclasses.replace(job, performance=PerformanceSettings(gradient_checkpointing="full"))
    train(plain, Control())
    run = open_run(tmp_path / "twice", twice)
    train(run, Control())
    assert [epoch.sha256 for epoch in plain.epochs()] != [] and plain.losses() == run.losses()
    start = next(event for event in run.events() if event["event"] == "start")
    assert start["checkpointing"] == "full"
    assert job_hash(job) == job_hash(twice), "a run goes on with other settings of performance"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_t5_computed_twice_gives_the_same_gradients_without_dropout(dtype, tmp_path):
    models, kind, settings = flux_models(tmp_path), adapter("lora"), AdapterSettings(rank=2)
    encoder = models["text_encoder_2"].to(dtype).eval().requires_grad_(False)
    assert encoder.config.dropout_rate > 0
    layers = attach(kind, encoder, plan_layers(encoder, "text_encoder_2", family("flux").adapter_targets("text_encoder_2"), settings), settings, 1)
    parameters = trained(kind, layers).values()
    for number, parameter in enumerate(parameters):
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.1
    ids, passes = torch.arange(4, 20)[None], []
    encoder.encoder.block[0].layer[0].register_forward_pre_hook(lambda *each: passes.append(1))

    def gradients() -> list[torch.Tensor]:
        passes.clear()
        states = encoder(input_ids=ids, attention_mask=None).last_hidden_state
        return list(torch.autograd.grad(states.float().pow(2).mean(), list(parameters)))

    checkpoint_text(encoder, PerformanceSettings(gradient_checkpointing="auto"), torch.device("cpu"))
    plain = gradients()
    assert len(passes) == 1
    checkpoint_text(encoder, PerformanceSettings(gradient_checkpointing="full"), torch.device("cpu"))
    twice = gradients()
    assert len(passes) == 2
    assert all(torch.equal(one, other) for one, other in zip(plain, twice, strict=True)) and any(grad.abs().max() > 0 for grad in plain)


def test_a_slowdown_is_told_once_and_after_three_slow_steps_of_a_known_shape():
    watch = SlowdownWatch()
    assert [watch.step("a", 1.0) for _ in range(10)] == [None] * 10
    assert [watch.step("b", 9.0) for _ in range(3)] == [None] * 3, "another shape may take longer"
    assert watch.step("a", 9.0) is None and watch.step("a", 1.0) is None, "a single slow step is nothing"
    assert [watch.step("a", 8.0) for _ in range(5)] == [None, None, 8.0, None, None]
    assert "8.0 times as long" in slowdown_message(8.0, torch.device("cuda")) and "spilled" in slowdown_message(8.0, torch.device("cuda"))


def test_room_is_made_near_the_limit_only(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(1))
    for free, expected in ((5, True), (50, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 100))
        assert make_room(torch.device("cuda")) is expected
    assert calls == [1] and not make_room(torch.device("cpu"))


@pytest.mark.parametrize("name", ["FluxTransformer2DModel", "SD3Transformer2DModel"])
def test_the_large_transformers_have_rows_of_blocks(name):
    import diffusers

    from athanor.trainer.memory.offload import repeated_blocks

    with torch.device("meta"):
        model = getattr(diffusers, name)(num_layers=3, num_attention_heads=2, attention_head_dim=16)
    kinds = [type(block).__name__ for block in repeated_blocks(model)]
    assert kinds.count(kinds[0]) == 3
