"""Where the modules of diffusers' U-Net live in Stability's files, which ComfyUI, A1111 and sd-scripts use.

One table serves the reading of models, and the reading and writing of LoRAs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

_SINGLE = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_NATIVE_RESNET = {native: module for module, native in _RESNET.items()}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.?(.*)")
_MOST_LEVELS = 4
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.?(.*)")


@dataclass(frozen=True)
class UNetLayout:
    """What the numbers in Stability's names depend on."""

    num_layers: int
    """ResNets of each level on the way down; one more on the way up."""
    attended: frozenset[int]
    """Levels of the way up that have attention, counted from the smallest picture."""

    def native(self, module_name: str) -> str:
        """Stability's name of a module that diffusers calls `module_name`. One without weights keeps its name."""
        if module_name in _SINGLE:
            return _SINGLE[module_name]
        middle = _MIDDLE.fullmatch(module_name)
        if middle is not None:
            kind, index, rest = middle[1], int(middle[2]), middle[3]
            return f"middle_block.1.{rest}" if kind == "attentions" else f"middle_block.{2 * index}.{_RESNET.get(rest, rest)}"
        block = _BLOCK.fullmatch(module_name)
        if block is None:
            return module_name
        way, level, kind, index, rest = block[1], int(block[2]), block[3], int(block[4]), block[5]
        stride = self.num_layers + 1
        side, number = ("input_blocks", stride * level + 1 + index) if way == "down" else ("output_blocks", stride * level + index)
        if kind == "resnets":
            return f"{side}.{number}.0.{_RESNET.get(rest, rest)}"
        if kind == "attentions":
            return f"{side}.{number}.1.{rest}"
        if kind == "downsamplers":
            return f"{side}.{stride * (level + 1)}.0.op"
        return f"{side}.{stride * level + self.num_layers}.{2 if level in self.attended else 1}.conv"

    def modules(self, natives: Iterable[str], num_levels: int) -> dict[str, str]:
        """The inverse of `native`: by diffusers' name of each module, the one of `natives` that it is."""
        blocks, known = self.blocks(num_levels), {native: module for module, native in _SINGLE.items()}
        found = {}
        for native in natives:
            if native in known:
                found[known[native]] = native
                continue
            head, rest = ".".join(native.split(".")[:3]), ".".join(native.split(".")[3:])
            if native in blocks:
                found[blocks[native]] = native
            elif head in blocks:
                found[f"{blocks[head]}.{_NATIVE_RESNET.get(rest, rest) if '.resnets.' in blocks[head] else rest}"] = native
            elif (head := ".".join(native.split(".")[:2])) in blocks:
                rest = ".".join(native.split(".")[2:])
                found[f"{blocks[head]}.{_NATIVE_RESNET.get(rest, rest) if '.resnets.' in blocks[head] else rest}"] = native
        return found

    def blocks(self, num_levels: int) -> dict[str, str]:
        """By Stability's name of each ResNet, transformer and sampler: diffusers'."""
        names = [f"mid_block.{kind}.{i}" for kind, i in (("resnets", 0), ("attentions", 0), ("resnets", 1))]
        for level in range(num_levels):
            for way, num in (("down", self.num_layers), ("up", self.num_layers + 1)):
                names += [f"{way}_blocks.{level}.{kind}.{i}" for kind in ("resnets", "attentions") for i in range(num)]
        blocks = {self.native(f"{name}.norm").removesuffix(".norm"): name for name in names}
        samplers = [f"{way}_blocks.{level}.{way}samplers.0.conv" for way in ("down", "up") for level in range(num_levels - 1)]
        return {**blocks, **{self.native(name): name for name in samplers}}


SD1_LAYOUT = UNetLayout(2, frozenset({1, 2, 3}))
SDXL_LAYOUT = UNetLayout(2, frozenset({0, 1}))


def diffusers_spelling(plain: str) -> str:
    """diffusers' name, with underscores, of a module of SD1's, SD2's or SDXL's U-Net that may go by Stability's; another name stays as it is."""
    known = _underscored()
    if plain in known:
        return known[plain]
    parts = plain.split("_")
    head, rest = ("_".join(part) for part in (parts[:4], parts[4:]))
    if plain.startswith("middle_block_"):
        head, rest = ("_".join(part) for part in (parts[:3], parts[3:]))
    if head not in known:
        return plain
    return f"{known[head]}_{_NATIVE_RESNET.get(rest.replace('layers_', 'layers.'), rest) if '_resnets_' in known[head] else rest}"


@lru_cache(maxsize=1)
def _underscored() -> dict[str, str]:
    names = {native: module for module, native in _SINGLE.items()}
    for layout in (SD1_LAYOUT, SDXL_LAYOUT):
        names |= layout.blocks(_MOST_LEVELS)
    return {native.replace(".", "_"): module.replace(".", "_") for native, module in names.items()}
