"""The full SD1.5 layout with random weights, and real photographs: trained here, loaded by ComfyUI's own nodes, equal in both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from comfyui_server import REPOSITORY, ComfyUI, find_comfyui
from comfyui_side import PROMPT
from filelock import FileLock
from graphs import Prompt, node, run_of
from PIL import Image, ImageChops, ImageStat

from athanor.trainer.adapters.attached import attach, kind_of, load, plans_of
from athanor.trainer.bases import describe_base
from athanor.trainer.families import family as family_named
from athanor.trainer.families.base import Part
from athanor.trainer.formats.layers import layers_of
from athanor.trainer.settings import AdapterSettings

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
PHOTOS = REPOSITORY.parent / "shared" / "data" / "photos" / "monster_toy"
SIDE = REPOSITORY / "tests" / "shared" / "comfyui_side.py"
CHECKPOINT, LORA, EMBEDDING, RANK = "full sd15.safetensors", "monster", "monster-word", 4
NUM_MODULES = {"denoiser": 192, "text_encoder": 72}
SAMPLER, SCHEDULER = "euler", "normal"
LOOK = {"seed": 7, "steps": 3, "cfg": 4.0, "sampler_name": SAMPLER, "scheduler": SCHEDULER}
LIMIT_SEC = 1800


@dataclass(frozen=True)
class Trained:
    server: ComfyUI
    checkpoint: Path
    lora: Path


def comfyui_side(*arguments: object) -> str:
    """What that script prints."""
    command = [sys.executable, str(SIDE), *map(str, arguments)]
    done = subprocess.run(command, cwd=find_comfyui(), capture_output=True, text=True, encoding="utf-8", timeout=LIMIT_SEC, check=False)
    assert done.returncode == 0, done.stderr
    assert "lora key not loaded" not in done.stderr and "NOT LOADED" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(start_comfyui: Callable[..., ComfyUI], tmp_path_factory: pytest.TempPathFactory, turn: FileLock) -> Iterator[Trained]:
    """Two steps at 256 px on five photographs; the checkpoint of 2 GB is gone at the end."""
    if not PHOTOS.is_dir():
        pytest.skip(f"no photographs: {PHOTOS} is absent")
    base = tmp_path_factory.mktemp("full")
    checkpoint = base / "models" / "checkpoints" / CHECKPOINT
    checkpoint.parent.mkdir(parents=True)
    with turn, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATHANOR_DATASETS", str(PHOTOS.parent))
        try:
            comfyui_side("checkpoint", checkpoint)
            server = start_comfyui(base)
            try:
                server.run(training_graph(server), LIMIT_SEC)
                yield Trained(server, checkpoint, base / "models" / "loras" / f"{LORA}.safetensors")
            finally:
                server.stop()
        finally:
            checkpoint.unlink(missing_ok=True)


def training_graph(server: ComfyUI) -> Prompt:
    settings = {
        "adapter.rank": RANK,
        "adapter.alpha": 4.0,
        "epochs": 1,
        "batch_size": 3,
        "rate": 1e-2,
        "text_encoder_rate": 1e-2,
        "schedule": "constant",
    }
    return {
        "base": node(server, "AthanorLoadBaseModel", model=CHECKPOINT),
        "data": node(server, "AthanorLoadDataset", folder=PHOTOS.name, trigger="monster toy", validation_percent=0.0),
        "bucket": node(server, "AthanorBucket", dataset=["data", 0], base_model=["base", 0], resolution=256),
        "train": node(
            server, "AthanorTrainLora", base_model=["base", 0], dataset=["bucket", 0], name=LORA, warmup_percent=0.0, precision="bf16", **settings
        ),
        "save": node(server, "AthanorSaveEpoch", run=["train", 0], epochs="last"),
        "train word": node(
            server,
            "AthanorTrainEmbedding",
            base_model=["base", 0],
            dataset=["bucket", 0],
            name=EMBEDDING,
            num_vectors=2,
            initial_words="toy",
            epochs=1,
            batch_size=3,
            precision="bf16",
        ),
        "save word": node(server, "AthanorSaveEpoch", run=["train word", 0], epochs="last"),
    }


def picture_graph(server: ComfyUI) -> Prompt:
    """The same picture with and without the LoRA, by stock nodes only."""
    prompt = {
        "bare": node(server, "CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "lora": node(
            server, "LoraLoader", model=["bare", 0], clip=["bare", 1], lora_name=f"{LORA}.safetensors", strength_model=1.0, strength_clip=1.0
        ),
        "latent": node(server, "EmptyLatentImage", width=128, height=128),
    }
    return {**prompt, **drawn(server, "bare"), **drawn(server, "lora")}


def drawn(server: ComfyUI, name: str) -> Prompt:
    """Of the MODEL and CLIP that the node `name` gives, by stock nodes."""
    words = {"positive": PROMPT, "negative": "blurry"}
    prompt = {f"{name} {word}": node(server, "CLIPTextEncode", clip=[name, 1], text=text) for word, text in words.items()}
    conditioning = {word: [f"{name} {word}", 0] for word in words}
    prompt[f"{name} latents"] = node(server, "KSampler", model=[name, 0], latent_image=["latent", 0], **LOOK, **conditioning)
    prompt[f"{name} pixels"] = node(server, "VAEDecode", samples=[f"{name} latents", 0], vae=["bare", 2])
    prompt[f"{name} picture"] = node(server, "SaveImage", images=[f"{name} pixels", 0], filename_prefix=name)
    return prompt


def word_graph(server: ComfyUI) -> Prompt:
    """What the stock text node makes of the embedding: the latents after one step with it, and with the same prompt but for it."""
    prompt = {
        "base": node(server, "CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "latent": node(server, "EmptyLatentImage", width=64, height=64),
        "nothing": node(server, "CLIPTextEncode", clip=["base", 1], text=""),
    }
    for name, text in {"with": f"a photo of embedding:{EMBEDDING} on the moon", "without": "a photo of on the moon"}.items():
        prompt[f"{name} text"] = node(server, "CLIPTextEncode", clip=["base", 1], text=text)
        conditioning = {"positive": [f"{name} text", 0], "negative": ["nothing", 0]}
        prompt[f"{name} latents"] = node(
            server, "KSampler", model=["base", 0], latent_image=["latent", 0], seed=7, steps=1, cfg=1.0, denoise=1.0, **conditioning
        )
        prompt[f"{name} saved"] = node(server, "SaveLatent", samples=[f"{name} latents", 0], filename_prefix=name)
    return prompt


def test_two_steps_are_trained_on_every_module(trained: Trained):
    from safetensors import safe_open

    run = run_of(trained.server, LORA)
    start = next(event for event in run.events() if event["event"] == "start")
    assert start["total_steps"] == len(run.losses()) == 2
    assert {part["name"]: part["modules"] for part in start["parts"]} == NUM_MODULES
    assert {sample.placement.bucket_px for sample in run.train_job().dataset.samples if sample.placement} == {(256, 256)}
    with safe_open(trained.lora, framework="pt") as file:
        keys = list(file.keys())
        assert all(file.get_tensor(key).abs().max() > 0 for key in keys)
        assert {file.get_tensor(key).shape[0] for key in keys if key.endswith("lora_down.weight")} == {RANK}
    assert Counter(key.split("_")[1] for key in keys) == {"unet": 3 * NUM_MODULES["denoiser"], "te": 3 * NUM_MODULES["text_encoder"]}


def test_the_stock_nodes_take_the_checkpoint_and_the_lora_and_the_picture_changes(trained: Trained):
    entry = trained.server.run(picture_graph(trained.server), LIMIT_SEC)
    log = trained.server.log()
    for complaint in ("lora key not loaded", "NOT LOADED", "unet missing", "unet unexpected", "clip missing", "clip unexpected", "Missing VAE keys"):
        assert complaint not in log, complaint
    (bare,), (lora,) = (trained.server.files(entry, f"{name} picture") for name in ("bare", "lora"))
    with Image.open(bare) as first, Image.open(lora) as second:
        pictures = [first.convert("RGB"), second.convert("RGB")]
    assert all(picture.size == (128, 128) and min(ImageStat.Stat(picture).stddev) > 1 for picture in pictures)
    difference = ImageStat.Stat(ImageChops.difference(*pictures))
    assert max(high for _, high in difference.extrema) > 8 and max(difference.mean) > 1


def test_apply_epoch_takes_a_run_its_file_by_load_run_and_its_merge(trained: Trained):
    server = trained.server
    runs = {
        "own": {"run": ["train", 0]},
        "loaded": {"run": ["load", 0]},
        "merged": {"run": ["merge", 0]},
    }
    prompt = {
        **{name: each for name, each in training_graph(server).items() if name in ("base", "data", "bucket", "train")},
        "load": node(server, "AthanorLoadRun", run="(files of another trainer)", files=f"{LORA}.safetensors"),
        "merge": node(server, "AthanorMergeEpochs", run=["load", 0], epochs="all", precision="fp32"),
        **picture_graph(server),
    }
    for name, source in runs.items():
        prompt[name] = node(server, "AthanorApplyEpoch", model=["bare", 0], clip=["bare", 1], epoch="last", **source)
        prompt |= drawn(server, name)
    entry = server.run(prompt, LIMIT_SEC)
    pictures = {}
    for name in ("bare", "lora", *runs):
        (file,) = server.files(entry, f"{name} picture")
        with Image.open(file) as picture:
            pictures[name] = picture.convert("RGB")
    assert pictures["own"].tobytes() == pictures["loaded"].tobytes() == pictures["lora"].tobytes() != pictures["bare"].tobytes()
    # The scale is in the merge's numbers already, so that the last bits of a weight may differ.
    assert max(ImageStat.Stat(ImageChops.difference(pictures["merged"], pictures["lora"])).mean) < 1


def compared_graph(server: ComfyUI) -> Prompt:
    """The picture of `picture_graph` and others, by XY Plot Compare with the same model, clip and vae."""
    trained = {name: each for name, each in training_graph(server).items() if name in ("base", "data", "bucket", "train")}
    wires = {"model": ["stock", 0], "clip": ["stock", 1], "vae": ["stock", 2]}
    look = {"seed": 7, "steps": 3, "guidance": 4.0, "width": 128, "height": 128, "sampler": SAMPLER, "scheduler": SCHEDULER}
    return {
        **trained,
        "stock": node(server, "CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "xy": node(
            server, "AthanorXYPlotCompare", run=["train", 0], prompts=PROMPT, negative_prompt="blurry", x_values="1", y_values="last", **look, **wires
        ),
    }


def test_a_cell_of_comfyuis_own_sampling_is_the_stock_nodes_picture_to_the_pixel(trained: Trained):
    stock = trained.server.run(picture_graph(trained.server), LIMIT_SEC)
    trained.server.run(compared_graph(trained.server), LIMIT_SEC)
    (sheet,) = (run_of(trained.server, LORA).folder / "compare").iterdir()
    cells = {path.name.split("_")[0]: path for path in (sheet / "cells").iterdir()}
    assert set(cells) == {"e000000", "e000001"}, "the base alone and the one epoch"
    for name, head in (("bare", "e000000"), ("lora", "e000001")):
        (expected,) = trained.server.files(stock, f"{name} picture")
        with Image.open(expected) as first, Image.open(cells[head]) as second:
            assert first.convert("RGB").tobytes() == second.convert("RGB").tobytes(), name
            assert f"Sampler: {SAMPLER}, Schedule type: {SCHEDULER}" in second.text["parameters"]


def test_a_cell_of_an_embeddings_epoch_is_the_stock_nodes_picture_to_the_pixel(trained: Trained):
    server, text = trained.server, "a photo of {} on the moon"
    known = {name: each for name, each in training_graph(server).items() if name in ("base", "data", "bucket", "train word")}
    prompt = {
        **known,
        "stock": node(server, "CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "latent": node(server, "EmptyLatentImage", width=64, height=64),
        "positive": node(server, "CLIPTextEncode", clip=["stock", 1], text=text.format(f"embedding:{EMBEDDING}")),
        "negative": node(server, "CLIPTextEncode", clip=["stock", 1], text=""),
        "latents": node(
            server, "KSampler", model=["stock", 0], positive=["positive", 0], negative=["negative", 0], latent_image=["latent", 0], **LOOK
        ),
        "pixels": node(server, "VAEDecode", samples=["latents", 0], vae=["stock", 2]),
        "picture": node(server, "SaveImage", images=["pixels", 0], filename_prefix="word"),
        "xy": node(
            server,
            "AthanorXYPlotCompare",
            run=["train word", 0],
            prompts=text.format(EMBEDDING),
            x_axis="seed",
            x_values="7",
            model=["stock", 0],
            clip=["stock", 1],
            vae=["stock", 2],
            steps=LOOK["steps"],
            guidance=LOOK["cfg"],
            width=64,
            height=64,
            sampler=SAMPLER,
            scheduler=SCHEDULER,
        ),
    }
    (expected,) = server.files(server.run(prompt, LIMIT_SEC), "picture")
    (sheet,) = (run_of(server, EMBEDDING).folder / "compare").iterdir()
    (bare,), (cell,) = ((sheet / "cells").glob(f"{head}_*.png") for head in ("e000000", "e000001"))
    with Image.open(expected) as first, Image.open(cell) as second, Image.open(bare) as other:
        assert first.convert("RGB").tobytes() == second.convert("RGB").tobytes() != other.convert("RGB").tobytes()


def test_pivotal_tuning_is_drawn_by_stock_nodes_as_a_cell_shows_it(trained: Trained, thorough: None):
    """Load LoRA and `embedding:name` from the files that Save Epoch puts into models."""
    server, word, text = trained.server, "monster-pivot", "a photo of {} on the moon"
    prompt = {name: each for name, each in training_graph(server).items() if name in ("base", "data", "bucket", "train")}
    prompt["data"]["inputs"]["trigger"] = word
    prompt["train"]["inputs"] |= {"name": "pivotal", "other_embeddings": f"{word}: vectors=2; words=toy", "embedding_rate": 0.05}
    prompt["save"] = node(server, "AthanorSaveEpoch", run=["train", 0], epochs="last", filename="pivotal")
    server.run(prompt, LIMIT_SEC)
    stock = {"bare": node(server, "CheckpointLoaderSimple", ckpt_name=CHECKPOINT)}
    stock["lora"] = node(
        server, "LoraLoader", model=["bare", 0], clip=["bare", 1], lora_name="pivotal.safetensors", strength_model=1.0, strength_clip=1.0
    )
    stock |= {"latent": node(server, "EmptyLatentImage", width=64, height=64), **drawn(server, "lora")}
    stock["lora positive"]["inputs"]["text"] = text.format(f"embedding:{word}")
    stock["lora negative"]["inputs"]["text"] = ""
    (expected,) = server.files(server.run(stock, LIMIT_SEC), "lora picture")
    wires = {"model": ["bare", 0], "clip": ["bare", 1], "vae": ["bare", 2]}
    look = {"steps": LOOK["steps"], "guidance": LOOK["cfg"], "width": 64, "height": 64, "sampler": SAMPLER, "scheduler": SCHEDULER}
    axes = {"x_axis": "seed", "x_values": "7", "y_values": "last"}
    prompt["bare"] = stock["bare"]
    prompt["xy"] = node(server, "AthanorXYPlotCompare", run=["train", 0], prompts=text.format(word), **axes, **look, **wires)
    server.run(prompt, LIMIT_SEC)
    (sheet,) = (run_of(server, "pivotal").folder / "compare").iterdir()
    (bare,), (cell,) = ((sheet / "cells").glob(f"{head}_*.png") for head in ("e000000", "e000001"))
    with Image.open(expected) as first, Image.open(cell) as second, Image.open(bare) as other:
        assert first.convert("RGB").tobytes() == second.convert("RGB").tobytes() != other.convert("RGB").tobytes()


def test_the_stock_text_node_takes_the_embedding(trained: Trained):
    from safetensors.torch import load_file

    file = trained.server.models_folder / "embeddings" / f"{EMBEDDING}.safetensors"
    assert {key: tuple(tensor.shape) for key, tensor in load_file(file).items()} == {"emb_params": (2, 768)}
    entry = trained.server.run(word_graph(trained.server), LIMIT_SEC)
    log = trained.server.log()
    for complaint in ("does not exist, ignoring", "shape mismatch when trying to apply embedding"):
        assert complaint not in log, complaint
    (with_word,), (without,) = (trained.server.files(entry, f"{name} saved", "latents") for name in ("with", "without"))
    first, second = (load_file(path)["latent_tensor"] for path in (with_word, without))
    assert (first - second).abs().max() > 1e-3, "an ignored word would leave the same latents"


def test_comfyui_and_the_trainer_compute_the_same(trained: Trained, tmp_path: Path):
    import torch
    from safetensors.torch import load_file, save_file

    generator = torch.Generator().manual_seed(1)
    latents, context = torch.randn(1, 4, 16, 16, generator=generator), torch.randn(1, 77, 768, generator=generator)
    save_file({"latents": latents, "times": torch.tensor([500.0]), "context": context}, tmp_path / "inputs.safetensors")
    changed = json.loads(comfyui_side("predict", trained.checkpoint, trained.lora, tmp_path / "inputs.safetensors", tmp_path / "out.safetensors"))
    assert changed == NUM_MODULES, "every module of the file is applied"
    theirs = load_file(tmp_path / "out.safetensors")

    comfyui = find_comfyui()
    assert comfyui is not None
    base, family = describe_base(trained.checkpoint, (comfyui / "comfy",)), family_named("sd15")
    tensors, ours = load_file(trained.lora), {}

    def wear(part: Part, module: torch.nn.Module) -> None:
        given = layers_of(tensors, family, part, [name for name, _ in module.named_modules()])
        assert len(given) == NUM_MODULES[part]
        name, kind = kind_of(given, LORA)
        load(kind, attach(kind, module, plans_of(kind, given), AdapterSettings(kind=name), 0), given)

    with torch.no_grad():
        text = family.load_text(base, torch.float32)
        ours["bare.text"] = family.encode_text(text, [PROMPT], 1)["states"]
        wear("text_encoder", text.encoders[0])
        ours["lora.text"] = family.encode_text(text, [PROMPT], 1)["states"]
        del text
        denoiser = family.load_denoiser(base, torch.float32)
        ours["bare.noise"] = family.predict(denoiser, latents, torch.tensor([0.5]), {"states": context})
        wear("denoiser", denoiser)
        ours["lora.noise"] = family.predict(denoiser, latents, torch.tensor([0.5]), {"states": context})

    def far(first: torch.Tensor, second: torch.Tensor) -> float:
        return float((first - second).norm() / second.norm())

    for name in ours:
        assert ours[name].shape == theirs[name].shape and far(ours[name], theirs[name]) < 1e-4, name
    for part in ("text", "noise"):
        assert far(theirs[f"lora.{part}"], theirs[f"bare.{part}"]) > 1e-2, "the LoRA changes more than the tolerance by far"
