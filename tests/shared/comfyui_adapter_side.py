"""What ComfyUI's own loader makes of adapter files. Run as a script inside a checkout, since its modules need its command line.

comfyui_adapter_side.py LAYOUT BASE OUT ADAPTER...

LAYOUT is a JSON file: {"family", "denoiser": arguments of ComfyUI's configuration, "clip_l", "clip_h", "clip_g", "t5xxl": sizes other
than the true ones}. BASE holds the base's weights under the names that adapter files have for them. For each ADAPTER file,
OUT gets `<its stem>@<strength>.safetensors`: the weights of the same names with the adapter in them, as the stock loader puts it
there, and `applied <its stem>@<strength>.safetensors` as Apply Epoch does. Printed are its stem and how many weights each changes.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

STRENGTHS = (1.0, 0.6)


def models(layout: dict[str, Any]) -> tuple[Any, Any]:
    """Denoiser and text encoders without weights, of ComfyUI's own classes, in the layout's sizes."""
    import comfy.sd1_clip
    import comfy.sdxl_clip
    import comfy.supported_models
    import comfy.text_encoders.flux
    import comfy.text_encoders.sd2_clip
    import comfy.text_encoders.sd3_clip
    import torch

    family = layout["family"]
    denoisers = {"sd15": "SD15", "sd2": "SD20", "sdxl": "SDXL", "flux": "Flux", "sd35": "SD3"}
    texts = {
        "sd15": lambda: comfy.sd1_clip.SD1ClipModel,
        "sd2": lambda: comfy.text_encoders.sd2_clip.SD2ClipModel,
        "sdxl": lambda: comfy.sdxl_clip.SDXLClipModel,
        "flux": comfy.text_encoders.flux.flux_clip,
        "sd35": comfy.text_encoders.sd3_clip.sd3_clip,
    }
    sizes = {f"{name}_model_config": layout[name] for name in ("clip_l", "clip_h", "clip_g", "t5xxl") if name in layout}
    with torch.device("meta"):
        denoiser = getattr(comfy.supported_models, denoisers[family])(layout["denoiser"]).get_model({}, device="meta")
        text = texts[family]()(device="meta", dtype=torch.float32, model_options=sizes)
    return denoiser, text


def main(layout_file: Path, base_file: Path, out: Path, adapters: list[Path]) -> None:
    import comfy.lora
    import comfy.lora_convert
    import comfy.utils
    import torch
    from safetensors.torch import load_file, save_file

    from athanor.nodes.patching import adapter_patches

    denoiser, text = models(json.loads(layout_file.read_text(encoding="utf-8")))
    key_map = comfy.lora.model_lora_keys_clip(text, comfy.lora.model_lora_keys_unet(denoiser, {}))
    shapes = {key: value.shape for key, value in {**denoiser.state_dict(), **text.state_dict()}.items()}
    slots = {name: _slot(key_map, name) for name in load_file(base_file)}
    base: dict[str, torch.Tensor] = {}
    for name, weight in load_file(base_file).items():
        key, offset, function = slots[name]
        whole = base.setdefault(key, torch.zeros(shapes[key]))
        part = _part(whole, offset)
        part.copy_(function(weight.reshape(part.shape)))
    model, clip = SimpleNamespace(model=denoiser), SimpleNamespace(cond_stage_model=text)
    for file in adapters:
        tensors = comfy.utils.load_torch_file(str(file))
        stock = comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(tensors)), key_map, log_missing=not _is_for_apply_epoch(file))
        applied = adapter_patches(model, clip, tensors, file.name)
        for strength, (whose, patches) in itertools.product(STRENGTHS, {"": stock, "applied ": applied}.items()):
            merged = {key: weight.clone() for key, weight in base.items()}
            for target, patch in patches.items():
                key, offset, function = (target, None, None) if isinstance(target, str) else (*target, None)[:3]
                merged[key] = comfy.lora.calculate_weight([(strength, patch, 1.0, offset, function)], merged[key], key)
            found = {}
            for name, (key, offset, function) in slots.items():
                found[name] = function(_part(merged[key], offset)).contiguous().clone()
            save_file(found, out / f"{whose}{file.stem}@{strength:g}.safetensors")
        sys.stdout.write(f"{file.stem} {len(stock)} {len(applied)}\n")


def _is_for_apply_epoch(file: Path) -> bool:
    """Whether the stock loader would complain of what it does not know."""
    return file.stem.startswith("other-")


def _slot(key_map: dict[str, Any], name: str) -> tuple[str, Any, Any]:
    """The weight of that name, the rows of it if it is one of several in one weight, and how their order differs (its own inverse)."""
    target = key_map[name]
    if isinstance(target, str):
        return target, None, lambda weight: weight
    key, offset, function = (*target, None)[:3]
    return key, offset, function or (lambda weight: weight)


def _part(weight: Any, offset: Any) -> Any:
    return weight if offset is None else weight.narrow(*offset)


if __name__ == "__main__":
    layout_file, base_file, out, *adapters = map(Path, sys.argv[1:])
    sys.argv[1:] = ["--cpu"]
    sys.path[0] = str(Path.cwd())
    import comfy.options

    comfy.options.enable_args_parsing()
    main(layout_file, base_file, out, adapters)
