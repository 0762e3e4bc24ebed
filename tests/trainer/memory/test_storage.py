"""A base that is kept small: as near as its bits allow, exact in its gradients, and no larger between the passes."""

from __future__ import annotations

import dataclasses
import importlib.util

import pytest
import torch
from torch import nn

from athanor.trainer import preparation
from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach
from athanor.trainer.adapters.base import LayerPlan, base_weight
from athanor.trainer.bases import count_denoiser_weights
from athanor.trainer.checks.validate import check_train_job
from athanor.trainer.control import Control
from athanor.trainer.errors import AthanorError, InvalidJobError
from athanor.trainer.loop import train
from athanor.trainer.memory import storage
from athanor.trainer.memory.storage import Room, chosen_storage, hold
from athanor.trainer.runs.run import open_run
from athanor.trainer.settings import AdapterSettings
from athanor.trainer.worker import work

GIB = 1 << 30


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 8, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(8, 8, 1),
        nn.Flatten(2),
        nn.Linear(16, 12),
        nn.LayerNorm(12),
        nn.Linear(12, 4, bias=False),
    )
    return nn.Sequential(*layers).requires_grad_(False)


def given() -> torch.Tensor:
    return torch.randn((2, 3, 4, 4), generator=torch.Generator().manual_seed(1), requires_grad=True)


@pytest.mark.parametrize(("kind", "far"), [("bf16", 2e-2), ("fp16", 2e-3), ("fp8", 8e-2), ("int8", 2e-2)])
def test_a_held_net_answers_nearly_as_the_plain_one(kind, far):
    plain, held = net()(given()), hold(net(), kind, "fp32")(given())
    assert held.dtype == torch.float32
    distance = float((held - plain).norm() / plain.norm())
    assert 0 < distance < far


@pytest.mark.parametrize("kind", ["bf16", "fp8", "int8"])
def test_gradients_are_those_of_a_net_with_the_same_weights(kind):
    held, twin = hold(net(), kind, "fp32"), net()
    for one, other in zip(held, twin, strict=True):
        if isinstance(one, (nn.Linear, nn.Conv2d)):
            other.weight.data = storage.plain_weight(one).float()
    first, second = given(), given()
    held(first).square().sum().backward()
    twin(second).square().sum().backward()
    assert torch.allclose(first.grad, second.grad, atol=1e-6) and first.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_the_backward_pass_keeps_no_unfolded_weight(kind):
    layer = hold(nn.Sequential(nn.Linear(256, 256)), kind, "fp32")[0]
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel() * tensor.element_size()) or tensor, lambda saved: saved):
        layer(torch.randn(1, 256, requires_grad=True))
    assert sum(kept) < 256 * 256
    assert layer.weight.element_size() == 1


def test_every_output_has_its_scale_and_zeros_stay():
    layer = nn.Linear(4, 3, bias=False)
    layer.weight.data = torch.tensor([[1e-6, -5e-7, 0, 1e-7], [300.0, -200.0, 100.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    wanted = layer.weight.clone()
    read = storage.plain_weight(hold(nn.Sequential(layer), "fp8", "fp32")[0])
    assert (
        torch.allclose(read, wanted, rtol=0.07, atol=0) or (read - wanted).abs().div(wanted.abs().amax(1, keepdim=True).clamp(min=1e-12)).max() < 0.04
    )
    assert not read[2].any()


def test_an_adapter_on_a_held_layer_starts_in_fp32_and_knows_its_weight():
    held, kind = hold(net(), "fp8", "fp32"), adapter("lora")
    layers = attach(kind, held, [LayerPlan("4", 2, 2.0)], AdapterSettings(), 0)
    fresh = attach(kind, net(), [LayerPlan("4", 2, 2.0)], AdapterSettings(), 0)
    down = kind.tensors(layers["4"])["lora_down.weight"]
    assert down.dtype == torch.float32 and torch.equal(down, kind.tensors(fresh["4"])["lora_down.weight"])
    assert torch.allclose(base_weight(layers["4"]), net()[4].weight, atol=0.02)
    held(given()).sum().backward()
    assert kind.tensors(layers["4"])["lora_up.weight"].grad.abs().max() > 0


@pytest.mark.parametrize(
    ("wanted", "free_gib", "has_nf4", "chosen"),
    [("auto", 30, True, "bf16"), ("auto", 18, True, "fp8"), ("auto", 10, True, "nf4"), ("bf16", 25, True, "bf16"), ("fp8", 30, False, "fp8")],
)
def test_what_fits_is_chosen(wanted, free_gib, has_nf4, chosen):
    """12 · 10⁹ weights, as FLUX.1 has them."""
    assert chosen_storage(wanted, "bf16", 12_000_000_000, Room(free_gib * GIB, has_nf4)) == chosen


@pytest.mark.parametrize(
    ("name", "num_weights", "side_px", "card_gb", "chosen"),
    [
        ("SDXL", 2_567_000_000, 1024, 6, "fp8"),
        ("SDXL", 2_567_000_000, 1024, 8, "bf16"),
        ("SD3.5 medium", 2_470_000_000, 1024, 8, "bf16"),
        ("SD3.5 large", 8_060_000_000, 512, 12, "fp8"),
        ("SD3.5 large", 8_060_000_000, 1024, 8, "nf4"),
        ("SD3.5 large", 8_060_000_000, 1024, 24, "bf16"),
        ("FLUX.1", 11_900_000_000, 512, 16, "fp8"),
        ("FLUX.1", 11_900_000_000, 1024, 16, "nf4"),
        ("FLUX.1", 11_900_000_000, 1024, 24, "fp8"),
        ("FLUX.1", 11_900_000_000, 1024, 12, "nf4"),
    ],
)
def test_what_is_chosen_for_a_training_is_what_the_table_says(name, num_weights, side_px, card_gb, chosen):
    """docs/memory.md; 0.75 GiB of a card are the driver's and the desktop's."""
    free = int((card_gb - 0.75) * GIB)
    assert chosen_storage("auto", "bf16", num_weights, Room(free, True), side_px**2) == chosen, name


def test_nf4_gives_the_format_of_autocast_as_a_plain_layer_does():
    layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 8)).requires_grad_(False).bfloat16()
    x = torch.randn(3, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = layers(x)
        packed = hold(layers, "nf4", "bf16").to("cpu")
        found = packed(x)
    assert found.dtype == wanted.dtype == torch.bfloat16
    assert torch.allclose(found.float(), wanted.float(), atol=0.1)
    assert packed(x).dtype == torch.float32


@pytest.mark.slow
def test_a_base_in_nf4_is_measured_and_trained_without_a_gpu(tmp_path, job):
    train = dataclasses.replace(job.train, base_precision="nf4", precision="bf16")
    run = open_run(tmp_path, dataclasses.replace(job, train=train))
    assert work(run, Control()) == 0, run.events()[-1]
    assert [event for event in run.events() if event["event"] == "validation"]


def test_a_large_batch_is_not_refused_for_a_guess():
    assert chosen_storage("auto", "bf16", 2_567_000_000, Room(15 * GIB, True), 16 * 1024**2) == "nf4"
    with pytest.raises(AthanorError, match="The base does not fit"):
        chosen_storage("auto", "bf16", 2_567_000_000, Room(4 * GIB, True), 16 * 1024**2)


def test_where_memory_is_not_counted_the_wish_counts():
    assert chosen_storage("auto", "bf16", 10**12, Room(None, False)) == "bf16"
    assert chosen_storage("fp8", "bf16", 10**12, Room(None, False)) == "fp8"
    assert chosen_storage("int8", "bf16", 12_000_000_000, Room(16 * GIB, False)) == "int8"


@pytest.mark.parametrize(
    ("wanted", "free_gib", "words"),
    [
        ("auto", 8, ["25.4 GiB as bf16", "14.2 GiB as fp8", "8.0 GiB are free", "even fp8"]),
        ("bf16", 16, ["25.4 GiB as bf16", "choose base precision fp8"]),
    ],
)
def test_what_does_not_fit_is_told_with_what_would(wanted, free_gib, words):
    with pytest.raises(AthanorError) as told:
        chosen_storage(wanted, "bf16", 12_000_000_000, Room(free_gib * GIB, False))
    assert all(word in str(told.value) for word in words), told.value


def test_without_a_gpu_the_base_alone_is_counted():
    assert chosen_storage("auto", "bf16", 12_000_000_000, Room(23 * GIB, False, on_gpu=False)) == "bf16"
    assert chosen_storage("auto", "bf16", 12_000_000_000, Room(12 * GIB, False, on_gpu=False)) == "fp8"
    with pytest.raises(
        AthanorError, match=r"it needs 22.4 GiB as bf16, 11.2 GiB as fp8, and 8.0 GiB are free; close other programs, or choose a smaller base"
    ):
        chosen_storage("auto", "bf16", 12_000_000_000, Room(8 * GIB, False, on_gpu=False))


def test_a_base_that_does_not_fit_is_told_before_a_caption_is_encoded(tmp_path, job, monkeypatch):
    needed = count_denoiser_weights(job.base)
    monkeypatch.setattr(preparation, "room_on", lambda device, packs: Room(needed // 2, False, on_gpu=False))
    run = open_run(tmp_path, job)
    with pytest.raises(AthanorError, match="The base does not fit"):
        train(run, Control())
    assert not any(each["event"] == "phase" for each in run.events()), "nothing was encoded before"


def test_nf4_without_bitsandbytes_is_refused_before_anything_loads(job, monkeypatch):
    job = dataclasses.replace(job, train=dataclasses.replace(job.train, base_precision="nf4"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidJobError, match="nf4, which needs bitsandbytes; install it"):
        check_train_job(job)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="no bitsandbytes")
def test_nf4_trains_adapters_on_linear_layers():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).requires_grad_(False)
    x, expected = torch.randn(4, 64), None
    expected = plain(x)
    held, kind = hold(plain, "nf4", "fp32").to("cpu"), adapter("lora")
    distance = float((held(x) - expected).norm() / expected.norm())
    assert 0 < distance < 0.25
    layers = attach(kind, held, [LayerPlan("0", 2, 2.0)], AdapterSettings(), 0)
    held(x).sum().backward()
    assert kind.tensors(layers["0"])["lora_up.weight"].grad.abs().max() > 0
    assert base_weight(layers["0"]).shape == (64, 64)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="no bitsandbytes")
@pytest.mark.parametrize("columns", [16, 32, 96])
def test_rows_that_are_no_whole_blocks_of_nf4_stay_as_they_are(columns):
    """bitsandbytes fails on them where the CPU computes in bf16 by itself."""
    plain = nn.Sequential(nn.Linear(columns, 64), nn.Linear(64, 32)).requires_grad_(False).to(torch.bfloat16)
    held = hold(plain, "nf4", "bf16").to("cpu").eval()
    assert type(held[0]) is nn.Linear and type(held[1]) is not nn.Linear
    assert held(torch.randn(2, columns, dtype=torch.bfloat16)).isfinite().all()


@pytest.mark.parametrize("kind", ["fp8", "bf16"])
def test_a_run_on_a_held_base_lowers_the_held_out_loss(tmp_path, job, kind):
    job = dataclasses.replace(job, train=dataclasses.replace(job.train, base_precision=kind, epochs=6))
    run = open_run(tmp_path, job)
    train(run, Control())
    losses = run.validation_losses()
    assert losses[6] < losses[0]
