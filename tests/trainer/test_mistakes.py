"""What went wrong in other trainers and has no test of its own elsewhere; docs/mistakes.md has the whole list."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_families import make_sdxl_file
from tiny_flow import make_flux_file, make_sd35_file

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.bases import describe_base
from athanor.trainer.checks.validate import check_train_job
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.data.latents import image_tensor
from athanor.trainer.data.views import View
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import _unet, family
from athanor.trainer.families.base import Prompted
from athanor.trainer.loop import train
from athanor.trainer.objective.objectives import validation_times
from athanor.trainer.objective.times import training_times
from athanor.trainer.optimizing.updates import Updates
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import AdapterSettings, ObjectiveSettings, SampleSettings
from athanor.trainer.trainees.lora import lora_trainee
from athanor.trainer.trainees.trainee import Group, Trainee
from athanor.trainer.types import BaseModel


def trained(root: Path, job: TrainJob, **train_settings: object) -> Run:
    settings = dataclasses.replace(job.train, epochs=1, save_precision="fp32", **train_settings)
    run = open_run(root, dataclasses.replace(job, train=settings))
    train(run, Control())
    return run


def test_a_picture_on_the_way_leaves_the_adapters_in_fp32(tmp_path, job):
    """Mistake 1: elsewhere the pipeline that draws turns what is trained into half precision."""
    drawing = dataclasses.replace(job, name="drawing", samples=SampleSettings(prompts="a cat --s 1", every_steps=1, at_start=True))
    plain, drawn = trained(tmp_path, job, precision="bf16"), trained(tmp_path, drawing, precision="bf16")
    assert len(drawn.samples()) == 2 and drawn.losses() == plain.losses()
    one, two = load_file(plain.epochs()[-1].path), load_file(drawn.epochs()[-1].path)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(tensor, tensor.to(torch.bfloat16).float()) for tensor in one.values()), "finer than half precision"


def test_an_overflow_in_fp16_moves_nothing_and_lowers_the_scale(job):
    """Mistake 1: with adapters in fp16 the scaler refuses their gradients; in fp32 it sees an overflow and goes on."""
    weights = torch.nn.Parameter(torch.ones(4))
    trainee = Trainee(
        (Group("denoiser", 1e-2, {"weights": weights}, 1),), dict, caption=lambda text, draw: text, prompt=lambda text: text, take=lambda path: None
    )
    updates = Updates(dataclasses.replace(job, train=dataclasses.replace(job.train, precision="fp16")), trainee, torch.device("cpu"))
    updates.set_rates(0)
    scale = updates.state_dict()["scaler"]["scale"]
    updates.backward(weights.sum() * torch.inf)
    assert not updates.step() and torch.equal(weights, torch.ones(4))
    assert updates.state_dict()["scaler"]["scale"] == scale / 2
    updates.backward(weights.sum())
    assert updates.step() and (weights < 1).all()


@pytest.mark.parametrize("make", [make_sdxl_file, make_flux_file, make_sd35_file])
def test_the_autoencoder_computes_in_fp32_whatever_its_file_holds(tmp_path, make):
    """Mistake 3: SDXL's in fp16 gives latents that are no numbers."""
    made = make(tmp_path, dtype="float16") if make is make_sdxl_file else make(tmp_path)
    base = describe_base(made.path)
    vae = family(base.family).load_vae(base)
    assert {parameter.dtype for parameter in vae.parameters()} == {torch.float32}


@pytest.mark.parametrize("make", [make_flux_file, make_sd35_file])
def test_families_that_overflow_in_fp16_refuse_it(tmp_path, job, make):
    """Mistake 4."""
    base = describe_base(make(tmp_path).path)
    told = rf"{family(base.family).title} overflows in fp16; choose precision bf16"
    with pytest.raises(AthanorError, match=told.replace(".", r"\.")):
        check_train_job(dataclasses.replace(job, base=base, train=dataclasses.replace(job.train, precision="fp16")))


@pytest.mark.parametrize(("zero_terminal", "last"), [(True, 999), (False, None)])
def test_pictures_of_zero_terminal_snr_start_from_noise_alone(base, zero_terminal, last):
    """Mistake 5: previews elsewhere begin at a time that has a signal, which such a model never saw."""
    v = dataclasses.replace(base, prediction="v", zero_terminal_snr=zero_terminal)
    seen: list[int] = []

    def predict(noisy: torch.Tensor, time: torch.Tensor, conditioning: object) -> torch.Tensor:
        seen.append(int(time))
        return torch.zeros_like(noisy)

    prompted = [Prompted({"states": torch.zeros(1, 1, 1)}, {"states": torch.zeros(1, 1, 1)}, 1)]
    _unet.draw(v, predict, prompted, 4, 1.0, (4, 4, 4), torch.device("cpu"))
    assert len(seen) == 4 and (seen[0] == last if zero_terminal else seen[0] < 999)


def test_the_range_of_times_holds_for_flows_too(base):
    """Mistake 7: FLUX ignores min_timestep and max_timestep elsewhere, in training and where held-out images are measured."""
    flow: BaseModel = dataclasses.replace(base, prediction="flow", variant="dev")
    uniform = (torch.arange(1000) + 0.5) / 1000
    for sampling in ("auto", "uniform", "sigmoid", "shifted", "resolution_shifted", "mode", "logit_normal"):
        times = training_times(
            uniform, (64, 64), family("flux"), flow, ObjectiveSettings(timestep_sampling=sampling, min_timestep=200, max_timestep=700)
        )
        assert 0.2 <= times.min() < times.max() <= 0.7, sampling
    measured = validation_times(8)
    assert list(measured) == list(validation_times(8)) and 0 < min(measured) < max(measured) < 1


def test_a_mirrored_image_is_encoded_and_not_flipped_afterwards(base, dataset):
    """Mistake 11: an autoencoder does not give the mirror image's latents for mirrored latents."""
    sd15, view = family("sd15"), View(dataset.samples[0])
    vae = sd15.load_vae(base)
    with torch.no_grad():
        plain, mirrored = (sd15.encode_images(vae, image_tensor(each)[None])[0] for each in (view, view.mirrored()))
    assert torch.equal(image_tensor(view.mirrored()), image_tensor(view).flip(-1))
    assert (mirrored - plain.flip(-1)).abs().max() > 1e-3


def test_one_kind_of_adapter_does_not_change_the_next_ones(base):
    """Mistake 19: after a LoCon elsewhere, later LoRAs of the same process train convolutions, too."""

    def names(kind: str) -> list[str]:
        denoiser = family("sd15").load_denoiser(base, torch.float32)
        settings = AdapterSettings(kind=kind, rank=2)
        plans = plan_layers(denoiser, "denoiser", family("sd15").adapter_targets("denoiser"), settings)
        return sorted(attach(adapter(kind), denoiser, plans, settings, 0))

    before, locon = names("lora"), names("locon")
    assert len(locon) > len(before) and names("lora") == before


def test_the_base_itself_never_drops_anything_out(base, job):
    """Mistake 23: a whole model in training mode turns on the dropout that its text encoders have."""
    sd15 = family("sd15")
    text, denoiser = sd15.load_text(base, torch.float32), sd15.load_denoiser(base, torch.float32)
    settings = dataclasses.replace(job, adapter=AdapterSettings(rank=2, module_dropout=0.5))
    trainee = lora_trainee(settings, sd15, denoiser, text)
    with trainee.dropping(0):
        for module in (denoiser, *text.parts().values()):
            inside = [layer for layer in module.modules() if layer.training]
            assert inside and not any(type(layer).__name__ in ("UNet2DConditionModel", "CLIPTextModel", "ResnetBlock2D") for layer in inside)
            assert not any(isinstance(layer, torch.nn.Dropout) and layer.p > 0 for layer in inside)


def test_the_list_names_tests_that_are_there():
    tests = Path(__file__).resolve().parents[1]
    listed = (tests.parent / "docs" / "mistakes.md").read_text(encoding="utf-8")
    rows = [line for line in listed.splitlines() if line.startswith("| ") and line.split("|")[1].strip().isdigit()]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 28))
    defined = {name for file in tests.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)}
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert all(named) and {name for each in named for name in each} - defined == set()
