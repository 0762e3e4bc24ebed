"""What only ComfyUI's own modules can tell of FLUX.1 and SD3.5. Run as a script inside a checkout, since its modules need its command line.

comfyui_flow_side.py checkpoint LAYOUT OUT                      a checkpoint with everything in it, random weights, in LAYOUT's sizes
comfyui_flow_side.py compute LAYOUT CHECKPOINT LORA INPUTS OUT  what ComfyUI makes of fixed inputs, in fp32, bare and with the LoRA
comfyui_flow_side.py word LAYOUT CHECKPOINT FOLDER PROMPTS OUT  states and pooled of each line, which names an embedding in FOLDER
comfyui_flow_side.py keys NAME OUT                              LoRA names that it knows for the model of that name in full size: name to [key, rows]

LAYOUT is a JSON file: {"family", "denoiser": arguments of ComfyUI's class, "clip_l", "clip_g", "t5xxl": sizes other than the true ones,
"dtype" of all but T5, which ComfyUI computes in the file's own and which is in fp32, "t5_tokens"}.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

PROMPT = "a photo of a monster toy on the moon, seen from far away"
FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0,
    "num_heads": 24, "depth": 19, "depth_single_blocks": 38, "axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2, "qkv_bias": True,
    "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip
SD35_MEDIUM = {
    "in_channels": 16, "patch_size": 2, "out_channels": 16, "depth": 24, "input_size": None, "adm_in_channels": 2048,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 1536}},
    "num_patches": 147456, "pos_embed_max_size": 384, "qk_norm": "rms", "pos_embed_scaling_factor": None, "x_block_self_attn_layers": list(range(13)),
}  # fmt: skip
SD35_LARGE = {
    **SD35_MEDIUM, "depth": 38, "num_patches": 36864, "pos_embed_max_size": 192, "x_block_self_attn_layers": [],
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 2432}},
}  # fmt: skip
FULL_SIZE = {"flux dev": FLUX, "flux schnell": {**FLUX, "guidance_embed": False}, "sd35 medium": SD35_MEDIUM, "sd35 large": SD35_LARGE}
NARROW = {
    "flux": {
        "family": "flux", "dtype": "float16", "t5_tokens": 512,
        "denoiser": {**FLUX, "context_in_dim": 64, "hidden_size": 256, "num_heads": 2, "depth": 2, "depth_single_blocks": 2},
        "clip_l": {"num_hidden_layers": 2}, "t5xxl": {"d_model": 64, "d_ff": 96, "num_heads": 4, "d_kv": 16, "num_layers": 2},
    },
    "sd35 medium": {
        "family": "sd35", "dtype": "float16", "t5_tokens": 77,
        "denoiser": {
            **SD35_MEDIUM, "depth": 4, "num_patches": 256, "pos_embed_max_size": 16, "x_block_self_attn_layers": [0, 1, 2],
            "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 256}},
        },
        "clip_l": {"num_hidden_layers": 3}, "clip_g": {"num_hidden_layers": 3}, "t5xxl": {"d_ff": 96, "num_heads": 4, "d_kv": 16, "num_layers": 2},
    },
    "sd35 large": {
        "family": "sd35", "dtype": "bfloat16", "t5_tokens": 77,
        "denoiser": {
            **SD35_LARGE, "depth": 3, "num_patches": 144, "pos_embed_max_size": 12,
            "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 192}},
        },
        "clip_l": {"num_hidden_layers": 3}, "clip_g": {"num_hidden_layers": 3}, "t5xxl": {"d_ff": 96, "num_heads": 4, "d_kv": 16, "num_layers": 2},
    },
}  # fmt: skip
"""Layouts that ComfyUI takes for the real models."""
VAE = {
    "double_z": True, "z_channels": 16, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip


def denoiser_class(family: str) -> type:
    from comfy.ldm.flux.model import Flux
    from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper

    return Flux if family == "flux" else OpenAISignatureMMDITWrapper


def sizes_of(layout: dict[str, Any]) -> dict[str, Any]:
    """The text encoders' sizes as ComfyUI takes them."""
    return {f"{name}_model_config": layout[name] for name in ("clip_l", "clip_g", "t5xxl") if name in layout}


def text_class(family: str) -> type:
    from comfy.text_encoders.flux import flux_clip
    from comfy.text_encoders.sd3_clip import sd3_clip

    return flux_clip() if family == "flux" else sd3_clip()


def shapes(layout: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes as ComfyUI's own classes have them, in the spelling of the files that people have."""
    import comfy.ops
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL

    family = layout["family"]
    with torch.device("meta"):
        denoiser = denoiser_class(family)(**layout["denoiser"], device="meta", operations=comfy.ops.disable_weight_init)
        vae = AutoencoderKL(ddconfig=VAE, embed_dim=16)
        text = text_class(family)(device="meta", dtype=torch.float32, model_options=sizes_of(layout))
    found = {f"model.diffusion_model.{key}": value for key, value in denoiser.state_dict().items()}
    if family == "flux":
        found = {key[: -len("weight")] + "scale" if key.endswith("_norm.weight") else key: value for key, value in found.items()}
    vae_prefix = "vae." if family == "flux" else "first_stage_model."
    found |= {f"{vae_prefix}{key}": value for key, value in vae.state_dict().items() if "quant_conv" not in key}
    found |= {f"text_encoders.{key}": value for key, value in text.state_dict().items() if ".transformer." in key}
    return {key: tuple(value.shape) for key, value in found.items()}


def make_checkpoint(layout_file: Path, out: Path) -> None:
    """Weights that keep a signal's size from layer to layer; biases and norms are random too, so that a forgotten one shows."""
    import torch
    from safetensors.torch import save_file

    layout = json.loads(layout_file.read_text(encoding="utf-8"))
    generator, tensors = torch.Generator().manual_seed(0), {}
    for key, shape in sorted(shapes(layout).items()):
        dtype = torch.float32 if ".t5xxl." in key else getattr(torch, layout["dtype"])
        drawn = torch.randn(shape, generator=generator)
        if len(shape) < 2:
            tensors[key] = (
                drawn * 0.1 + float(key.endswith(("norm.weight", "norm1.weight", "norm2.weight", "scale", "ln_q.weight", "ln_k.weight")))
            ).to(dtype)
        elif "embedding" in key or "shared" in key or "pos_embed" in key:
            tensors[key] = (drawn * 0.3).to(dtype)
        else:
            # T5 does not scale its attention, and a softmax of large numbers magnifies every rounding.
            calm = 1 / 8 if key.endswith("SelfAttention.q.weight") else 1.0
            tensors[key] = (drawn * calm / math.sqrt(math.prod(shape[1:]))).to(dtype)
    save_file(tensors, out)


def compute(layout_file: Path, checkpoint: Path, lora: Path, inputs: Path, out: Path) -> None:
    """Writes bare.* and lora.* of velocity, states and pooled, the latents of the pixels, and `merged.KEY`: W x for a fixed x, W with the LoRA in it."""
    import comfy.lora
    import comfy.model_management
    import comfy.sd
    import comfy.utils
    import torch
    from safetensors.torch import load_file, save_file

    layout, given, results = json.loads(layout_file.read_text(encoding="utf-8")), load_file(inputs), {}
    tensors, changed = comfy.utils.load_torch_file(str(lora)), {}
    of_text = {key: value for key, value in tensors.items() if key.startswith(("lora_te", "text_encoder"))}
    of_denoiser = {key: value for key, value in tensors.items() if key not in of_text}

    def loaded(**others: bool) -> tuple[Any, Any, Any]:
        return comfy.sd.load_checkpoint_guess_config(str(checkpoint), te_model_options=sizes_of(layout), **others)[:3]

    def merge(patcher: Any) -> int:
        for key, patches in patcher.patches.items():
            weight = comfy.utils.get_attr(patcher.model, key)
            merged = comfy.lora.calculate_weight(patches, weight.detach().float().clone(), key).flatten(1)
            results[f"merged.{key}"] = merged @ torch.randn(merged.shape[1], generator=torch.Generator().manual_seed(merged.shape[1]))
        return len(patcher.patches)

    # One part after the other, since each is there twice while a LoRA is in it.
    with torch.inference_mode():
        model, _, vae = loaded(output_clip=False)
        results["latents"] = model.model.process_latent_in(vae.encode(given["pixels"].permute(0, 2, 3, 1) / 2 + 0.5))
        patched = comfy.sd.load_lora_for_models(model, None, of_denoiser, 1.0, 1.0)[0]
        changed["denoiser"] = merge(patched)
        guidance = {"guidance": torch.tensor([1.0])} if layout["family"] == "flux" else {}
        sigma = given["times"]
        for name, unet in {"bare": model, "lora": patched}.items():
            comfy.model_management.load_models_gpu([unet])
            clean = unet.model.apply_model(given["latents"], sigma, c_crossattn=given["states"], y=given["pooled"], **guidance)
            results[f"{name}.velocity"] = (given["latents"] - clean) / sigma.view(-1, 1, 1, 1)
        del model, patched, unet, vae
        comfy.model_management.unload_all_models()
        _, clip, _ = loaded(output_model=False, output_vae=False)
        patched = comfy.sd.load_lora_for_models(None, clip, of_text, 1.0, 1.0)[1]
        changed["text"] = merge(patched.patcher)
        tokens = {"t5xxl_min_length": layout["t5_tokens"]}
        for name, text in {"bare": clip, "lora": patched}.items():
            states, pooled = text.encode_from_tokens(text.tokenize(PROMPT, tokenizer_options=tokens), return_pooled=True)
            results |= {f"{name}.states": states, f"{name}.pooled": pooled}
    save_file({key: value.detach().float().contiguous().clone() for key, value in results.items()}, out)
    sys.stdout.write(json.dumps(changed) + "\n")


def word(layout_file: Path, checkpoint: Path, folder: Path, prompts: Path, out: Path) -> None:
    import comfy.sd
    import torch
    from safetensors.torch import save_file

    layout = json.loads(layout_file.read_text(encoding="utf-8"))
    _, clip, _, _ = comfy.sd.load_checkpoint_guess_config(
        str(checkpoint), output_vae=False, output_model=False, embedding_directory=[str(folder)], te_model_options=sizes_of(layout)
    )
    results = {}
    with torch.inference_mode():
        for i, line in enumerate(prompts.read_text(encoding="utf-8").splitlines()):
            tokens = clip.tokenize(line, tokenizer_options={"t5xxl_min_length": layout["t5_tokens"]})
            states, pooled = clip.encode_from_tokens(tokens, return_pooled=True)
            results |= {f"{i}.states": states.float().contiguous().clone(), f"{i}.pooled": pooled.float().contiguous().clone()}
    save_file(results, out)


def keys(name: str, out: Path) -> None:
    """Of the model and its text encoders in full size, without weights."""
    import comfy.lora
    import comfy.model_base
    import comfy.supported_models
    import torch

    config = FULL_SIZE[name]
    family = name.split(" ", maxsplit=1)[0]
    supported = {"flux dev": comfy.supported_models.Flux, "flux schnell": comfy.supported_models.FluxSchnell}.get(name, comfy.supported_models.SD3)(
        dict(config)
    )
    with torch.device("meta"):
        model = supported.get_model({}, device="meta")
        text = text_class(family)(device="meta", dtype=torch.float32)
    found = comfy.lora.model_lora_keys_clip(text, comfy.lora.model_lora_keys_unet(model, {}))
    out.write_text(
        json.dumps({key: [value, None] if isinstance(value, str) else [value[0], value[1]] for key, value in found.items()}), encoding="utf-8"
    )


if __name__ == "__main__":
    task, *paths = sys.argv[1:]
    sys.argv[1:] = ["--cpu", "--fp32-unet", "--fp32-text-enc", "--fp32-vae"]
    sys.path[0] = str(Path.cwd())
    import comfy.options

    comfy.options.enable_args_parsing()
    if task == "keys":
        keys(paths[0], Path(paths[1]))
    else:
        {"checkpoint": make_checkpoint, "compute": compute, "word": word}[task](*map(Path, paths))
