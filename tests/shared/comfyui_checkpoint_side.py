"""What ComfyUI's own loaders make of a trained model's file. Run as a script inside a checkout, since its modules need its command line.

comfyui_checkpoint_side.py whole FILE INPUTS OUT [LAYOUT]  by Load Checkpoint: noise and text, in fp32; prints which weights are not those of the file; of a
                                                     small SDXL of the sizes in LAYOUT without its autoencoder
comfyui_checkpoint_side.py denoiser FILE INPUTS OUT  by Load Diffusion Model: the velocity, in fp32; prints the same
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PROMPT = "a photo of a monster toy on the moon"


def _compared(saved: dict, loaded: dict) -> dict[str, object]:
    """Of every number of the file that is loaded: how many tensors there are, and which differ or are nowhere."""
    numbers = {key: value for key, value in saved.items() if value.is_floating_point() and not key.endswith("logit_scale")}
    missing = sorted(key for key in numbers if key not in loaded)
    different = sorted(
        key for key, value in numbers.items() if key in loaded and not (loaded[key].reshape(value.shape).cpu().float() == value.float()).all()
    )
    return {"compared": len(numbers) - len(missing), "missing": missing, "different": different}


def _small(file: Path, layout: dict) -> tuple:
    """What Load Checkpoint makes of an SDXL whose sizes it could not find out."""
    import comfy.model_detection
    import comfy.sd
    import comfy.supported_models

    comfy.model_detection.model_config_from_unet = lambda *_, **__: comfy.supported_models.SDXL(layout["denoiser"])
    sizes = {f"{name}_model_config": layout[name] for name in ("clip_l", "clip_g")}
    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(file), output_vae=False, te_model_options=sizes)
    return model, clip, None


def whole(file: Path, inputs: Path, out: Path, layout: Path | None = None) -> None:
    import comfy.model_management
    import folder_paths
    import torch
    from safetensors.torch import load_file, save_file

    import nodes

    folder_paths.add_model_folder_path("checkpoints", str(file.parent))
    given = load_file(inputs)
    if layout is None:
        model, clip, vae = nodes.CheckpointLoaderSimple().load_checkpoint(file.name)
    else:
        model, clip, vae = _small(file, json.loads(layout.read_text(encoding="utf-8")))
    comfy.model_management.load_models_gpu([model])
    with torch.inference_mode():
        told = {"y": given["told"]} if "told" in given else {}
        noise = model.model.diffusion_model(given["latents"], given["times"], context=given["context"], **told)
        states, pooled = clip.encode_from_tokens(clip.tokenize(PROMPT), return_pooled=True)
        loaded = model.state_dict_for_saving(clip.state_dict_for_saving(), None if vae is None else vae.get_sd())
    sys.stdout.write(json.dumps(_compared(load_file(file), loaded)) + "\n")
    results = {"noise": noise, "states": states, "pooled": pooled}
    save_file({key: value.float().contiguous().clone() for key, value in results.items()}, out)


def denoiser(file: Path, inputs: Path, out: Path) -> None:
    import comfy.model_management
    import folder_paths
    import torch
    from safetensors.torch import load_file, save_file

    import nodes

    folder_paths.add_model_folder_path("diffusion_models", str(file.parent))
    given = load_file(inputs)
    (model,) = nodes.UNETLoader().load_unet(file.name, "default")
    comfy.model_management.load_models_gpu([model])
    guidance = {"guidance": torch.tensor([1.0])} if "double" in "".join(model.model.diffusion_model.state_dict()) else {}
    with torch.inference_mode():
        clean = model.model.apply_model(given["latents"], given["times"], c_crossattn=given["states"], y=given["pooled"], **guidance)
        velocity = (given["latents"] - clean) / given["times"].view(-1, 1, 1, 1)
    spelt = {key.replace("_norm.weight", "_norm.scale"): value for key, value in model.model.diffusion_model.state_dict().items()}
    sys.stdout.write(json.dumps(_compared(load_file(file), {**model.model.diffusion_model.state_dict(), **spelt})) + "\n")
    save_file({"velocity": velocity.float().contiguous().clone()}, out)


if __name__ == "__main__":
    task, *paths = sys.argv[1:]
    sys.argv[1:] = ["--cpu", "--fp32-unet", "--fp32-text-enc", "--fp32-vae"]
    sys.path[0] = str(Path.cwd())
    import comfy.options

    comfy.options.enable_args_parsing()
    {"whole": whole, "denoiser": denoiser}[task](*map(Path, paths))
