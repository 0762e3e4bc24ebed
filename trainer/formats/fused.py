"""LoRAs of the transformers whose authors keep query, key and value in one matrix: cut into diffusers' layers, and put together again.

sd-scripts and ComfyUI's own trainer name the fused layers, diffusers, ai-toolkit and OneTrainer the single ones. Both ways are exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..errors import AthanorError
from .native import Place, Places, flux_places, sd3_places

if TYPE_CHECKING:
    import torch

LayerTensors = Mapping[str, "torch.Tensor"]
"""Of one layer, by suffix."""

_OF_ROWS = ("lora_up.weight", "hada_w1_a", "hada_w2_a", "diff", "diff_b", "lora_magnitude_vector")
_OF_COLUMNS = ("lora_down.weight", "hada_w1_b", "hada_w2_b", "alpha")


def places_of(names: Iterable[str]) -> Places:
    """Of the transformer with these modules; empty for a model that is kept as diffusers has it."""
    names = list(names)
    num_blocks, num_single = (_count(names, kind) for kind in ("transformer_blocks", "single_transformer_blocks"))
    if num_single:
        return flux_places(num_blocks, num_single, any("guidance_embedder" in name for name in names))
    if num_blocks and "pos_embed.proj" in names:
        return sd3_places(num_blocks, {int(name.split(".")[1]) for name in names if re.match(r"transformer_blocks\.\d+\.attn2\.", name)})
    return {}


def _count(names: Iterable[str], kind: str) -> int:
    return 1 + max((int(match[1]) for name in names if (match := re.match(rf"{kind}\.(\d+)\.", name))), default=-1)


def cut(tensors: LayerTensors, place: Place) -> dict[str, torch.Tensor]:
    """What a fused layer's adapter is for the rows of `place`. Raises AthanorError for a kind whose rows belong together."""
    if place.whole and not place.swapped:
        return dict(tensors)
    made = {}
    for suffix, tensor in tensors.items():
        if suffix in _OF_ROWS or (suffix == "dora_scale" and tensor.shape[0] > 1):
            made[suffix] = place.rows(tensor)
        elif suffix in _OF_COLUMNS or suffix == "dora_scale":
            made[suffix] = tensor
        else:
            raise AthanorError(f"The file holds {suffix} for {place.module}, which cannot be cut into the layers that are trained here.")
    return _trimmed(made) if "lora_up.weight" in made and not place.whole else made


def _trimmed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without the ranks that belong to the other rows of a block-diagonal matrix."""
    up, down = tensors["lora_up.weight"], tensors.get("lora_down.weight")
    if up.ndim != 2 or down is None or down.ndim != 2 or "alpha" not in tensors:
        return tensors
    used = (up != 0).any(dim=0)
    if bool(used.all()) or not bool(used.any()):
        return tensors
    share = int(used.sum()) / len(used)
    return {**tensors, "lora_up.weight": up[:, used].contiguous(), "lora_down.weight": down[used].contiguous(), "alpha": tensors["alpha"] * share}


def fuse(layers: Mapping[str, LayerTensors], places: Places) -> dict[str, dict[str, torch.Tensor]]:
    """LoRAs of diffusers' layers as those of the original ones, by the original's module name.

    Below one another go the downs, diagonally the ups: W + s (⊕ up_i) [down_i] is W_i + s up_i down_i for each i, so that
    the rank is the sum and alpha keeps the scale s. Parts of several scales have theirs in their ups. Of parts that are not
    there the rows are zero.
    """
    gathered: dict[str, list[tuple[Place, LayerTensors]]] = {}
    for name, tensors in layers.items():
        place = places[name]
        gathered.setdefault(place.module, []).append((place, tensors))
    return {module: _fused(sorted(parts, key=lambda part: part[0].start)) for module, parts in gathered.items()}


def _fused(parts: list[tuple[Place, LayerTensors]]) -> dict[str, torch.Tensor]:
    import torch

    place, tensors = parts[0]
    if place.whole:
        up = tensors["lora_up.weight"]
        return {**tensors, "lora_up.weight": torch.cat(up.chunk(2, dim=0)[::-1]) if place.swapped else up}
    downs, ups = ([tensors[key].float() for _, tensors in parts] for key in ("lora_down.weight", "lora_up.weight"))
    scales = [float(tensors["alpha"]) / len(down) if "alpha" in tensors else 1.0 for (_, tensors), down in zip(parts, downs, strict=True)]
    scale = scales[0] if len(set(scales)) == 1 else 1.0
    share = len(ups[0]) // place.size
    rank = sum(len(down) for down in downs)
    whole = torch.zeros(share * place.of, rank)
    column = 0
    for (each, _), up, own in zip(parts, ups, scales, strict=True):
        whole[each.start * share : (each.start + each.size) * share, column : column + up.shape[1]] = up * (own / scale)
        column += up.shape[1]
    return {"lora_down.weight": torch.cat(downs), "lora_up.weight": whole, "alpha": torch.tensor(scale * rank)}
