"""What does a comparison cost beside ComfyUI's own sampling?  `ATHANOR_COMFYUI=… python benchmarks/compare_overhead_comfyui.py --side 192`

With MODEL, CLIP and VAE wired, XY Plot Compare draws 5 epochs x 5 strengths, inside one process with ComfyUI's own modules, and in
turns with it the same process draws pictures in two other ways:
- a bare loop: one LoRA on the model, one encoded prompt, and then only KSampler and VAE Decode;
- the stock nodes, in the first round only: Load LoRA, KSampler and VAE Decode for each epoch and strength, as one would wire them by hand.
Prints seconds of processor time a picture of each, and the ratios of the quickest rounds, which other programs disturbed least: on a machine that does other work, too, what the clock on the wall
shows says little. Then 20 epochs x 3 strengths are put on one after the other, how long a change takes, and whether the weights that
the base brought are still the same afterwards. The weights are random, in the layout of SD1.5; narrow by default, so that every overhead
shows, with --full as wide as it is. One core draws 80 pictures; of 192 px in 20 steps that takes 5 minutes on a quiet one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROMPT, SEED, GUIDANCE, RANK = "a photo of a toy on the moon", 1, 4.0, 16
STRENGTHS, NUM_EPOCHS = (0.25, 0.5, 0.75, 1.0, 1.25), 5
MANY_EPOCHS, FEW_STRENGTHS = 20, (0.5, 0.75, 1.0)
NUM_PICTURES, NUM_OTHERS = NUM_EPOCHS * len(STRENGTHS), 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="SD1.5's own width: 860 million weights")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--inside", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        sys.argv[1:] = []  # ComfyUI reads the command line, too
        _measure(options)
        return
    comfyui = os.environ.get("ATHANOR_COMFYUI")
    if not comfyui:
        sys.exit("ATHANOR_COMFYUI must name a checkout of ComfyUI.")
    with tempfile.TemporaryDirectory() as folder:
        told = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--inside", folder], cwd=comfyui, env={**os.environ, "PYTHONPATH": comfyui})
    sys.exit(told.returncode)


def _measure(options: argparse.Namespace) -> None:
    import comfy.cli_args
    import folder_paths
    import torch

    comfy.cli_args.args.cpu = True  # the time of the processor is what is told
    from athanor.nodes.compare import XYPlotCompare
    from athanor.nodes.stock_sampling import StockPainter
    from athanor.trainer.compare.recipe import Recipe
    from athanor.trainer.runs.run import open_loaded

    folder_paths.set_output_directory(str(options.inside / "output"))
    folder_paths.set_temp_directory(str(options.inside / "temp"))
    torch.set_num_threads(1)
    model, clip, vae = _base(options.full)
    files = _epoch_files(model, options.inside / "epochs", MANY_EPOCHS)
    weights = {name: weight.clone() for name, weight in list(model.model.state_dict().items())[:: 40 if options.full else 4]}
    node = type("Node", (XYPlotCompare,), {"hidden": SimpleNamespace(prompt=None, unique_id=None)})

    def compare(number: int, options: argparse.Namespace) -> list[Any]:
        # Runs of other names: each draws all of its pictures.
        run = open_loaded(options.inside / "output" / "athanor", f"round {number}", "epoch", list(enumerate(files[:NUM_EPOCHS], start=1)), "lora")
        strengths = ", ".join(map(str, STRENGTHS))
        look = {"seed": SEED, "steps": options.steps, "guidance": GUIDANCE, "width": options.side, "height": options.side}
        axes = {"x_axis": "strength", "x_values": strengths, "y_axis": "epoch", "y_values": "all", "z_axis": "none", "z_values": ""}
        rest = {"prompts": PROMPT, "negative_prompt": "", "baseline": False, "epoch": "last", "strength": 1.0}
        wires = {"sampler": "default", "scheduler": "default", "model": model, "clip": clip, "vae": vae}
        _, cells, _ = node.execute(run=run, **axes, **look, **rest, **wires).result
        assert cells.shape[0] == NUM_PICTURES and len({cell.numpy().tobytes() for cell in cells}) == NUM_PICTURES
        return list(cells)

    ways: dict[str, Callable[[int, argparse.Namespace], list[Any]]] = {
        "bare sampling": lambda _, options: _bare_loop(model, clip, vae, files[0], options),
        "XY Plot Compare": compare,
        "the stock nodes": lambda _, options: _stock_nodes(model, clip, vae, files, options),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        # What only the first one pays; and all draw the same.
        first = {name: way(-1, argparse.Namespace(**{**vars(options), "steps": 1})) for name, way in ways.items()}
        for ours, theirs in zip(first["XY Plot Compare"], first["the stock nodes"], strict=False):
            assert (255 * ours).round().equal((255 * theirs.clamp(0, 1)).floor()), "the stock nodes draw another picture"
        for number in range(options.rounds):
            for name, way in ways.items():
                if number and name == "the stock nodes":
                    continue
                started_sec = time.process_time()
                way(number, options)
                seconds[name].append((time.process_time() - started_sec) / (NUM_PICTURES if way is compare else NUM_OTHERS))
                sys.stderr.write(f"{name}: {seconds[name][-1]:.3f}\n")
        changes_sec = []
        painter = StockPainter(model, clip, vae, {("run", i): file for i, file in enumerate(files, start=1)}, (options.side,) * 2, "", {})
        for epoch in range(1, MANY_EPOCHS + 1):
            for strength in FEW_STRENGTHS:
                started_sec = time.process_time()
                _bring(painter.worn(Recipe(run="run", epoch=epoch, strength_model=strength, strength_text=strength, prompt=PROMPT))[0])
                changes_sec.append(time.process_time() - started_sec)
        _bring(model)
    bare = min(seconds["bare sampling"])
    for name, each in seconds.items():
        rounds = ", ".join(f"{one:.3f}" for one in each)
        sys.stdout.write(f"{name:16}{min(each):8.3f} s a picture, {min(each) / bare:.3f} times the bare loop (rounds: {rounds})\n")
    alike = all(weight.equal(model.model.state_dict()[name]) for name, weight in weights.items())
    sys.stdout.write(
        f"{len(changes_sec)} changes of epoch and strength without loading the base: {1000 * statistics.median(changes_sec):.0f} ms each, "
        f"{1000 * max(changes_sec):.0f} ms at most; the base is {'as it was' if alike else 'CHANGED'} afterwards\n"
    )


def _base(is_full: bool) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of SD1.5's classes with random weights that keep a signal's size."""
    import comfy.model_patcher
    import comfy.sd
    import comfy.sd1_clip
    import comfy.supported_models
    import torch

    torch.manual_seed(0)
    depth = {
        "num_res_blocks": [2] * 4,
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1] * 6 + [0] * 2,
        "transformer_depth_output": [1] * 9 + [0] * 3,
    }
    narrow = {"num_res_blocks": [1, 1], "channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_output": [1] * 4}
    layout = {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320 if is_full else 64, "num_heads": 8, "context_dim": 768,
        "use_spatial_transformer": True, "transformer_depth_middle": 1, "use_linear_in_transformer": False, "adm_in_channels": None, "legacy": False,
        "use_temporal_attention": False, "use_temporal_resblock": False, **(depth if is_full else narrow),
    }  # fmt: skip
    with torch.no_grad():
        unet = comfy.supported_models.SD15(layout).get_model({}, device="cpu").float()
        _fill(unet)
        target = SimpleNamespace(params={}, clip=comfy.sd1_clip.SD1ClipModel, tokenizer=comfy.sd1_clip.SD1Tokenizer)
        clip = comfy.sd.CLIP(target, embedding_directory=None, disable_dynamic=True)
        _fill(clip.cond_stage_model)
        channels = 128 if is_full else 32
        config = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": channels, "ch_mult": [1, 2, 4, 4]}
        config |= {"num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
        from comfy.ldm.models.autoencoder import AutoencoderKL

        inner = AutoencoderKL(ddconfig=config, embed_dim=4)
        _fill(inner)
        vae = comfy.sd.VAE(sd=inner.state_dict(), config={"params": {"ddconfig": config, "embed_dim": 4}})
    return comfy.model_patcher.ModelPatcher(unet, torch.device("cpu"), torch.device("cpu")), clip, vae


def _fill(module: Any) -> None:
    import math

    import torch

    for name, weight in module.named_parameters():
        if weight.dim() < 2:
            weight.copy_(torch.full_like(weight, float(name.endswith("weight"))))
        else:
            weight.copy_(torch.randn(weight.shape) / math.sqrt(math.prod(weight.shape[1:])))


def _epoch_files(model: Any, folder: Path, num: int) -> list[Path]:
    """LoRAs with random weights for every layer that a training adapts by default: those of the attention blocks."""
    import comfy.lora
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    state, key_map, files = model.model.state_dict(), comfy.lora.model_lora_keys_unet(model.model, {}), []
    layers = {name: state[key].shape for name, key in key_map.items() if name.startswith("lora_unet_") and "_attentions_" in name}
    layers = {name: shape for name, shape in layers.items() if len(shape) > 1}
    for number in range(num):
        tensors = {}
        for name, shape in layers.items():
            tail = (1,) * (len(shape) - 2)
            tensors |= {f"{name}.lora_down.weight": torch.randn(RANK, shape[1], *tail) / shape[1] ** 0.5, f"{name}.alpha": torch.tensor(float(RANK))}
            tensors[f"{name}.lora_up.weight"] = 0.02 * torch.randn(shape[0], RANK, *tail)
        files.append(folder / f"epoch-{number + 1:06d}.safetensors")
        save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, files[-1])
    return files


def _encoded(clip: Any) -> tuple[Any, Any]:
    import nodes as stock

    return tuple(stock.CLIPTextEncode().encode(clip, text)[0] for text in (PROMPT, ""))


def _picture(model: Any, vae: Any, texts: tuple[Any, Any], options: argparse.Namespace) -> Any:
    import nodes as stock

    (empty,) = stock.EmptyLatentImage().generate(options.side, options.side, 1)
    (latent,) = stock.common_ksampler(model, SEED, options.steps, GUIDANCE, "euler", "normal", *texts, empty)
    return stock.VAEDecode().decode(vae, latent)[0][0]


def _bare_loop(model: Any, clip: Any, vae: Any, file: Path, options: argparse.Namespace) -> list[Any]:
    import comfy.sd
    import comfy.utils

    worn, _ = comfy.sd.load_lora_for_models(model, None, comfy.utils.load_torch_file(str(file)), 1.0, 0.0)
    texts = _encoded(clip)
    return [_picture(worn, vae, texts, options) for _ in range(NUM_OTHERS)]


def _stock_nodes(model: Any, clip: Any, vae: Any, files: list[Path], options: argparse.Namespace) -> list[Any]:
    import comfy.sd
    import comfy.utils

    texts, pictures = _encoded(clip), []
    for file in files[: NUM_OTHERS // len(STRENGTHS)]:
        tensors = comfy.utils.load_torch_file(str(file), safe_load=True)
        for strength in STRENGTHS:
            worn, _ = comfy.sd.load_lora_for_models(model, clip, tensors, strength, strength)
            pictures.append(_picture(worn, vae, texts, options))
    return pictures


def _bring(model: Any) -> None:
    """The weights with the LoRA in them, as before sampling."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([model])


if __name__ == "__main__":
    main()
