"""Pictures of XY Plot Compare beside those of the stock nodes for the same numbers. Run as a script inside a checkout of ComfyUI.

comfyui_compare_side.py FOLDER FAMILY...   prints JSON by family: how many pictures there are, which differ, what was counted, what is told
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SIDE, STEPS, SEED, EPOCHS = 64, 2, 7, 2
PROMPT, NEGATIVE = "a photo of a toy, on the (moon:1.3)", "blurry"
LENGTHS = {"num_hidden_layers": 3, "intermediate_size": 64}
T5 = {"d_ff": 96, "num_heads": 4, "d_kv": 16, "num_layers": 1}
UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1], "channel_mult": [1, 2], "num_heads": -1,
    "num_head_channels": 16, "use_spatial_transformer": True, "transformer_depth": [1, 1], "transformer_depth_middle": 1,
    "transformer_depth_output": [1] * 4, "legacy": False, "use_temporal_attention": False, "use_temporal_resblock": False,
}  # fmt: skip
LAYOUTS = {
    "sd15": {**UNET, "context_dim": 768, "use_linear_in_transformer": False, "adm_in_channels": None},
    "sdxl": {**UNET, "model_channels": 64, "context_dim": 2048, "use_linear_in_transformer": True, "adm_in_channels": 2816, "num_classes": "sequential"},
    "sd35": {
        "in_channels": 16, "patch_size": 2, "out_channels": 16, "depth": 2, "input_size": None, "adm_in_channels": 2048, "num_patches": 256,
        "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}},
        "pos_embed_max_size": 16, "qk_norm": "rms", "pos_embed_scaling_factor": None, "x_block_self_attn_layers": [0],
    },
    "flux": {
        "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 64, "hidden_size": 256, "mlp_ratio": 4.0,
        "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2, "qkv_bias": True,
        "guidance_embed": True, "txt_ids_dims": [],
    },
}  # fmt: skip
LORA_PREFIXES = ("lora_unet_", "lora_te")


def models(family: str) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of the family's classes, narrow, with random weights that keep a signal's size."""
    import comfy.model_patcher
    import comfy.sd
    import comfy.sd1_clip
    import comfy.sdxl_clip
    import comfy.supported_models
    import comfy.text_encoders.flux
    import comfy.text_encoders.sd3_clip
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL

    supported, text, tokenizer = {
        "sd15": (comfy.supported_models.SD15, comfy.sd1_clip.SD1ClipModel, comfy.sd1_clip.SD1Tokenizer),
        "sdxl": (comfy.supported_models.SDXL, comfy.sdxl_clip.SDXLClipModel, comfy.sdxl_clip.SDXLTokenizer),
        "sd35": (
            comfy.supported_models.SD3,
            comfy.text_encoders.sd3_clip.sd3_clip(clip_l=True, clip_g=True, t5=False),
            comfy.text_encoders.sd3_clip.SD3Tokenizer,
        ),
        "flux": (comfy.supported_models.Flux, comfy.text_encoders.flux.flux_clip(), comfy.text_encoders.flux.FluxTokenizer),
    }[family]
    torch.manual_seed(0)
    sizes = {f"{name}_model_config": LENGTHS for name in ("clip_l", "clip_g")}
    sizes["t5xxl_model_config"] = {**T5, "d_model": 64} if family == "flux" else T5
    with torch.no_grad():
        denoiser = supported(dict(LAYOUTS[family])).get_model({}, device="cpu").float()
        target = SimpleNamespace(params={}, clip=text, tokenizer=tokenizer)
        clip = comfy.sd.CLIP(target, embedding_directory=None, model_options=sizes, disable_dynamic=True)
        config = {"double_z": True, "z_channels": 16 if family in ("sd35", "flux") else 4, "resolution": 256, "in_channels": 3, "out_ch": 3}
        config |= {"ch": 32, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
        inner = AutoencoderKL(ddconfig=config, embed_dim=config["z_channels"])
        for module in (denoiser, clip.cond_stage_model, inner):
            fill(module)
        vae = comfy.sd.VAE(sd=inner.state_dict(), config={"params": {"ddconfig": config, "embed_dim": config["z_channels"]}})
    return comfy.model_patcher.ModelPatcher(denoiser, torch.device("cpu"), torch.device("cpu")), clip, vae


def fill(module: Any) -> None:
    import torch

    drawn = torch.randn(1_000_003)
    for name, weight in module.named_parameters():
        if weight.dim() < 2:
            weight.fill_(float(name.endswith(("weight", "scale"))))
        else:
            # The same numbers over and over: large tables of words would take their time.
            times = -(-weight.numel() // len(drawn))
            weight.copy_(drawn.repeat(times)[: weight.numel()].view(weight.shape) / math.sqrt(math.prod(weight.shape[1:])))


def epoch_files(model: Any, clip: Any, folder: Path) -> list[Path]:
    """LoRAs for the denoiser and the text encoders, with random weights."""
    import comfy.lora
    import torch
    from safetensors.torch import save_file

    names = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, comfy.lora.model_lora_keys_unet(model.model, {}))
    weights = {**model.model.state_dict(), **clip.cond_stage_model.state_dict()}
    chosen = {
        key: name
        for name, key in names.items()
        if name.startswith(LORA_PREFIXES) and isinstance(key, str) and key in weights and weights[key].dim() == 2
    }
    folder.mkdir(parents=True)
    files = []
    for number in range(1, EPOCHS + 1):
        tensors = {}
        for key, name in chosen.items():
            rows, columns = weights[key].shape
            tensors |= {f"{name}.lora_down.weight": torch.randn(4, columns) / columns**0.5, f"{name}.alpha": torch.tensor(4.0)}
            tensors[f"{name}.lora_up.weight"] = 0.1 * torch.randn(rows, 4)
        files.append(folder / f"{folder.name}-{number:06d}.safetensors")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, files[-1])
    return files


def stock_picture(family: str, wires: tuple[Any, Any, Any], told: dict[str, Any], file: str) -> bytes:
    """By the nodes that one would wire by hand."""
    import numpy
    from comfy_extras.nodes_flux import FluxGuidance
    from comfy_extras.nodes_sd3 import EmptySD3LatentImage

    import nodes as stock

    model, clip, vae = wires
    if told["epoch"]:
        model, clip = stock.LoraLoader().load_lora(model, clip, file, told["strength_model"], told["strength_text"])
    positive, negative = (stock.CLIPTextEncode().encode(clip, told[name])[0] for name in ("prompt", "negative_prompt"))
    if told["flux_guidance"]:
        positive = FluxGuidance.execute(positive, told["flux_guidance"]).result[0]
    if family in ("sd35", "flux"):
        latent = EmptySD3LatentImage.execute(SIDE, SIDE).result[0]
    else:
        (latent,) = stock.EmptyLatentImage().generate(SIDE, SIDE)
    names = told["sampler"] or "euler", told["scheduler"] or "normal"
    (latent,) = stock.KSampler().sample(model, told["seed"], told["steps"], told["guidance"], *names, positive, negative, latent)
    (pixels,) = stock.VAEDecode().decode(vae, latent)
    # As the node Save Image.
    return numpy.clip(255.0 * pixels[0].cpu().numpy(), 0, 255).astype(numpy.uint8).tobytes()


def compare(family: str, folder: Path) -> dict[str, Any]:
    import folder_paths
    from PIL import Image

    import nodes as stock
    from athanor.nodes import stock_sampling
    from athanor.nodes.compare import XYPlotCompare
    from athanor.trainer.compare.sheet_file import read_sheet
    from athanor.trainer.runs.run import open_loaded

    folder_paths.set_output_directory(str(folder / "output"))
    wires = models(family)
    files = epoch_files(*wires[:2], folder / "loras" / family)
    folder_paths.add_model_folder_path("loras", str(folder / "loras" / family))
    run = open_loaded(folder / "output" / "athanor", family, "epoch", list(enumerate(files, start=1)), "lora")
    node = type("Node", (XYPlotCompare,), {"hidden": SimpleNamespace(prompt=None, unique_id=None)})
    counted: Counter[str] = Counter()
    count(counted, stock.CLIPTextEncode, "encode", "encodings")
    count(counted, stock_sampling, "adapter_patches", "files put on")
    common = {"run": run, "prompts": PROMPT, "negative_prompt": NEGATIVE, "baseline": True, "seed": SEED, "steps": STEPS, "width": SIDE}
    common |= {"height": SIDE, "epoch": "last", "strength": 0.8, "sampler": "default", "scheduler": "default"}
    common |= dict(zip(("model", "clip", "vae"), wires, strict=True))
    told: dict[str, Any] = {"counts": [], "alike": [], "different": [], "parameters": "", "changes": True}
    for axes in (
        ("model strength", "0.5, 1.2", "epoch", "all", "text encoder strength", "0, 0.9"),
        ("sampler", "euler_ancestral, dpmpp_2m", "guidance", "1, 4", "scheduler", "karras"),
        *([("flux guidance", "2, 3.5", "epoch", "1", "none", "")] if family == "flux" else []),
    ):
        if axes[0] == "sampler":
            # The wires may wear a LoRA on the same weights already.
            wires = (*stock.LoraLoader().load_lora(*wires[:2], files[0].name, 0.4, 0.6), wires[2])
            common |= {**dict(zip(("model", "clip", "vae"), wires, strict=True)), "baseline": False}
        counted.clear()
        names = ("x_axis", "x_values", "y_axis", "y_values", "z_axis", "z_values")
        result = node.execute(**common, **dict(zip(names, axes, strict=True)), guidance=1.0 if family == "flux" else 4.0)
        told["counts"].append(dict(counted))
        look, sheet_name = result.ui["athanor_sheet"][0].split("/")[-2:]
        sheet, failed = read_sheet(run.folder / "compare" / look, sheet_name)
        assert not failed, failed
        drawn = set()
        for recipe in sheet.recipes:
            with Image.open(sheet.path(recipe)) as picture:
                ours, told["parameters"] = picture.convert("RGB").tobytes(), picture.text["parameters"]
            facts = {**vars(recipe)}
            theirs = stock_picture(family, wires, facts, files[recipe.epoch - 1].name)
            told["alike" if ours == theirs else "different"].append(str(facts))
            drawn.add(ours)
        told["changes"] &= len(drawn) == len(sheet.recipes)
    if family == "sd15":
        told["told apart"] = told_apart(files[0])
        told["batches"] = batches(folder)
        told["breaks"] = breaks(node, {**common, "guidance": 3.0, "baseline": True}, run.folder / "compare")
    return told


def batches(folder: Path) -> list[Any]:
    """Shapes of batches with and without enough memory, and whether the one with holds the pictures as `to_comfy` gives them."""
    from PIL import Image

    from athanor.nodes.images import batch_of, to_comfy

    pictures = [Image.effect_noise((40, 30), 80).convert("RGB"), Image.effect_noise((20, 30), 80).convert("RGB")]
    paths = [folder / f"{i}.png" for i in range(2)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    whole, small = batch_of(paths), batch_of(paths, 12 * 2 * 40 * 30 // 4)
    return [list(whole.shape), bool(whole.equal(to_comfy(pictures))), list(small.shape), bool(small[1, :, 0].max() == 0)]


def told_apart(file: Path) -> list[bool]:
    """Whether the wires are others after the file that a loader before them names has become another one, and as before where it has not."""
    from athanor.nodes.compare import _upstream

    prompt = {"xy": {"inputs": {"model": ["load", 0]}}, "load": {"class_type": "LoraLoader", "inputs": {"lora_name": file.name, "strength_model": 1}}}
    before, again = _upstream(prompt, "xy"), _upstream(prompt, "xy")
    os.utime(file, (1, 1))
    return [before == again, before != _upstream(prompt, "xy")]


def breaks(node: Any, common: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A Cancel after two pictures, a rerun of which one fails for want of memory and the others of a damaged file, and one that draws the rest."""
    import comfy.model_management

    from athanor.nodes import host, stock_sampling

    axes = {"x_axis": "seed", "x_values": "1-2", "y_axis": "epoch", "y_values": "all", "z_axis": "none", "z_values": ""}
    painter, told, freed = stock_sampling.StockPainter, {}, []
    whole, paint = painter.paint, []

    def painting(self: Any, recipe: Any) -> Any:
        paint.append(recipe)
        if told.get("stage") == "cancel" and len(paint) == 3:
            raise host.Interrupted
        if told.get("stage") == "fail" and recipe.seed == 2 and recipe.epoch == 1:
            raise comfy.model_management.OOM_EXCEPTION("CUDA out of memory. Tried to allocate 2 GiB\n and so on")
        return whole(self, recipe)

    painter.paint, free = painting, host.free_memory
    host.free_memory = lambda: freed.append(1)
    damaged = next(epoch.path for epoch in common["run"].epochs() if epoch.number == 2)
    content = damaged.read_bytes()
    for stage in ("cancel", "fail", "mend"):
        told["stage"] = stage
        paint.clear()
        if stage == "fail":
            damaged.write_bytes(content[:-100])
        else:
            damaged.write_bytes(content)
        before = {path: path.stat().st_mtime_ns for path in folder.glob("*/cells/*.png")}
        try:
            result = node.execute(**common, **axes)
            told[f"{stage} cells"] = result.result[1].shape[0]
        except host.Interrupted:
            told["cancel was raised"] = True
        after = {path: path.stat().st_mtime_ns for path in folder.glob("*/cells/*.png")}
        (sheet,) = [
            json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/sheets/*.json") if "seed 2" in path.read_text(encoding="utf-8")
        ]
        told[stage] = {
            "painted": len(paint),
            "new": len(after) - len(before),
            "kept": all(after[path] == when for path, when in before.items()),
            "failed": sorted(sheet["failed"].values()),
            "grid": max(path.stat().st_mtime_ns for path in folder.glob("*/grid-01.png")) >= max(after.values()),
        }
    painter.paint, host.free_memory = whole, free
    told["freed"] = len(freed)
    return told


def count(counted: Counter[str], owner: Any, name: str, what: str) -> None:
    inner = getattr(owner, name)

    def counting(*arguments: Any, **options: Any) -> Any:
        counted[what] += 1
        return inner(*arguments, **options)

    setattr(owner, name, counting)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.argv[1:] = ["--cpu", "--fp32-unet", "--fp32-text-enc", "--fp32-vae"]
    sys.path[0] = str(Path.cwd())
    import comfy.options

    comfy.options.enable_args_parsing()
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        found = {family: compare(family, Path(arguments[0])) for family in arguments[1:]}
    sys.stdout.write(json.dumps(found) + "\n")
