"""A merged checkpoint beside what ComfyUI itself makes of the base and Load LoRA. Run as a script inside a checkout.

comfyui_merge_side.py BASE MERGED STRENGTH_MODEL STRENGTH_CLIP LORA...  prints how many weights are equal to the bit in fp16, how many there are, and how many a LoRA changed
comfyui_merge_side.py save LAYOUT BASE LORA STRENGTH_MODEL STRENGTH_CLIP OUT  what the stock nodes Load LoRA and Save Checkpoint make of it, in fp32, without an autoencoder; LAYOUT
                                                                        has the sizes of a small model
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def weights(patcher: Any) -> tuple[dict[str, Any], int]:
    """Every weight as ComfyUI computes with it, and how many were patched."""
    import comfy.float
    import comfy.lora

    found, patched = {}, 0
    for key, weight in patcher.model.state_dict().items():
        found[key] = weight
        if key in patcher.patches:
            whole = comfy.lora.calculate_weight(patcher.patches[key], weight.float().clone(), key)
            found[key] = comfy.float.stochastic_rounding(whole, weight.dtype)
            patched += 1
    return found, patched


def main(base: str, merged: str, strength_model: str, strength_clip: str, *loras: str) -> None:
    import comfy.sd
    import comfy.utils
    import torch

    with torch.inference_mode():
        model, clip, *_ = comfy.sd.load_checkpoint_guess_config(base, output_vae=False)
        for lora in loras:
            model, clip = comfy.sd.load_lora_for_models(
                model, clip, comfy.utils.load_torch_file(lora, safe_load=True), float(strength_model), float(strength_clip)
            )
        ours_model, ours_clip, *_ = comfy.sd.load_checkpoint_guess_config(merged, output_vae=False)
        for theirs, ours in ((model, ours_model), (clip.patcher, ours_clip.patcher)):
            wanted, patched = weights(theirs)
            found = ours.model.state_dict()
            assert found.keys() == wanted.keys()
            # SD1.5 has none, so that its memory holds whatever was there before.
            wanted = {key: tensor for key, tensor in wanted.items() if "text_projection" not in key}
            # On a CPU it computes in fp32; both as a file in fp16 has them.
            other = [key for key, tensor in wanted.items() if not torch.equal(found[key].half(), tensor.half())]
            equal = len(wanted) - len(other)
            sys.stderr.write(f"not equal: {other}\n")
            sys.stdout.write(f"{equal} {len(wanted)} {patched}\n")


def save(layout_file: str, base: str, lora: str, strength_model: str, strength_clip: str, out: str) -> None:
    import comfy.model_detection
    import comfy.sd
    import comfy.supported_models
    import folder_paths
    import torch
    from comfy_extras.nodes_model_merging import CheckpointSave

    import nodes

    layout = json.loads(Path(layout_file).read_text(encoding="utf-8"))
    sizes = {f"{name}_model_config": layout[name] for name in ("clip_l", "clip_g", "t5xxl") if name in layout}
    if layout["family"] == "sdxl":
        # Its sizes could not be found out.
        comfy.model_detection.model_config_from_unet = lambda *_, **__: comfy.supported_models.SDXL(layout["denoiser"])
    folder_paths.add_model_folder_path("loras", str(Path(lora).parent))
    folder_paths.set_output_directory(str(Path(out).parent))
    with torch.inference_mode():
        model, clip, *_ = comfy.sd.load_checkpoint_guess_config(base, output_vae=False, te_model_options=sizes)
        model, clip = nodes.LoraLoader().load_lora(model, clip, Path(lora).name, float(strength_model), float(strength_clip))
        # Without an autoencoder the node has nothing to save of it.
        CheckpointSave().save(model, clip, SimpleNamespace(get_sd=dict), Path(out).stem)
    saved = next(Path(out).parent.glob(f"{Path(out).stem}_*.safetensors"))
    saved.replace(out)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.argv[1:] = ["--cpu", *(["--fp32-unet", "--fp32-text-enc"] if arguments[0] == "save" else [])]
    sys.path[0] = str(Path.cwd())
    import comfy.options

    comfy.options.enable_args_parsing()
    save(*arguments[1:]) if arguments[0] == "save" else main(*arguments)
