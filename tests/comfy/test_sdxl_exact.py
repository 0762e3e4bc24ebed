"""SD1.5's, SD2's and SDXL's names, and SD2's and SDXL's mathematics, against ComfyUI's own modules."""

from __future__ import annotations

import json
import re
from pathlib import Path

import full_size
import pytest
import torch
from comfyui_sdxl_side import LONG_PROMPT, PROMPT, SIZES, probe
from comfyui_server import find_comfyui
from safetensors.torch import load_file, save_file
from sides import run_side

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach, export, trained
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.bases import describe_base
from athanor.trainer.config import TrainJob
from athanor.trainer.families import family
from athanor.trainer.families.base import Family, Framing, Part, TextStack
from athanor.trainer.formats.unet_names import SD1_LAYOUT, SDXL_LAYOUT, UNetLayout
from athanor.trainer.objective.noise import Noise
from athanor.trainer.settings import AdapterSettings, EmbeddingSettings
from athanor.trainer.trainees.embedding import embedding_trainee
from athanor.trainer.types import BaseModel, Dataset

pytestmark = [pytest.mark.comfy, pytest.mark.skipif(find_comfyui() is None, reason="no ComfyUI")]
SIDE, SDXL, RANK = "comfyui_sdxl_side.py", family("sdxl"), 4
CLOSE = 1e-5


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, tuple[str, list[int]]]]:
    out = tmp_path_factory.mktemp("keys") / "keys.json"
    run_side(SIDE, "keys", out)
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "make", "counts"),
    [
        ("sd15", full_size.sd15, {"denoiser": 192, "text_encoder": 72}),
        ("sd2", full_size.sd2, {"denoiser": 192, "text_encoder": 144}),
        ("sdxl", full_size.sdxl, {"denoiser": 722, "text_encoder": 72, "text_encoder_2": 192}),
    ],
)
def test_every_target_of_the_full_model_has_a_name_that_comfyui_knows(known, name, make, counts):
    wanted, used = family(name), set()
    for part, module in make().items():
        targets = {key: each for key, each in module.named_modules() if re.fullmatch(wanted.adapter_targets(part), key)}
        assert len(targets) == counts[part] == wanted.expected_targets(part, module)
        for key, each in targets.items():
            exported = wanted.export_key(part, key)
            target, shape = known[name][exported]
            assert list(each.weight.shape) == shape, exported
            assert target not in used, "no weight is changed twice"
            used.add(target)


@pytest.mark.parametrize(
    ("name", "make", "layout"), [("sd15", full_size.sd15, SD1_LAYOUT), ("sd2", full_size.sd2, SD1_LAYOUT), ("sdxl", full_size.sdxl, SDXL_LAYOUT)]
)
def test_every_linear_and_convolution_is_where_the_table_of_names_says(known, name, make, layout):
    """By the two spellings of one module ComfyUI finds the same weight."""
    unet = make()["denoiser"]
    names = [key for key, each in unet.named_modules() if isinstance(each, (torch.nn.Linear, torch.nn.Conv2d))]
    assert len(names) == {"sd15": 282, "sd2": 282, "sdxl": 794}[name]
    for key in names:
        native = layout.native(key)
        assert known[name]["lora_unet_" + native.replace(".", "_")] == known[name]["lora_unet_" + key.replace(".", "_")]
        assert known[name]["lora_unet_" + native.replace(".", "_")][0] == f"diffusion_model.{native}.weight"


def test_noise_and_prediction_are_comfyuis(tmp_path):
    run_side(SIDE, "schedule", tmp_path / "schedule.safetensors")
    theirs, times = load_file(tmp_path / "schedule.safetensors"), (torch.arange(1000) + 0.5) / 1000
    for name, noise in (("epsilon", Noise()), ("v", Noise("v")), ("v zero", Noise("v", zero_terminal_snr=True))):
        picture, share = noise.shares(times)
        last = -1 if noise.zero_terminal_snr else None  # ComfyUI ends at a ratio of 4.9e-8 instead of at 0.
        assert torch.allclose((share / picture)[:last], theirs[f"{name}.sigmas"][:last], rtol=2e-4)
        # A picture and a noise that give the signal 2 and the answer 0.5.
        told = (2 - share * 0.5) / picture if noise.prediction == "epsilon" else picture * 2 - share * 0.5
        assert torch.allclose(told[:last], theirs[f"{name}.denoised"][:last], rtol=5e-4, atol=1e-4)
        clean = told.view(-1, 1, 1, 1)
        made = (2 - picture * told) / share.clamp(min=1e-8)
        back = noise.target(clean, made.view(-1, 1, 1, 1), times).flatten()
        assert torch.allclose(back[:last], torch.full((1000,), 0.5)[:last], atol=2e-3)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory):
    """A checkpoint of 3 GB, gone at the end, and a random LoRA for all of it."""
    folder = tmp_path_factory.mktemp("exact")
    checkpoint, lora = folder / "vega.safetensors", folder / "lora.safetensors"
    run_side(SIDE, "checkpoint", checkpoint, "vega")
    yield checkpoint, lora
    checkpoint.unlink()


@pytest.fixture(params=["vega", "ssd-1b"])
def deep(request, files, tmp_path):
    """Checkpoints of several depths: Vega's 1 and 2 blocks, and SSD-1B's 1, 2, 4 and 10 without attention in the middle."""
    if request.param == "vega":
        yield files[0]
        return
    request.getfixturevalue("thorough")  # minutes, and 15 GiB of memory in two processes
    checkpoint = tmp_path / f"{request.param}.safetensors"
    run_side(SIDE, "checkpoint", checkpoint, request.param)
    yield checkpoint
    checkpoint.unlink()


def far(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).norm() / second.norm())


def dressed(part: Part, module: torch.nn.Module, lora: Path, of: Family = SDXL) -> dict[str, torch.Tensor]:
    """Puts a random LoRA on a part, adds it to the file and returns its tensors."""
    kind, settings = adapter("lora"), AdapterSettings(rank=RANK, alpha=2.0)
    layers = attach(kind, module, plan_layers(module, part, of.adapter_targets(part), settings), settings, 1)
    generator = torch.Generator().manual_seed(2)
    for (_, suffix), parameter in trained(kind, layers).items():
        if suffix == "lora_up.weight":
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    tensors = export(kind, layers, lambda name: of.export_key(part, name))
    save_file({**(load_file(lora) if lora.is_file() else {}), **tensors}, lora)
    return tensors


def merged_probes(part: Part, module: torch.nn.Module, layout: UNetLayout = SDXL_LAYOUT, clips: str = "lg") -> dict[str, torch.Tensor]:
    """What each adapted weight, with its LoRA merged in, makes of the probe of ComfyUI's name for it."""
    found = {}
    for name, layer in module.named_modules():
        if not hasattr(layer, "lora_A"):
            continue
        inner = name.removeprefix("text_model.")
        if part == "denoiser":
            key = f"diffusion_model.{layout.native(name)}.weight"
        else:
            key = f"clip_{clips[0] if part == 'text_encoder' else clips[1]}.transformer.text_model.{inner}.weight"
        weight = layer.base_layer.weight + layer.get_delta_weight("default")
        found[f"merged.{key}"] = weight.flatten(1) @ probe(key, weight.flatten(1).shape[1])
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("roomy")
def test_the_u_net_is_comfyuis_with_and_without_a_lora(deep, tmp_path):
    lora = tmp_path / "unet lora.safetensors"
    base = describe_base(deep, (find_comfyui() / "comfy",))
    assert (base.family, base.prediction, base.native_px) == ("sdxl", "epsilon", 1024)
    generator = torch.Generator().manual_seed(3)
    given = {
        "latents": torch.randn(2, 4, 24, 16, generator=generator),
        "context": torch.randn(2, 77, 2048, generator=generator),
        "pooled": torch.randn(2, 1280, generator=generator),
        "times": torch.tensor([500.0, 40.0]),
    }
    save_file(given, tmp_path / "inputs.safetensors")
    framing = Framing((SIZES["width"], SIZES["height"]), (SIZES["crop_w"], SIZES["crop_h"]), (SIZES["target_width"], SIZES["target_height"]))
    times, ours = (given["times"] + 0.5) / 1000, {}
    with torch.no_grad():
        told = SDXL.frame({"states": given["context"], "pooled": given["pooled"]}, [framing, framing])
        denoiser = SDXL.load_denoiser(base, torch.float32)
        ours["bare.noise"] = SDXL.predict(denoiser, given["latents"], times, told)
        tensors = dressed("denoiser", denoiser, lora)
        ours["lora.noise"] = SDXL.predict(denoiser, given["latents"], times, told)
        picture, share = (part.view(-1, 1, 1, 1) for part in Noise().shares(times))
        ours |= {f"{name}.denoised": (given["latents"] - share * ours[f"{name}.noise"]) / picture for name in ("bare", "lora")}
        ours |= merged_probes("denoiser", denoiser)
    del denoiser
    said = json.loads(run_side(SIDE, "unet", deep, lora, tmp_path / "inputs.safetensors", tmp_path / "out.safetensors"))
    assert said == {"denoiser": len(tensors) // 3, "type": "ModelType.EPS"}
    theirs = load_file(tmp_path / "out.safetensors")
    assert theirs.keys() == ours.keys()
    worst = {name: far(ours[name], theirs[name]) for name in ours}
    assert max(worst.values()) < CLOSE, sorted(worst.items(), key=lambda each: -each[1])[:5]
    assert far(theirs["lora.noise"], theirs["bare.noise"]) > 1e-2, "the LoRA changes more than the tolerance by far"


def encoded(name: str, text: TextStack) -> dict[str, torch.Tensor]:
    """The short and the long prompt."""
    found = {}
    for label, prompt in {"": PROMPT, "long ": LONG_PROMPT}.items():
        num_chunks = SDXL.num_chunks(text, [prompt])
        assert (num_chunks > 1) == bool(label)
        made = SDXL.encode_text(text, [prompt], num_chunks)
        found |= {f"{name}.{label}states": made["states"], f"{name}.{label}pooled": made["pooled"]}
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("roomy")
def test_the_text_encoders_are_comfyuis_with_and_without_a_lora(files, tmp_path):
    checkpoint, _ = files
    lora, ours = tmp_path / "text lora.safetensors", {}
    base = describe_base(checkpoint, (find_comfyui() / "comfy",))
    with torch.no_grad():
        text = SDXL.load_text(base, torch.float32)
        ours |= encoded("bare", text)
        for layer in (1, 3):
            text.clip_skip = layer
            made = SDXL.encode_text(text, [PROMPT], 1)
            ours |= {f"skip-{layer}.states": made["states"], f"skip-{layer}.pooled": made["pooled"]}
        text.clip_skip = 0
        for part, module in text.parts().items():
            dressed(part, module, lora)
            ours |= merged_probes(part, module)
        ours |= encoded("lora", text)
    del text, module
    assert json.loads(run_side(SIDE, "text", checkpoint, lora, tmp_path / "out.safetensors")) == {"l": 72, "g": 192}
    theirs = load_file(tmp_path / "out.safetensors")
    assert theirs.keys() == ours.keys()
    worst = {name: far(ours[name], theirs[name]) for name in ours}
    assert max(worst.values()) < CLOSE, sorted(worst.items(), key=lambda each: -each[1])[:5]
    assert far(theirs["lora.states"], theirs["bare.states"]) > 1e-2


def test_the_text_node_reads_an_embedding_in_both_encoders_as_it_was_trained(tmp_path):
    """Also where one of them alone learned it, and the other reads words or nothing."""
    run_side(SIDE, "clips", tmp_path / "l.safetensors", tmp_path / "g.safetensors")
    both = tuple(str(tmp_path / f"{letter}.safetensors") for letter in "lg")
    base = BaseModel("x", "sdxl", both[0], "f", 1024, 64, (str(find_comfyui() / "comfy"),), both)
    generator, prompts, ours = torch.Generator().manual_seed(5), [], []
    (tmp_path / "embeddings").mkdir()
    for encoders, words in {"all": "", "clip_g": "monster toy", "clip_l": ""}.items():
        text = SDXL.load_text(base, torch.float32)
        settings = EmbeddingSettings(token=f"thing-{encoders}", num_vectors=3, initial_words=words, encoders=encoders)
        trainee = embedding_trainee(TrainJob("thing", base, Dataset(()), kind="embedding", embedding=settings), SDXL, text)
        prompts.append(f"a photo of embedding:thing-{encoders}, on the moon")
        with torch.no_grad():
            for vectors in trainee.parameters().values():
                vectors.copy_(torch.randn(vectors.shape, generator=generator) * 0.3)
            ours.append(SDXL.encode_text(text, [trainee.prompt(prompts[-1])], 1))
            bare = SDXL.encode_text(text, ["a photo of, on the moon"], 1)
        assert far(ours[-1]["states"], bare["states"]) > 1e-2
        exported = trainee.export()
        assert list(exported) == ["clip_l", "clip_g"]
        save_file(exported, tmp_path / "embeddings" / f"thing-{encoders}.safetensors")
    (tmp_path / "prompts.txt").write_text("\n".join(prompts), encoding="utf-8")
    run_side(SIDE, "word", *both, tmp_path / "embeddings", tmp_path / "prompts.txt", tmp_path / "out.safetensors")
    theirs = load_file(tmp_path / "out.safetensors")
    for i, made in enumerate(ours):
        for part in ("states", "pooled"):
            assert far(made[part], theirs[f"{i}.{part}"]) < CLOSE, (prompts[i], part)


@pytest.mark.slow
@pytest.mark.usefixtures("roomy")
def test_sd2_is_comfyuis_with_and_without_a_lora(tmp_path):
    """At the true widths, with the whole CLIP-H."""
    checkpoint, lora, two, layout = tmp_path / "two.safetensors", tmp_path / "lora.safetensors", family("sd2"), UNetLayout(1, frozenset({0}))
    run_side(SIDE, "two", checkpoint)
    base, generator = describe_base(checkpoint, (find_comfyui() / "comfy",)), torch.Generator().manual_seed(3)
    assert (base.family, base.prediction) == ("sd2", "epsilon")
    given = {
        "latents": torch.randn(2, 4, 24, 16, generator=generator),
        "context": torch.randn(2, 77, 1024, generator=generator),
        "times": torch.tensor([500.0, 40.0]),
    }
    save_file(given, tmp_path / "inputs.safetensors")
    times, ours = (given["times"] + 0.5) / 1000, {}
    with torch.no_grad():
        denoiser, text = two.load_denoiser(base, torch.float32), two.load_text(base, torch.float32)
        parts = {"denoiser": denoiser, **text.parts()}
        for name in ("bare", "lora"):
            if name == "lora":
                counts = {part: len(dressed(part, module, lora, two)) // 3 for part, module in parts.items()}
            ours[f"{name}.noise"] = two.predict(denoiser, given["latents"], times, {"states": given["context"]})
            for label, prompt in {"": PROMPT, "long ": LONG_PROMPT}.items():
                ours[f"{name}.{label}states"] = two.encode_text(text, [prompt], two.num_chunks(text, [prompt]))["states"]
        for part, module in parts.items():
            ours |= merged_probes(part, module, layout, "h")
    said = json.loads(run_side(SIDE, "two-run", checkpoint, lora, tmp_path / "inputs.safetensors", tmp_path / "out.safetensors"))
    checkpoint.unlink()
    assert said == {"denoiser": counts["denoiser"], "text": counts["text_encoder"], "type": "ModelType.EPS"} and counts["text_encoder"] == 144
    theirs = load_file(tmp_path / "out.safetensors")
    assert theirs.keys() == ours.keys()
    worst = {name: far(ours[name], theirs[name]) for name in ours}
    assert max(worst.values()) < CLOSE, sorted(worst.items(), key=lambda each: -each[1])[:5]
    assert far(theirs["lora.noise"], theirs["bare.noise"]) > 1e-2 and far(theirs["lora.states"], theirs["bare.states"]) > 1e-2
