"""Where files keep the weight of each module, told from names and shapes; no weight is read."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from ..formats.fused import places_of
from ..formats.header import Header
from ..formats.native import Place, Places, flux_places, sd3_places
from ._clip import open_clip_name
from ._native import count_blocks
from ._parts import PartKind
from ._t5 import t5_targets
from ._unet import unet_prefix, unet_shape
from .base import ModulePlaces

_CLIP_MODULES = (*(f"self_attn.{letter}_proj" for letter in ("q", "k", "v", "out")), "mlp.fc1", "mlp.fc2")
_WEIGHT = ".weight"


def unet_places(header: Header) -> ModulePlaces:
    """Every module of the U-Net; empty where the file has none."""
    prefix = unet_prefix(header)
    if prefix is None:
        return {}
    shape = unet_shape(header.shapes, prefix)
    natives = [name[len(prefix) : -len(_WEIGHT)] for name in header.shapes if name.startswith(prefix) and name.endswith(_WEIGHT)]
    found = shape.layout.modules(natives, len(shape.widths))
    return {module: (f"{prefix}{native}{_WEIGHT}", Place(native)) for module, native in found.items()}


def places_in(names: Collection[str]) -> Places:
    """Of the FLUX.1 or SD3 transformer with these tensors, named as its authors do, or as diffusers does."""
    num_double, num_joint = count_blocks(names, "double_blocks"), count_blocks(names, "joint_blocks")
    if num_double:
        return flux_places(num_double, count_blocks(names, "single_blocks"), "guidance_in.in_layer.weight" in names)
    if num_joint:
        return sd3_places(num_joint, (i for i in range(num_joint) if f"joint_blocks.{i}.x_block.attn2.qkv.weight" in names))
    return places_of(name.rpartition(".")[0] for name in names)


def transformer_places(header: Header, prefix: str | None) -> ModulePlaces:
    """The modules whose weights the file has behind `prefix`, norms among them, which may call their weight `scale`; none without a prefix."""
    if prefix is None:
        return {}
    names = frozenset(name[len(prefix) :] for name in header.shapes if name.startswith(prefix))
    found = {}
    for module, place in places_in(names).items():
        name = next((each for leaf in (_WEIGHT, ".scale") if (each := f"{place.module}{leaf}") in names), None)
        if name is not None:
            found[module] = (prefix + name, place)
    return found


def clip_places(header: Header, kinds: Sequence[PartKind]) -> ModulePlaces:
    """The linear layers of a CLIP text encoder, in Hugging Face's names; empty where the file has none of `kinds`."""
    found = next(((kind, prefix) for kind in kinds if (prefix := kind.prefix_in(header)) is not None), None)
    if found is None:
        return {}
    kind, prefix = found
    is_open = kind.key.startswith("transformer.resblocks.")
    inner = kind.key.partition("encoder.layers.")[0]
    names = {name[len(prefix) :]: shape for name, shape in header.shapes.items() if name.startswith(prefix)}
    places: ModulePlaces = {}
    for number in range(count_blocks(names, "transformer.resblocks" if is_open else f"{inner}encoder.layers")):
        for module in _CLIP_MODULES:
            plain = f"encoder.layers.{number}.{module}"
            (native, *_), place = open_clip_name(plain + _WEIGHT) if is_open else ((f"{inner}{plain}{_WEIGHT}",), Place(""))
            if native in names:
                places[f"text_model.{plain}"] = (prefix + native, place)
    return places


def t5_places(header: Header, kind: PartKind) -> ModulePlaces:
    prefix = kind.prefix_in(header)
    if prefix is None:
        return {}
    modules = (name[len(prefix) : -len(_WEIGHT)] for name in header.shapes if name.startswith(prefix) and name.endswith(_WEIGHT))
    return {module: (f"{prefix}{module}{_WEIGHT}", Place("")) for module in modules if re.fullmatch(t5_targets(), module)}
