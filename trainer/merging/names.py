"""What the layers of two files are called alike, however each spells them.

SDXL's U-Net goes by its authors' names in the files of sd-scripts and by diffusers' in others, CLIP by four names, and FLUX.1 and
SD3 have query, key and value in one matrix or in three. A file with one layer under two names is read as if it had only one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ..formats.native import Place, flux_places, sd3_places
from ..formats.unet_names import diffusers_spelling

_PREFIXES = re.compile(r"^(base_model\.model\.|unet\.|transformer\.|diffusion_model\.|lora_unet_|lora_transformer_|lycoris_)+")
_TEXT = re.compile(
    r"(?:lora_te(?P<kohya>[123]?)_|text_encoder(?:_(?P<diffusers>[23]))?\.|text_encoders\.(?P<comfyui>clip_[lgh]|t5xxl)\.transformer\.)(?:text_model[._])?(?P<rest>.+)"
)
_COMFYUI_NUMBERS = {"clip_l": "1", "clip_h": "1", "clip_g": "2", "t5xxl": "3"}
_FLUX_BLOCKS, _SD3_BLOCKS = (19, 38), (24, 38)


@dataclass(frozen=True)
class LayerName:
    key: str
    """The same for every spelling; of a layer that has several of diffusers' layers in it, its authors' name."""
    spelt: str
    """As the file has it, without its prefix; what people know it by."""
    pieces: tuple[tuple[str, Place], ...] = ()
    """The keys of diffusers' layers that lie in it, and their rows; empty of a layer that is one by itself."""

    @property
    def called(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.spelt, self.key)))


def layer_name(base: str, num_joint: int = 0) -> LayerName:
    """Of a layer by its name in a file. `num_joint` blocks are known of an SD3: the last one is made otherwise."""
    spelt = plain_name(base)
    if text := _TEXT.fullmatch(base):
        return LayerName(_text_key(text), spelt)
    key = re.sub(r"_to_out$", "_to_out_0", spelt.replace("_processor_to_", "_to_"))
    pieces = _fused(_SD3_BLOCKS[0] if num_joint <= _SD3_BLOCKS[0] else max(num_joint, _SD3_BLOCKS[1])).get(key, ())
    if len(pieces) == 1 and pieces[0][1].whole and not pieces[0][1].swapped:
        return LayerName(pieces[0][0], spelt)
    return LayerName(key, spelt, pieces) if pieces else LayerName(diffusers_spelling(key), spelt)


def plain_name(base: str) -> str:
    """A layer's name without prefix and dots."""
    return _PREFIXES.sub("", base.replace("text_encoder_2.", "lora_te2_").replace("text_encoder.", "lora_te_")).replace(".", "_")


def num_joint_blocks(bases: Iterable[str]) -> int:
    """How many blocks an SD3 has at least, of which these layers are."""
    found = (re.search(r"(?:joint|transformer)_blocks[._](\d+)[._]", base) for base in bases)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def transformer_module(key: str) -> str:
    """diffusers' name of a FLUX.1's or SD3's layer, with its dots; "" of another."""
    return _modules().get(key, "")


def _text_key(text: re.Match[str]) -> str:
    rest = text["rest"].replace(".", "_")
    is_t5 = rest.startswith(("encoder_block_", "block_"))
    number = text["kohya"] or text["diffusers"] or _COMFYUI_NUMBERS.get(text["comfyui"] or "", "1")
    # FLUX's T5 is the second encoder to some, and the third to others.
    return f"lora_te{'3' if is_t5 else number}_{rest}"


@lru_cache(maxsize=8)
def _fused(num_joint: int) -> dict[str, tuple[tuple[str, Place], ...]]:
    found: dict[str, list[tuple[str, Place]]] = {}
    for places in (flux_places(*_FLUX_BLOCKS, True), sd3_places(num_joint, range(num_joint))):
        for module, place in places.items():
            entry = (module.replace(".", "_"), place)
            if entry not in found.setdefault(place.module.replace(".", "_"), []):
                found[place.module.replace(".", "_")].append(entry)
    return {native: tuple(pieces) for native, pieces in found.items()}


@lru_cache(maxsize=1)
def _modules() -> dict[str, str]:
    places = {**flux_places(*_FLUX_BLOCKS, True), **sd3_places(_SD3_BLOCKS[1], range(_SD3_BLOCKS[1]))}
    return {module.replace(".", "_"): module for module in places}
