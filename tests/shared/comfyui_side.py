"""What only ComfyUI's own modules can tell. Run as a script inside a checkout, since its modules need its command line.

comfyui_side.py checkpoint OUT                         a checkpoint in the full SD1.5 layout with random weights, fp16
comfyui_side.py predict CHECKPOINT LORA INPUTS OUT     what ComfyUI makes of fixed inputs, in fp32, bare and with the LoRA
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4],
    "num_heads": 8, "use_spatial_transformer": True, "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "context_dim": 768, "use_linear_in_transformer": False,
    "adm_in_channels": None, "legacy": False, "use_temporal_attention": False, "use_temporal_resblock": False,
}  # fmt: skip
VAE = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip
PROMPT = "a photo of a monster toy on the moon"


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes as ComfyUI's own classes have them."""
    import comfy.ops
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.sd1_clip import SD1ClipModel

    with torch.device("meta"):
        unet = UNetModel(**UNET, device="meta", operations=comfy.ops.disable_weight_init)
        vae = AutoencoderKL(ddconfig=VAE, embed_dim=4)
        text = SD1ClipModel(device="meta", dtype=torch.float32)
    found = {f"model.diffusion_model.{key}": value for key, value in unet.state_dict().items()}
    found |= {f"first_stage_model.{key}": value for key, value in vae.state_dict().items()}
    prefix = "clip_l.transformer.text_model."
    found |= {
        f"cond_stage_model.transformer.text_model.{key[len(prefix) :]}": value for key, value in text.state_dict().items() if key.startswith(prefix)
    }
    return {key: tuple(value.shape) for key, value in found.items()}


def make_checkpoint(out: Path) -> None:
    """Weights that keep a signal's size from layer to layer, so that nothing fades and nothing overflows."""
    import math

    import torch
    from safetensors.torch import save_file

    generator, tensors = torch.Generator().manual_seed(0), {}
    for key, shape in sorted(shapes().items()):
        if len(shape) < 2:
            tensors[key] = torch.full(shape, float(key.endswith("weight")), dtype=torch.float16)
            continue
        spread = 0.02 if "_embedding." in key else 1 / math.sqrt(math.prod(shape[1:]))
        tensors[key] = (torch.randn(shape, generator=generator) * spread).half()
    save_file(tensors, out)


def predict(checkpoint: Path, lora: Path, inputs: Path, out: Path) -> None:
    """Writes bare.noise, bare.text, lora.noise, lora.text; prints how many weights of each part the LoRA changes."""
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
            noise = unet.model.diffusion_model(given["latents"], given["times"], context=given["context"])
            states = text.encode_from_tokens(text.tokenize(PROMPT))
        results |= {f"{name}.noise": noise.float().contiguous().clone(), f"{name}.text": states.float().contiguous().clone()}
    save_file(results, out)
    sys.stdout.write(json.dumps({"denoiser": len(patched[0].patches), "text_encoder": len(patched[1].patcher.patches)}) + "\n")


if __name__ == "__main__":
    task, *paths = sys.argv[1:]
    sys.argv[1:] = ["--cpu", "--fp32-unet", "--fp32-text-enc"]
    sys.path[0] = str(Path.cwd())
    import comfy.options

    comfy.options.enable_args_parsing()
    {"checkpoint": make_checkpoint, "predict": predict}[task](*map(Path, paths))
