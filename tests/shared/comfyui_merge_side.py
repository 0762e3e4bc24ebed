"""A merged checkpoint beside what ComfyUI itself makes of the base and Load LoRA. Run as a script inside a checkout.

comfyui_merge_side.py BASE MERGED STRENGTH_MODEL STRENGTH_CLIP LORA...  prints how many weights are equal to the bit in fp16, how many there are, and how many a LoRA changed
"""

from __future__ import annotations

import sys
from pathlib import Path
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


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.argv[1:] = ["--cpu"]
    sys.path[0] = str(Path.cwd())
    import comfy.options

    comfy.options.enable_args_parsing()
    main(*arguments)
