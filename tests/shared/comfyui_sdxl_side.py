"""What only ComfyUI's own modules can tell of SDXL. Run as a script inside a checkout, since its modules need its command line.

comfyui_sdxl_side.py checkpoint OUT DEPTHS           a checkpoint at SDXL's widths and the depths of "vega", "ssd-1b" or "full", random weights, fp16
comfyui_sdxl_side.py unet CHECKPOINT LORA INPUTS OUT what ComfyUI's U-Net makes of fixed inputs, in fp32, bare and with the LoRA
comfyui_sdxl_side.py text CHECKPOINT LORA OUT        the same of its text encoders
comfyui_sdxl_side.py schedule OUT                    its sigmas and how it takes the two kinds of prediction
comfyui_sdxl_side.py small OUT SEED                  a checkpoint that ComfyUI takes for SD1.5, with one level of the U-Net, fp16
comfyui_sdxl_side.py two OUT                         a checkpoint that ComfyUI takes for SD2: the full CLIP-H and VAE, one level of the U-Net, fp16
comfyui_sdxl_side.py two-run CHECKPOINT LORA INPUTS OUT  what ComfyUI makes of it, in fp32, bare and with the LoRA
comfyui_sdxl_side.py clips L G                       its two text encoders at their widths with three layers, random weights, fp16, as files of their own
comfyui_sdxl_side.py word L G FOLDER PROMPTS OUT     states and pooled of each line, which names an embedding in FOLDER, in fp32
comfyui_sdxl_side.py keys OUT                        every name that its LoRA loader knows of full SD1.5 and SDXL, and of which weight
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4],
    "num_head_channels": 64, "use_spatial_transformer": True, "use_linear_in_transformer": True, "context_dim": 2048, "adm_in_channels": 2816,
    "num_classes": "sequential", "legacy": False, "use_temporal_attention": False, "use_temporal_resblock": False,
}  # fmt: skip
VEGA = {"transformer_depth": [0, 0, 1, 1, 2, 2], "transformer_depth_middle": 2, "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2]}
FULL = {"transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10, "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10]}
SSD_1B = {"transformer_depth": [0, 0, 2, 2, 4, 4], "transformer_depth_middle": -1, "transformer_depth_output": [0, 0, 0, 1, 1, 2, 10, 4, 4]}
DEPTHS = {"vega": VEGA, "ssd-1b": SSD_1B, "full": FULL}
SD15_UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4],
    "num_heads": 8, "use_spatial_transformer": True, "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "context_dim": 768, "use_linear_in_transformer": False,
    "adm_in_channels": None, "legacy": False, "use_temporal_attention": False, "use_temporal_resblock": False,
}  # fmt: skip
TWO = {"context_dim": 1024, "use_linear_in_transformer": True, "num_heads": -1, "num_head_channels": 64}
VAE = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip
PROMPT = "a photo of a monster toy on the moon"
LONG_PROMPT = ", ".join(f"{word} {number}" for number in range(20) for word in ("red", "moon"))
SIZES = {"width": 832, "height": 1216, "crop_w": 24, "crop_h": 40, "target_width": 768, "target_height": 1152}


def probe(key: str, columns: int):
    """A vector that belongs to `key`: a weight times it tells the whole weight well enough."""
    import torch

    return torch.randn(columns, generator=torch.Generator().manual_seed(zlib.crc32(key.encode("utf-8"))))


def _random(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict:
    """Weights that keep a signal's size from layer to layer, so that nothing fades and nothing overflows."""
    import math

    import torch

    generator, tensors = torch.Generator().manual_seed(seed), {}
    for key, shape in sorted(shapes.items()):
        if len(shape) < 2:
            tensors[key] = torch.full(shape, float(key.endswith("weight")), dtype=torch.float16)
            continue
        spread = 0.02 if "_embedding" in key else 1 / math.sqrt(math.prod(shape[1:]))
        tensors[key] = (torch.randn(shape, generator=generator) * spread).half()
    return tensors


def _shapes(module, prefix: str = "") -> dict[str, tuple[int, ...]]:
    return {prefix + key: tuple(value.shape) for key, value in module.state_dict().items()}


def make_checkpoint(out: Path, depths: Path) -> None:
    import comfy.ops
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.sdxl_clip import SDXLClipModel
    from comfy.supported_models import SDXL
    from safetensors.torch import save_file

    with torch.device("meta"):
        unet = UNetModel(**UNET, **DEPTHS[depths.name], device="meta", operations=comfy.ops.disable_weight_init)
        vae = AutoencoderKL(ddconfig=VAE, embed_dim=4)
        text = SDXLClipModel(device="meta", dtype=torch.float32)
    tensors = _random({**_shapes(unet, "model.diffusion_model."), **_shapes(vae, "first_stage_model.")})
    # In the names of checkpoints, by ComfyUI's own hand.
    tensors |= SDXL.process_clip_state_dict_for_saving(None, _random(_shapes(text)))
    tensors = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    save_file({key: value.contiguous() for key, value in tensors.items() if not key.endswith("logit_scale")}, out)


def make_small(out: Path, seed: Path) -> None:
    """As narrow as ComfyUI's recognition allows: the full text encoder and VAE, of the U-Net one level."""
    import comfy.ops
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.sd1_clip import SD1ClipModel
    from comfy.supported_models import SD15
    from safetensors.torch import save_file

    depths = {"num_res_blocks": [1], "channel_mult": [1], "transformer_depth": [1], "transformer_depth_output": [1, 1]}
    with torch.device("meta"):
        unet = UNetModel(**{**SD15_UNET, **depths}, device="meta", operations=comfy.ops.disable_weight_init)
        vae = AutoencoderKL(ddconfig=VAE, embed_dim=4)
        text = SD1ClipModel(device="meta", dtype=torch.float32)
    shapes = {
        **_shapes(unet, "model.diffusion_model."),
        **_shapes(vae, "first_stage_model."),
        **SD15.process_clip_state_dict_for_saving(None, _shapes(text)),
    }
    save_file(_random(shapes, int(str(seed))), out)


def make_two(out: Path) -> None:
    import comfy.ops
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.supported_models import SD20
    from comfy.text_encoders.sd2_clip import SD2ClipModel
    from safetensors.torch import save_file

    depths = {"num_res_blocks": [1], "channel_mult": [1], "transformer_depth": [1], "transformer_depth_output": [1, 1]}
    with torch.device("meta"):
        unet = UNetModel(**{**SD15_UNET, **TWO, **depths}, device="meta", operations=comfy.ops.disable_weight_init)
        vae = AutoencoderKL(ddconfig=VAE, embed_dim=4)
        text = SD2ClipModel(device="meta", dtype=torch.float32)
    tensors = _random({**_shapes(unet, "model.diffusion_model."), **_shapes(vae, "first_stage_model.")})
    tensors |= SD20.process_clip_state_dict_for_saving(None, _random(_shapes(text)))
    save_file({key: value.half().contiguous() for key, value in tensors.items() if not key.endswith("logit_scale")}, out)


def run_two(checkpoint: Path, lora: Path, inputs: Path, out: Path) -> None:
    import comfy.model_management
    import comfy.sd
    import comfy.utils
    import torch
    from safetensors.torch import load_file, save_file

    given, results = load_file(inputs), {}
    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint), output_vae=False)
    patched = comfy.sd.load_lora_for_models(model, clip, comfy.utils.load_torch_file(str(lora)), 1.0, 1.0)
    for name, (unet, text) in {"bare": (model, clip), "lora": patched}.items():
        comfy.model_management.load_models_gpu([unet])
        with torch.inference_mode():
            results[f"{name}.noise"] = unet.model.diffusion_model(given["latents"], given["times"], context=given["context"])
            for label, prompt in {"": PROMPT, "long ": LONG_PROMPT}.items():
                results[f"{name}.{label}states"] = text.encode_from_tokens(text.tokenize(prompt))
    with torch.inference_mode():
        results |= _merged(patched[0], ("diffusion_model.",)) | _merged(patched[1].patcher, ("clip_h.",))
    save_file({key: value.float().contiguous().clone() for key, value in results.items()}, out)
    sys.stdout.write(
        json.dumps({"denoiser": len(patched[0].patches), "text": len(patched[1].patcher.patches), "type": str(model.model.model_type)}) + "\n"
    )


def _merged(patcher, prefixes: tuple[str, ...]) -> dict:
    """Of every weight that is patched what it makes of its probe."""
    import comfy.model_management
    import comfy.utils

    comfy.model_management.load_models_gpu([patcher])
    found = {}
    for key in patcher.patches:
        weight = comfy.utils.get_attr(patcher.model, key).detach().float().flatten(1)
        found[f"merged.{key}"] = weight @ probe(key, weight.shape[1])
    assert all(key.removeprefix("merged.").startswith(prefixes) for key in found)
    return found


def run_unet(checkpoint: Path, lora: Path, inputs: Path, out: Path) -> None:
    """Writes bare.noise, lora.noise, bare.denoised and merged.KEY; prints how many weights the LoRA changes."""
    import comfy.model_management
    import comfy.sd
    import comfy.utils
    import torch
    from safetensors.torch import load_file, save_file

    given, results = load_file(inputs), {}
    model, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint), output_vae=False, output_clip=False)
    patched, _ = comfy.sd.load_lora_for_models(model, None, comfy.utils.load_torch_file(str(lora)), 1.0, 0.0)
    for name, unet in {"bare": model, "lora": patched}.items():
        comfy.model_management.load_models_gpu([unet])
        with torch.inference_mode():
            vector = unet.model.encode_adm(pooled_output=given["pooled"], **SIZES)
            noise = unet.model.diffusion_model(given["latents"], given["times"], context=given["context"], y=vector)
            sigma = unet.model.model_sampling.sigma(given["times"])
            # Sampling starts from x_0 + sigma * noise, where training has sqrt(share) of both.
            scaled = given["latents"] * (1 + sigma**2).sqrt().view(-1, 1, 1, 1)
            denoised = unet.model.apply_model(scaled, sigma, c_crossattn=given["context"], y=vector)
        results |= {f"{name}.noise": noise.float().contiguous().clone(), f"{name}.denoised": denoised.float().contiguous().clone()}
    with torch.inference_mode():
        results |= {key: value.clone() for key, value in _merged(patched, ("diffusion_model.",)).items()}
    save_file(results, out)
    sys.stdout.write(json.dumps({"denoiser": len(patched.patches), "type": str(model.model.model_type)}) + "\n")


def run_text(checkpoint: Path, lora: Path, out: Path) -> None:
    """Writes {bare,lora}.{states,pooled,long states,long pooled}, bare.states of layers -1 and -3, and merged.KEY."""
    import comfy.sd
    import comfy.utils
    import torch
    from safetensors.torch import load_file, save_file

    wanted = {key: value for key, value in load_file(lora).items() if key.startswith("lora_te")}
    _, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint), output_vae=False, output_model=False)
    _, patched = comfy.sd.load_lora_for_models(None, clip, wanted, 0.0, 1.0)
    results = {}
    for name, text in {"bare": clip, "lora": patched}.items():
        for label, prompt in {"": PROMPT, "long ": LONG_PROMPT}.items():
            with torch.inference_mode():
                states, pooled = text.encode_from_tokens(text.tokenize(prompt), return_pooled=True)
            results |= {f"{name}.{label}states": states.clone(), f"{name}.{label}pooled": pooled.clone()}
    for layer in (-1, -3):
        skipped = clip.clone()
        skipped.clip_layer(layer)
        with torch.inference_mode():
            states, pooled = skipped.encode_from_tokens(skipped.tokenize(PROMPT), return_pooled=True)
        results |= {f"skip{layer}.states": states.clone(), f"skip{layer}.pooled": pooled.clone()}
    with torch.inference_mode():
        results |= {key: value.clone() for key, value in _merged(patched.patcher, ("clip_l.", "clip_g.")).items()}
    save_file({key: value.float().contiguous() for key, value in results.items()}, out)
    counts = {letter: sum(key.startswith(f"clip_{letter}.") for key in patched.patcher.patches) for letter in "lg"}
    sys.stdout.write(json.dumps(counts) + "\n")


def schedule(out: Path) -> None:
    """Sigmas of all 1000 times for epsilon, v and v with zero terminal SNR, and the picture told by an answer of 0.5 to a signal of 2."""
    import torch
    from comfy.model_base import ModelType, model_sampling
    from comfy.supported_models import SDXL
    from safetensors.torch import save_file

    results = {}
    for name, kind, zsnr in (("epsilon", ModelType.EPS, False), ("v", ModelType.V_PREDICTION, False), ("v zero", ModelType.V_PREDICTION, True)):
        config = SDXL({"disable_unet_model_creation": True})
        config.sampling_settings = {"zsnr": True} if zsnr else {}
        sampling = model_sampling(config, kind)
        sigma = sampling.sigmas.clone()
        shaped = sigma.view(-1, 1, 1, 1)
        signal = torch.full_like(shaped, 2.0)
        answer = torch.full_like(shaped, 0.5)
        denoised = sampling.calculate_denoised(sigma, answer, signal * (1 + shaped**2).sqrt())
        results |= {f"{name}.sigmas": sigma, f"{name}.denoised": denoised.flatten()}
    save_file({key: value.float().contiguous().clone() for key, value in results.items()}, out)


def keys(out: Path) -> None:
    """{"sd15", "sd2" or "sdxl": {name in a LoRA file: weight, or its slice}} by ComfyUI's own functions, on models without memory."""
    import comfy.lora
    import comfy.ops
    import torch
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.sd1_clip import SD1ClipModel
    from comfy.sdxl_clip import SDXLClipModel
    from comfy.text_encoders.sd2_clip import SD2ClipModel

    class Model(torch.nn.Module):
        def __init__(self, config: dict):
            super().__init__()
            self.diffusion_model = UNetModel(**config, device="meta", operations=comfy.ops.disable_weight_init)
            self.model_config = type("Config", (), {"unet_config": config})()

    result = {}
    two = {**SD15_UNET, **TWO}
    for name, config, clip in (("sd15", SD15_UNET, SD1ClipModel), ("sd2", two, SD2ClipModel), ("sdxl", {**UNET, **FULL}, SDXLClipModel)):
        model, text = Model(config), clip(device="meta", dtype=torch.float32)
        found = comfy.lora.model_lora_keys_clip(text, comfy.lora.model_lora_keys_unet(model, {}))
        weights = {f"diffusion_model.{key}": tuple(value.shape) for key, value in model.diffusion_model.state_dict().items()}
        weights |= {key: tuple(value.shape) for key, value in text.state_dict().items()}
        result[name] = {key: [target, list(weights[target])] for key, target in found.items() if isinstance(target, str) and target in weights}
    out.write_text(json.dumps(result), encoding="utf-8")


_THREE_LAYERS = {f"clip_{letter}_model_config": {"num_hidden_layers": 3} for letter in "lg"}


def make_clips(first: Path, second: Path) -> None:
    import torch
    from comfy.sdxl_clip import SDXLClipModel
    from safetensors.torch import save_file

    with torch.device("meta"):
        shapes = _shapes(SDXLClipModel(device="meta", dtype=torch.float32, model_options=_THREE_LAYERS))
    for name, out in (("clip_l.", first), ("clip_g.", second)):
        inner = {key.removeprefix(f"{name}transformer."): shape for key, shape in shapes.items() if key.startswith(f"{name}transformer.")}
        save_file(_random(inner), out)


def word(first: Path, second: Path, folder: Path, prompts: Path, out: Path) -> None:
    import comfy.sd
    import comfy.sdxl_clip
    import comfy.utils
    import torch
    from safetensors.torch import save_file

    target = SimpleNamespace(params={}, clip=comfy.sdxl_clip.SDXLClipModel, tokenizer=comfy.sdxl_clip.SDXLTokenizer)
    clip = comfy.sd.CLIP(target, embedding_directory=[str(folder)], model_options=_THREE_LAYERS, disable_dynamic=True)
    # Its own loader tells CLIP-G by its 31st layer.
    for encoder, file in ((clip.cond_stage_model.clip_l, first), (clip.cond_stage_model.clip_g, second)):
        encoder.load_sd(comfy.utils.load_torch_file(str(file)))
    results = {}
    with torch.inference_mode():
        for i, line in enumerate(prompts.read_text(encoding="utf-8").splitlines()):
            states, pooled = clip.encode_from_tokens(clip.tokenize(line), return_pooled=True)
            results |= {f"{i}.states": states.float().contiguous().clone(), f"{i}.pooled": pooled.float().contiguous().clone()}
    save_file(results, out)


if __name__ == "__main__":
    task, *paths = sys.argv[1:]
    sys.argv[1:] = ["--cpu", "--fp32-unet", "--fp32-text-enc"]
    sys.path[0] = str(Path.cwd())
    import comfy.options

    comfy.options.enable_args_parsing()
    tasks = {
        "checkpoint": make_checkpoint,
        "small": make_small,
        "two": make_two,
        "two-run": run_two,
        "unet": run_unet,
        "text": run_text,
        "schedule": schedule,
        "keys": keys,
        "clips": make_clips,
        "word": word,
    }
    tasks[task](*map(Path, paths))
