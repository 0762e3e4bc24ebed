"""Base Model From Wires in a real ComfyUI: merges and LoRAs of a graph become the base, exactly, and only once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from comfyui_server import ComfyUI, ServerError, find_comfyui
from graphs import Prompt, node, run_of
from safetensors.torch import load_file, save_file
from sides import run_side
from tiny import make_pictures

from athanor.trainer.bases import describe_base
from athanor.trainer.families import family

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
LIMIT_SEC = 900
SIDE, FIRST, SECOND, LORA, RATIO, STRENGTH = "comfyui_sdxl_side.py", "first.safetensors", "second 模型.safetensors", "lora.safetensors", 0.25, 0.5


def make_lora(checkpoint: Path, out: Path) -> None:
    """Random, on every module that training would reach, in our own names."""
    sd15, tensors, generator = family("sd15"), {}, torch.Generator().manual_seed(1)
    import re

    base = describe_base(checkpoint, (find_comfyui() / "comfy",))
    parts = {"denoiser": sd15.load_denoiser(base, torch.float32), **sd15.load_text(base, torch.float32).parts()}
    for part, module in parts.items():
        for name, layer in module.named_modules():
            if re.fullmatch(sd15.adapter_targets(part), name):
                key, (rows, columns, *window) = sd15.export_key(part, name), layer.weight.shape
                tensors[f"{key}.lora_down.weight"] = torch.randn(2, columns, *window, generator=generator)
                tensors[f"{key}.lora_up.weight"] = torch.randn(rows, 2, *window, generator=generator) * 0.02
                tensors[f"{key}.alpha"] = torch.tensor(1.0)
    save_file(tensors, out)


@pytest.fixture(scope="module")
def server(start_comfyui: Callable[..., ComfyUI], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    base = tmp_path_factory.mktemp("wires")
    checkpoints = base / "models" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (base / "models" / "loras").mkdir()
    for seed, name in enumerate((FIRST, SECOND)):
        run_side(SIDE, "small", checkpoints / name, seed)
    make_lora(checkpoints / FIRST, base / "models" / "loras" / LORA)
    make_pictures(base / "input" / "pictures", 1)
    server = start_comfyui(base)
    yield server
    server.stop()
    for name in (FIRST, SECOND):
        (checkpoints / name).unlink()


def graph(server: ComfyUI, merged: bool, **more: dict) -> Prompt:
    prompt = {
        "one": node(server, "CheckpointLoaderSimple", ckpt_name=FIRST),
        "two": node(server, "CheckpointLoaderSimple", ckpt_name=SECOND),
        "merge": node(server, "ModelMergeSimple", model1=["one", 0], model2=["two", 0], ratio=RATIO),
        "lora": node(server, "LoraLoader", model=["merge", 0], clip=["one", 1], lora_name=LORA, strength_model=STRENGTH, strength_clip=STRENGTH),
    }
    source = ("lora", "lora", "two") if merged else ("one", "one", "one")
    wires = {name: [key, i] for i, (name, key) in enumerate(zip(("model", "clip", "vae"), source, strict=True))}
    prompt["base"] = node(server, "AthanorBaseModelFromWires", **wires)
    prompt["report"] = node(server, "PreviewAny", source=["base", 1])
    return {**prompt, **more}


def report(server: ComfyUI, prompt: Prompt) -> list[str]:
    return server.run(prompt, LIMIT_SEC)["outputs"]["report"]["text"][0].splitlines()


def written(server: ComfyUI) -> dict[Path, int]:
    return {path: path.stat().st_ino for path in (server.output_folder / "athanor" / ".bases").glob("*")}


def test_wires_as_they_were_loaded_are_the_loaders_file(server):
    assert report(server, graph(server, merged=False)) == [f"{name}: {FIRST}" for name in ("model", "text encoders", "VAE")]
    assert not written(server)


def test_a_merge_with_a_lora_equals_the_sum_and_is_written_once(server):
    lines = report(server, graph(server, merged=True))
    assert [line.endswith("(written from the wire)") for line in lines] == [True, True, False] and SECOND in lines[2]
    files = written(server)
    assert len(files) == 2
    checkpoints = server.models_folder / "checkpoints"
    first, second, lora = load_file(checkpoints / FIRST), load_file(checkpoints / SECOND), load_file(server.models_folder / "loras" / LORA)
    tensors = {name: value for path in files for name, value in load_file(path).items()}
    base = describe_base(next(path for path in files if any(name.startswith("model.") for name in load_file(path))), (find_comfyui() / "comfy",))
    assert base.family == "sd15"

    changes = {key.removesuffix(".alpha"): value for key, value in lora.items() if key.endswith(".alpha")}
    sd15, deltas = family("sd15"), {}
    for key, alpha in changes.items():
        down, up = lora[f"{key}.lora_down.weight"], lora[f"{key}.lora_up.weight"]
        deltas[key] = STRENGTH * float(alpha) / 2 * (up.flatten(1) @ down.flatten(1)).reshape(*up.shape[:1], *down.shape[1:])
    names = native_names(sd15, base, describe_base(checkpoints / FIRST, (find_comfyui() / "comfy",)))
    assert names.keys() == deltas.keys()
    touched = {native: deltas[key] for key, native in names.items()}
    checked = 0
    for name, value in tensors.items():
        if name.startswith("model.diffusion_model."):
            expected = RATIO * first[name].float() + (1 - RATIO) * second[name].float()
        else:
            twin = "cond_stage_model." + name.removeprefix("clip_l.")
            if twin not in first:
                continue
            expected = first[twin].float()
        expected = (expected + touched.get(name, 0)).half().float()
        # Sums in another order may round to the neighbour.
        assert torch.allclose(value.float(), expected, rtol=2e-3, atol=2e-4), name
        checked += name in touched
    assert checked == len(deltas) > 90

    again = graph(server, merged=True)
    again["other name"] = again.pop("base")
    again["report"]["inputs"]["source"] = ["other name", 1]
    assert report(server, again) == lines
    assert written(server) == files, "nothing is written twice"

    for path in files:
        path.unlink()
    assert report(server, again) == lines
    assert written(server).keys() == files.keys(), "what was cleaned away is written anew, though ComfyUI remembers the node's result"


def native_names(sd15, base, whole) -> dict[str, str]:
    """From our name of every trained module to that of its weight in the written files."""
    import re

    from athanor.trainer.formats.unet_names import UNetLayout

    layout = UNetLayout(1, frozenset({0}))
    names = {}
    unet = sd15.load_denoiser(base, torch.float32)
    for name, _ in unet.named_modules():
        if re.fullmatch(sd15.adapter_targets("denoiser"), name):
            names[sd15.export_key("denoiser", name)] = f"model.diffusion_model.{layout.native(name)}.weight"
    encoder = sd15.load_text(whole, torch.float32).parts()["text_encoder"]
    for name, _ in encoder.named_modules():
        if re.fullmatch(sd15.adapter_targets("text_encoder"), name):
            names[sd15.export_key("text_encoder", name)] = f"clip_l.transformer.text_model.{name.removeprefix('text_model.')}.weight"
    return names


def test_training_on_a_merge_made_in_the_graph(server):
    prompt = graph(server, merged=True)
    prompt |= {
        "skip": node(server, "CLIPSetLastLayer", clip=["lora", 1], stop_at_clip_layer=-2),
        "data": node(server, "AthanorLoadDataset", folder="pictures", trigger="subject", validation_percent=0.0),
        "bucket": node(server, "AthanorBucket", dataset=["data", 0], base_model=["base", 0], resolution=64),
        "train": node(
            server, "AthanorTrainLora", base_model=["base", 0], dataset=["bucket", 0], name="on a merge", epochs=1, rank=2, precision="fp32"
        ),
    }
    prompt["base"]["inputs"]["clip"] = ["skip", 0]
    server.run(prompt, LIMIT_SEC)
    job = run_of(server, "on a merge").train_job()
    assert run_of(server, "on a merge").finished()
    assert (job.base.name, job.base.clip_skip, job.base.prediction) == ("model of the graph", 2, "epsilon")
    assert Path(job.base.vae_path).name == SECOND


def test_the_prediction_of_the_wire_counts(server):
    sampling = node(server, "ModelSamplingDiscrete", model=["one", 0], sampling="v_prediction", zsnr=True)
    prompt = graph(server, merged=False, sampling=sampling)
    prompt["base"]["inputs"]["model"] = ["sampling", 0]
    prompt |= {
        "data": node(server, "AthanorLoadDataset", folder="pictures", trigger="subject", validation_percent=0.0),
        "bucket": node(server, "AthanorBucket", dataset=["data", 0], base_model=["base", 0], resolution=64),
        "train": node(
            server,
            "AthanorTrainLora",
            base_model=["base", 0],
            dataset=["bucket", 0],
            name="v",
            epochs=1,
            rank=2,
            text_encoder_rate=0.0,
            precision="fp32",
        ),
    }
    server.run(prompt, LIMIT_SEC)
    base = run_of(server, "v").train_job().base
    assert (base.prediction, base.zero_terminal_snr, Path(base.path).name) == ("v", True, FIRST)


def test_a_lora_in_bypass_mode_is_refused_with_a_sentence(server):
    if "LoraLoaderBypass" not in server.object_info():
        pytest.skip("this ComfyUI has no bypass loader")
    bypass = node(server, "LoraLoaderBypass", model=["one", 0], clip=["one", 1], lora_name=LORA, strength_model=1.0, strength_clip=1.0)
    prompt = graph(server, merged=False, bypass=bypass)
    prompt["base"]["inputs"]["model"] = ["bypass", 0]
    with pytest.raises(ServerError, match="bypass mode"):
        server.run(prompt, LIMIT_SEC)


def test_differences_sums_and_merged_text_encoders_are_baked_too(server):
    """0.5 (A − B) + B, and a quarter of A's text encoder with three of B's; the VAE of a loader of its own."""
    checkpoints, before = server.models_folder / "checkpoints", written(server)
    first, second = load_file(checkpoints / FIRST), load_file(checkpoints / SECOND)
    vae = {key.removeprefix("first_stage_model."): value for key, value in second.items() if key.startswith("first_stage_model.")}
    (server.models_folder / "vae").mkdir(exist_ok=True)
    save_file(vae, server.models_folder / "vae" / "other vae.safetensors")
    prompt = graph(server, merged=False)
    prompt |= {
        "less": node(server, "ModelMergeSubtract", model1=["one", 0], model2=["two", 0], multiplier=0.5),
        "more": node(server, "ModelMergeAdd", model1=["less", 0], model2=["two", 0]),
        "clip": node(server, "CLIPMergeSimple", clip1=["one", 1], clip2=["two", 1], ratio=RATIO),
        "vae": node(server, "VAELoader", vae_name="other vae.safetensors"),
    }
    prompt["base"]["inputs"] |= {"model": ["more", 0], "clip": ["clip", 0], "vae": ["vae", 0]}
    lines = report(server, prompt)
    assert lines[2] == "VAE: other vae.safetensors"
    tensors = {name: value for path in written(server).keys() - before.keys() for name, value in load_file(path).items()}
    seen = {"model": 0, "clip": 0}
    for name, value in tensors.items():
        part = "model" if name.startswith("model.diffusion_model.") else "clip"
        twin = name if part == "model" else "cond_stage_model." + name.removeprefix("clip_l.")
        if twin in first and first[twin].is_floating_point():
            share = 0.5 if part == "model" else RATIO
            expected = share * first[twin].float() + (1 - share) * second[twin].float()
            assert torch.allclose(value.float(), expected, rtol=2e-3, atol=2e-3), name
            seen[part] += 1
    assert seen["model"] > 60 and seen["clip"] > 20


def test_patches_that_are_no_weights_are_refused_with_a_sentence(server):
    prompt = graph(server, merged=False, patched=node(server, "FreeU_V2", model=["one", 0], b1=1.3, b2=1.4, s1=0.9, s2=0.2))
    prompt["base"]["inputs"]["model"] = ["patched", 0]
    with pytest.raises(ServerError, match=r"This wire carries patches of output_block_patch .* connect the model from before them"):
        server.run(prompt, LIMIT_SEC)


@pytest.mark.parametrize(
    ("kind", "widgets", "told"),
    [
        ("ModelSamplingDiscrete", {"sampling": "x0", "zsnr": False}, r"sampled in a way that cannot be trained \(X0\)"),
        ("ModelSamplingContinuousEDM", {"sampling": "v_prediction", "sigma_max": 120.0, "sigma_min": 0.002}, "ModelSamplingContinuousEDM"),
        ("ModelSamplingSD3", {"shift": 3.0}, "is SD1.5, but a ModelSampling node has set it to predict a flow"),
    ],
)
def test_samplings_that_no_training_goes_with_are_refused(server, kind, widgets, told):
    prompt = graph(server, merged=False, sampling=node(server, kind, model=["one", 0], **widgets))
    prompt["base"]["inputs"]["model"] = ["sampling", 0]
    with pytest.raises(ServerError, match=told):
        server.run(prompt, LIMIT_SEC)


def test_loaders_of_single_parts_and_weights_in_8_bits(server):
    """Unpatched, the files themselves; with a LoRA what the 8 bits and the LoRA make."""
    first, before = load_file(server.models_folder / "checkpoints" / FIRST), written(server)
    for folder, name, prefix in (
        ("diffusion_models", "unet", "model.diffusion_model."),
        ("text_encoders", "clip", "cond_stage_model.transformer."),
        ("vae", "vae", "first_stage_model."),
    ):
        (server.models_folder / folder).mkdir(exist_ok=True)
        save_file(
            {key.removeprefix(prefix): value for key, value in first.items() if key.startswith(prefix)},
            server.models_folder / folder / f"{name}.safetensors",
        )
    prompt = graph(server, merged=False)
    prompt |= {
        "unet": node(server, "UNETLoader", unet_name="unet.safetensors", weight_dtype="fp8_e4m3fn"),
        "clip": node(server, "CLIPLoader", clip_name="clip.safetensors", type="stable_diffusion"),
        "vae": node(server, "VAELoader", vae_name="vae.safetensors"),
        "lora": node(server, "LoraLoaderModelOnly", model=["unet", 0], lora_name=LORA, strength_model=STRENGTH),
    }
    prompt["base"]["inputs"] |= {"model": ["unet", 0], "clip": ["clip", 0], "vae": ["vae", 0]}
    assert report(server, prompt) == ["model: unet.safetensors", "text encoders: clip.safetensors", "VAE: vae.safetensors"]
    prompt["base"]["inputs"]["model"] = ["lora", 0]
    assert report(server, prompt)[0].endswith("(written from the wire)")
    (path,) = written(server).keys() - before.keys()
    tensors, lora = load_file(path), load_file(server.models_folder / "loras" / LORA)
    base = describe_base(path, (find_comfyui() / "comfy",), (server.models_folder / "text_encoders" / "clip.safetensors",))
    assert base.family == "sd15"
    names = native_names(family("sd15"), base, base)
    key = next(key for key in names if key.endswith("attn2_to_k"))
    change = STRENGTH / 2 * lora[f"{key}.lora_up.weight"] @ lora[f"{key}.lora_down.weight"]
    expected = first[names[key]].to(torch.float8_e4m3fn).float() + change
    assert torch.nn.functional.cosine_similarity(tensors[names[key]].float().flatten(), expected.flatten(), dim=0) > 0.999
