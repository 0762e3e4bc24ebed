"""What every family must do, on tiny random models of its true architecture in every layout that it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import make_pictures
from tiny_families import MAKERS as UNET_MAKERS
from tiny_flow import FLOW_MAKERS

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach, export, load, trained
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.bases import count_denoiser_weights, describe_base
from athanor.trainer.checks.validate import base_problems
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.data.prompts import without_encoders
from athanor.trainer.dataset import assign_buckets, scan_folder
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import FAMILIES, all_families, family
from athanor.trainer.families._template import Template
from athanor.trainer.families.base import TEXT_PARTS, Family, Framing, Part, Prompted
from athanor.trainer.formats.header import read_header
from athanor.trainer.formats.layers import layers_of
from athanor.trainer.loop import train
from athanor.trainer.memory.offload import repeated_blocks
from athanor.trainer.objective.draws import draws_of
from athanor.trainer.objective.noise import noise_of
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import AdapterSettings, EmbeddingSettings, ObjectiveSettings, OptimizerSettings, TrainSettings
from athanor.trainer.step import batch_losses
from athanor.trainer.trainees.lora import lora_trainee
from athanor.trainer.types import BaseModel, Dataset

MAKERS = {**UNET_MAKERS, **FLOW_MAKERS}
LORA = adapter("lora")
CAPTIONS = ["a red circle", "blue"]
FRAMINGS = [Framing((300, 200), (8, 0), (64, 64)), Framing.whole((64, 64))]
LAYOUTS = [pytest.param(key, id="-".join(key)) for key in MAKERS]


@dataclass(frozen=True)
class Subject:
    """A family with a model of its own."""

    family: Family
    base: BaseModel

    def models(self):
        return self.family.load_text(self.base, torch.float32), self.family.load_denoiser(self.base, torch.float32)


@pytest.fixture(scope="module", autouse=True)
def template() -> Iterator[None]:
    """The template among the families, as a family's own file registers itself, for the tests of this file alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES._entries, "template", Template())
        yield


@pytest.fixture(scope="module", params=LAYOUTS)
def subject(request, template, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    name, layout = request.param
    made = MAKERS[request.param](tmp_path_factory.mktemp(f"{name} {layout}"))
    base = describe_base(made.path, text_encoders=made.text_encoders, vae=made.vae)
    assert base.family == name
    return Subject(family(name), base)


def test_every_registered_family_is_tried():
    assert {key[0] for key in MAKERS} == {each.name for each in all_families()}


def test_one_family_alone_takes_it(subject):
    path, taken = Path(subject.base.path), []
    for each in all_families():
        try:
            matches = each.matches_folder(path) if path.is_dir() else each.matches(read_header(path))
        except AthanorError:
            matches = False
        taken += [each.name] if matches else []
    assert taken == [subject.family.name]
    assert not base_problems(subject.base)


def test_pictures_become_latents_and_come_back(subject):
    vae = subject.family.load_vae(subject.base)
    stride = subject.family.vae_stride_px
    with torch.no_grad():
        mean, std = subject.family.encode_images(vae, torch.rand(2, 3, 8 * stride, 4 * stride) * 2 - 1)
        (picture, _) = subject.family.decode_latents(vae, mean)
    assert mean.shape == std.shape == (2, subject.family.latent_channels, 8, 4)
    assert (std > 0).all() and mean.isfinite().all()
    assert picture.size == (4 * stride, 8 * stride)


def conditioned(subject: Subject, text, num_chunks: int = 1):
    return subject.family.frame(subject.family.encode_text(text, CAPTIONS, num_chunks), FRAMINGS)


def test_the_conditioning_follows_captions_and_the_denoiser_follows_it(subject):
    text, denoiser = subject.models()
    assert subject.family.has_block_rows == bool(repeated_blocks(denoiser))
    shape = (2, subject.family.latent_channels, 8, 8)
    with torch.no_grad():
        told = conditioned(subject, text)
        assert all(len(tensor) == 2 for tensor in told.values())
        assert not torch.equal(told["states"][0], told["states"][1])
        swapped = subject.family.frame(subject.family.encode_text(text, CAPTIONS[::-1], 1), FRAMINGS)
        assert torch.allclose(swapped["states"][0], told["states"][1], atol=1e-5)
        latents, times = torch.randn(1, *shape[1:]).expand(shape), torch.tensor([0.5, 0.5])
        answers = subject.family.predict(denoiser, latents, times, told)
        early = subject.family.predict(denoiser, latents, times / 5, told)
    assert answers.shape == shape and answers.isfinite().all()
    assert not torch.allclose(answers[0], answers[1], atol=1e-5), "the prompt matters"
    assert not torch.allclose(answers, early, atol=1e-5), "the time matters"
    held = sum(each.numel() for each in (*denoiser.parameters(), *denoiser.buffers()))
    assert count_denoiser_weights(subject.base) == pytest.approx(held, rel=0.01)


def test_separate_encoders_are_dropped_one_by_one(subject):
    text, _ = subject.models()
    with torch.no_grad():
        encoded = subject.family.encode_text(text, CAPTIONS, 1)
    if not subject.family.separate_encoders:
        assert "states" in encoded
        return
    whole = subject.family.frame(encoded, FRAMINGS)
    changed = {}
    for encoder in subject.family.separate_encoders:
        dropped = without_encoders(encoded, {encoder: (True, False)})
        made = subject.family.frame(dropped, FRAMINGS)
        assert all(torch.equal(made[name][1], whole[name][1]) for name in whole), "the other caption stays"
        gone = {name: (made[name][0] == 0) & (whole[name][0] != 0) for name in whole}
        assert all(torch.equal(made[name][0][~gone[name]], whole[name][0][~gone[name]]) for name in whole)
        changed[encoder] = gone
    assert all(gone["states"].any() for gone in changed.values())
    everything = without_encoders(encoded, dict.fromkeys(subject.family.separate_encoders, (True, False)))
    assert all((tensor[0] == 0).all() for tensor in subject.family.frame(everything, FRAMINGS).values())
    overlap = sum(gone["states"].int() for gone in changed.values())
    assert overlap.max() == 1, "each encoder has numbers of its own"


def test_long_captions_take_more_pieces(subject):
    text, _ = subject.models()
    long = " ".join("abcdefghij" for _ in range(9))
    if subject.family.max_chunks == 1:
        assert subject.family.num_chunks(text, ["abc", long]) == 1
        return
    assert subject.family.num_chunks(text, ["abc"]) == 1 and subject.family.num_chunks(text, ["abc", long]) == 2
    with torch.no_grad():
        short, two = (conditioned(subject, text, num) for num in (1, 2))
    assert two["states"].shape[1] == 2 * short["states"].shape[1]
    assert two.keys() == short.keys()


def test_a_picture_is_drawn_alike_alone_and_in_a_batch(subject):
    text, denoiser = subject.models()
    vae = subject.family.load_vae(subject.base)
    with torch.no_grad():
        framing = [Framing.whole((64, 64))]
        positive, negative = (subject.family.frame(subject.family.encode_text(text, [line], 1), framing) for line in CAPTIONS)
        prompts = [Prompted(positive, negative, seed) for seed in (1, 2)]
        both = subject.family.sample(subject.base, denoiser, vae, prompts, 2, 3.0, (64, 64))
        alone = subject.family.sample(subject.base, denoiser, vae, prompts[1:], 2, 3.0, (64, 64))[0]
    assert both[0].size == (64, 64) and both[0].tobytes() != both[1].tobytes()
    worst = max(abs(a - b) for a, b in zip(both[1].tobytes(), alone.tobytes(), strict=True))
    assert worst <= 1


def adapted(subject: Subject) -> tuple[dict[Part, torch.nn.Module], dict[Part, dict[str, torch.nn.Module]]]:
    """The trained parts and the adapted layers of each."""
    text, denoiser = subject.models()
    modules = {"denoiser": denoiser, **text.parts()}
    settings, layers = AdapterSettings(rank=2, alpha=2.0), {}
    for i, (part, module) in enumerate(modules.items()):
        plans = plan_layers(module, part, subject.family.adapter_targets(part), settings)
        assert len(plans) == subject.family.expected_targets(part, module) > 0
        layers[part] = attach(LORA, module, plans, settings, i)
    return modules, layers


def worn(encoders: tuple, modules: dict[Part, torch.nn.Module]) -> tuple:
    """The encoders, those that are among `modules` taken from there."""
    return tuple(modules.get(part, encoder) for part, encoder in zip(TEXT_PARTS, encoders, strict=False))


def test_three_steps_lower_the_loss_and_the_file_brings_it_all_back(subject):
    modules, layers = adapted(subject)
    text = subject.family.load_text(subject.base, torch.float32)
    text.encoders = worn(text.encoders, modules)
    parameters = [parameter for each in layers.values() for parameter in trained(LORA, each).values()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3)
    shape, settings = (2, subject.family.latent_channels, 8, 8), ObjectiveSettings()
    mean, draws = torch.randn(shape), draws_of(0, 0, shape, settings)

    def loss() -> torch.Tensor:
        told, process = conditioned(subject, text), noise_of(subject.base)
        return batch_losses(
            subject.family, process, modules["denoiser"], mean, 0 * mean, None, draws, torch.tensor([0.3, 0.7]), told, settings
        ).mean()

    losses = []
    for _ in range(3):
        value = loss()
        losses.append(value.item())
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        last = loss().item()
    assert last < losses[0]

    saved = {}
    for part, each in layers.items():
        tensors = export(LORA, each, lambda name, part=part: subject.family.export_key(part, name))
        assert all(key.startswith(subject.family.export_key(part, "")) for key in tensors)
        assert not saved.keys() & tensors.keys(), "no name is used twice"
        saved |= tensors
    modules, again = adapted(subject)
    for part, each in again.items():
        given = layers_of(saved, subject.family, part, [name for name, _ in modules[part].named_modules()])
        load(LORA, each, given)
    text.encoders = worn(text.encoders, modules)
    with torch.no_grad():
        assert loss().item() == pytest.approx(last, rel=1e-5)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    scanned = scan_folder(make_pictures(tmp_path_factory.mktemp("pictures"), 3), trigger="subject", validation_percent=0)
    return assign_buckets(scanned, resolution_px=64, min_px=64, max_px=64, step_px=64, upscale=True)


@pytest.mark.slow
def test_a_run_stops_and_goes_on_to_the_bit(subject, pictures, tmp_path):
    settings = TrainSettings(epochs=1, batch_size=1, rate=1e-3, text_encoder_rate=1e-3, precision="fp32", save_precision="fp32")
    t5 = subject.family.t5_part(subject.base)
    optimizer = OptimizerSettings(t5_rate=1e-3 if t5 else 0.0)
    job = TrainJob("run", subject.base, pictures, adapter=AdapterSettings(rank=2), train=settings, optimizer=optimizer)

    class StopAfterOne(Control):
        @property
        def stop_requested(self) -> bool:
            return len(stopped.losses()) >= 1

    whole, stopped = open_run(tmp_path / "whole", job), open_run(tmp_path / "stopped", job)
    train(whole, Control())
    train(stopped, StopAfterOne())
    assert len(stopped.losses()) == 1 and not stopped.finished()
    train(stopped, Control())
    assert sha(stopped) == sha(whole)
    parts = next(event for event in whole.events() if event["event"] == "start")["parts"]
    assert [part["name"] for part in parts] == ["denoiser", *subject.family.text_parts, *((t5,) if t5 else ())]
    keys = load_file(whole.epochs()[-1].path).keys()
    assert len(keys) == 3 * sum(part["modules"] for part in parts)


@pytest.mark.slow
def test_an_embedding_is_learned_in_every_encoder_and_goes_on_to_the_bit(subject, pictures, tmp_path):
    embedding = EmbeddingSettings(token="thing", num_vectors=2, initial_words="red")
    settings = TrainSettings(epochs=2, batch_size=2, rate=0.0, text_encoder_rate=1e-2, weight_decay=0.0, precision="fp32", save_precision="fp32")
    job = TrainJob("thing", subject.base, pictures, kind="embedding", embedding=embedding, train=settings)
    run = open_run(tmp_path, job)
    train(run, Control())
    learned = load_file(run.epochs()[-1].path)
    text = subject.family.load_text(subject.base, torch.float32)
    tables = subject.family.token_tables(text)
    assert learned.keys() == {key for key, _, _ in tables} and len(learned) == len(text.parts())
    for i, (key, holder, attribute) in enumerate(tables):
        table = getattr(holder, attribute).weight
        words = text.tokenizers[i]("red", add_special_tokens=False)["input_ids"]
        first = torch.stack([table[words[j % len(words)]] for j in range(2)])
        moved = (learned[key] - first).abs().max() / table.std()
        assert 0.001 < moved < 100, "each encoder's vectors learn in proportion to its own table"

    class StopAfterOne(Control):
        @property
        def stop_requested(self) -> bool:
            return len(stopped.losses()) >= 1

    stopped = open_run(tmp_path / "stopped", job)
    train(stopped, StopAfterOne())
    train(stopped, Control())
    assert sha(stopped) == sha(run)


def sha(run: Run) -> str:
    return run.epochs()[-1].sha256


@pytest.mark.parametrize("names", ["kohya", "diffusers"])
def test_the_other_spellings_bring_the_same_adapters_back(subject, names):
    text, denoiser = subject.models()
    train_settings = TrainSettings(rate=1e-3, text_encoder_rate=1e-3)
    settings = AdapterSettings(rank=2, alpha=1.0, names=names)
    optimizer = OptimizerSettings(t5_rate=1e-3 if subject.family.t5_part(subject.base) else 0.0)
    job = TrainJob("run", subject.base, Dataset(()), adapter=settings, train=train_settings, optimizer=optimizer)
    trainee = lora_trainee(job, subject.family, denoiser, text)
    for parameter in trainee.parameters().values():
        parameter.data = torch.randn(parameter.shape)
    tensors, parts = trainee.export(), {"denoiser": denoiser, **text.parts()}
    assert all((key.startswith("lora_") if names == "kohya" else ".lora_" in key) for key in tensors)
    for part in parts:
        modules = dict(parts[part].named_modules())
        adapted = {name for name, each in modules.items() if LORA.is_layer(each)}
        found = layers_of(tensors, subject.family, part, [name for name in modules if ".lora_" not in name and not name.endswith("base_layer")])
        assert found.keys() == adapted
        for name, held in found.items():
            scale = float(held["alpha"]) / len(held["lora_down.weight"]) if "alpha" in held else 1.0
            change = scale * held["lora_up.weight"].flatten(1) @ held["lora_down.weight"].flatten(1)
            assert torch.allclose(change, modules[name].get_delta_weight("default").flatten(1), atol=1e-5), name
