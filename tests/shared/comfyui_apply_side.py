"""What the nodes of the pack make of ComfyUI's models, beside what its own loaders make. Run as a script inside a checkout.

comfyui_apply_side.py LAYOUT BASE OUT STRENGTH ADAPTER...   weights with each adapter: `ours <stem>.safetensors`, `stock <stem>.safetensors`
comfyui_apply_side.py embedding LAYOUT FOLDER OUT           the vectors that a prompt has before and after an epoch is applied
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROMPT = "a embedding:my-thing, on the moon"
ODD_NAMES = ("a", "a.b", "my thing", "my", "猫 子", "it's new!", "a(b)")


def models(layout: dict[str, Any], base: dict[str, Any], embeddings: Path) -> tuple[Any, Any]:
    """MODEL and CLIP of SD1.5's classes in the layout's sizes."""
    import comfy.lora
    import comfy.model_patcher
    import comfy.sd
    import comfy.sd1_clip
    import comfy.supported_models
    import torch

    unet = comfy.supported_models.SD15(layout["denoiser"]).get_model({}, device="cpu")
    target = SimpleNamespace(params={}, clip=comfy.sd1_clip.SD1ClipModel, tokenizer=comfy.sd1_clip.SD1Tokenizer)
    sizes = {"clip_l_model_config": layout["clip_l"]}
    clip = comfy.sd.CLIP(target, embedding_directory=[str(embeddings)], model_options=sizes, disable_dynamic=True)
    model = comfy.model_patcher.ModelPatcher(unet, torch.device("cpu"), torch.device("cpu"))
    key_map = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, comfy.lora.model_lora_keys_unet(unet, {}))
    weights = {**unet.state_dict(), **clip.cond_stage_model.state_dict()}
    with torch.no_grad():
        for name, weight in base.items():
            weights[key_map[name]].copy_(weight)
    return model, clip


def merged(model: Any, clip: Any) -> dict[str, Any]:
    """Every changed weight as ComfyUI computes it."""
    import comfy.lora
    import comfy.utils

    found = {}
    for patcher in (model, clip.patcher):
        for key, patches in patcher.patches.items():
            weight = comfy.utils.get_attr(patcher.model, key).detach().float().clone()
            found[key] = comfy.lora.calculate_weight(patches, weight, key).contiguous()
    return found


def compare(layout: Path, base: Path, out: Path, strength: float, adapters: list[Path]) -> None:
    import comfy.sd
    from safetensors.torch import load_file, save_file

    from athanor.nodes.patching import apply_adapter
    from athanor.trainer.errors import AthanorError

    model, clip = models(json.loads(layout.read_text(encoding="utf-8")), load_file(base), out)
    for file in adapters:
        tensors = load_file(file)
        save_file(merged(*comfy.sd.load_lora_for_models(model, clip, tensors, strength, strength)), out / f"stock {file.stem}.safetensors")
        try:
            ours = apply_adapter(model, clip, tensors, strength, strength, file.name)
        except AthanorError as error:
            sys.stdout.write(f"{error}\n")
            continue
        save_file(merged(*ours), out / f"ours {file.stem}.safetensors")
    assert not model.patches and not clip.patcher.patches, "the models that were given stay as they are"


def embedding(layout: Path, folder: Path, out: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from athanor.nodes import host
    from athanor.nodes.patching import with_embedding

    assert host.temp_folder()
    _, clip = models(json.loads(layout.read_text(encoding="utf-8")), {}, folder)
    patched = with_embedding(clip, load_file(folder / "epoch.safetensors"), "my-thing", 0.5, "test")

    def vectors(of: Any) -> torch.Tensor:
        return torch.stack([token[0] for token in of.tokenize(PROMPT)["l"][0] if isinstance(token[0], torch.Tensor)])

    # A second word on top, as A1111's files hold it, leaves the first one be.
    both = with_embedding(patched, {"*": load_file(folder / "epoch.safetensors")["emb_params"] + 1}, "other", 1.0, "test")
    second = both.tokenize("embedding:other x")["l"][0]
    told = torch.stack([token[0] for token in second if isinstance(token[0], torch.Tensor)])
    # Names that a word of a prompt cannot have, and one that another begins with.
    odd = clip
    for i, name in enumerate(ODD_NAMES):
        odd = with_embedding(odd, {"emb_params": torch.full((1, 32), float(i))}, name, 1.0, "test")
    read = [
        token[0] for token in odd.tokenize(", ".join(f"(embedding:{name}:1.5)" for name in ODD_NAMES))["l"][0] if isinstance(token[0], torch.Tensor)
    ]
    results = {"before": vectors(clip), "after": vectors(patched), "again": vectors(clip), "both": vectors(both), "second": told}
    save_file({**results, "odd": torch.stack(read) if read else torch.zeros(0)}, out)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.argv[1:] = ["--cpu", "--fp32-unet", "--fp32-text-enc"]
    sys.path[0] = str(Path.cwd())
    import comfy.options

    comfy.options.enable_args_parsing()
    if arguments[0] == "embedding":
        embedding(*map(Path, arguments[1:]))
    else:
        layout, base, out, strength, *adapters = arguments
        compare(Path(layout), Path(base), Path(out), float(strength), [Path(file) for file in adapters])
