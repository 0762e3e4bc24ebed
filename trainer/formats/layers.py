"""An adapter file's tensors, sorted by the layers of the base that they belong to, whichever way its names are spelt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AthanorError
from ..families.base import Family, ModulePlaces, Part
from .fused import cut, places_of
from .header import Header
from .native import Place

if TYPE_CHECKING:
    import torch

_SUFFIXES: tuple[tuple[str, str], ...] = (
    (
        r"(?:\.lora_up\.weight|\.lora_B(?:\.default)?(?:\.weight)?|_lora\.up\.weight|\.lora\.up\.weight|\.lora_linear_layer\.up\.weight)",
        "lora_up.weight",
    ),
    (
        r"(?:\.lora_down\.weight|\.lora_A(?:\.default)?(?:\.weight)?|_lora\.down\.weight|\.lora\.down\.weight|\.lora_linear_layer\.down\.weight)",
        "lora_down.weight",
    ),
    (r"\.ia3_l(?:\.default)?(?:\.weight)?", "ia3_l"),
    (
        r"\.(?P<kept>lora_mid\.weight|alpha|dora_scale|hada_\w+|lokr_\w+|on_input|lora_magnitude_vector|diff|diff_b|w_norm|b_norm|weight)(?:\.default)?(?:\.weight)?",
        "",
    ),
)
_DOTTED = {
    "denoiser": ("base_model.model.", "unet.", "transformer.", "diffusion_model."),
    "text_encoder": ("text_encoder.",),
    "text_encoder_2": ("text_encoder_2.",),
    "text_encoder_3": ("text_encoder_3.",),
}
_OF_LYCORIS = {"w_norm": "diff", "b_norm": "diff_b"}
"""Of norms: the same as whole changes elsewhere."""
_BUNDLED = "bundle_emb."
_KEPT_ELSEWHERE = (_BUNDLED, "lora_te3_", "text_encoder_3", "text_encoders.t5xxl")
"""Embeddings that OneTrainer puts along, and T5, which is rarely trained here."""
_OF_TEXT = ("lora_te", "text_encoder")
_NUM_TOLD = 3
_UNDERSCORED = ("lora_unet_", "lora_transformer_", "lycoris_")


def read_tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """Raises AthanorError if `path` is not a whole safetensors file."""
    from safetensors.torch import load_file

    from .header import read_header

    header = read_header(path)
    tensors = load_file(path)
    return {**tensors, **_told_alphas(tensors, _told(header, path))}


def _told(header: Header, path: Path) -> dict[str, Any]:
    """What peft and diffusers tell of a LoRA beside its tensors; empty where they tell nothing."""
    beside = path.with_name("adapter_config.json")
    text = header.metadata.get("lora_adapter_metadata")
    if text is None and path.name.startswith("adapter_model") and beside.is_file():
        text = beside.read_text(encoding="utf-8")
    try:
        told = json.loads(text or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _told_alphas(tensors: Mapping[str, torch.Tensor], told: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The alphas that peft keeps out of the tensors, where they would be taken for the rank. `told` may have a part's name in front of its keys."""
    import torch

    if any(key.endswith(".alpha") for key in tensors):
        return {}
    found = {}
    for key, tensor in tensors.items():
        match = re.search(_SUFFIXES[1][0] + "$", key)
        if match is None:
            continue
        base = key[: match.start()]
        part = next(
            (prefix for prefix in ("unet.", "transformer.", "text_encoder.", "text_encoder_2.", "text_encoder_3.") if base.startswith(prefix)), ""
        )
        alpha = told.get(f"{part}lora_alpha", told.get("lora_alpha"))
        patterns = told.get(f"{part}alpha_pattern", told.get("alpha_pattern")) or {}
        alpha = next((value for name, value in patterns.items() if base == name or base.endswith(f".{name}")), alpha)
        if alpha is not None:
            stable = told.get(f"{part}use_rslora", told.get("use_rslora"))
            found[f"{base}.alpha"] = torch.tensor(float(alpha) * (tensor.shape[0] ** 0.5 if stable else 1.0))
    return found


def split_key(key: str) -> tuple[str, str] | None:
    """A tensor's name as the layer's and our suffix; None where it is no adapter's."""
    for expression, suffix in _SUFFIXES:
        match = re.search(expression + "$", key)
        if match:
            return key[: match.start()], suffix or match["kept"]
    return None


def grouped(tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors by the layer's name as the file spells it, and by our suffix; what is no adapter's is left out."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        split = split_key(key)
        if split is not None:
            found.setdefault(split[0], {})[split[1]] = tensor
    return {base: _ours(held) for base, held in found.items()}


def layers_of(tensors: Mapping[str, torch.Tensor], family: Family, part: Part, names: Iterable[str]) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of one part of the model, by the module's name (one of `names`) and our suffix."""
    names = list(names)
    known = _spellings(family, part, names)
    originals = _originals(part, names)
    found: dict[str, dict[str, torch.Tensor]] = {}
    fused: dict[str, dict[str, torch.Tensor]] = {}
    for base, held in grouped(tensors).items():
        plain = _plain(part, base)
        if plain in known:
            found.setdefault(known[plain], {}).update(held)
        elif plain in originals:
            fused.setdefault(plain, {}).update(held)
    for plain, held in fused.items():
        for name, place in originals[plain]:
            found.setdefault(name, cut(held, place))
    return found


def unread_note(tensors: Mapping[str, torch.Tensor], family: Family, names: Mapping[Part, Iterable[str]], where: str) -> str:
    """A sentence or two if a file has tensors for no module of `names`, or brings embeddings along; "" where all are read, or belong to text encoders that are not among them."""
    taken: set[str] = set()
    for part, modules in names.items():
        modules = list(modules)
        known = {*_spellings(family, part, modules), *_originals(part, modules)}
        taken |= {base for base in grouped(tensors) if _plain(part, base) in known}
    elsewhere = _KEPT_ELSEWHERE if set(family.text_parts) <= names.keys() else (*_KEPT_ELSEWHERE, *_OF_TEXT)
    left = [key for key in sorted(tensors) if (split_key(key) or ("",))[0] not in taken and not key.startswith(elsewhere)]
    told = []
    if left:
        more = f" and {len(left) - _NUM_TOLD} more" if len(left) > _NUM_TOLD else ""
        told.append(
            f"{where}: of its {len(tensors)} tensors these belong to no layer of this model and are not read: {', '.join(left[:_NUM_TOLD])}{more}."
        )
    if words := list(dict.fromkeys(key.split(".")[1] for key in sorted(tensors) if key.startswith(_BUNDLED))):
        told.append(
            f"{where} brings embeddings along ({', '.join(words)}), which are not read; export them from their trainer as files of their own."
        )
    return " ".join(told)


def placed_layers(
    tensors: Mapping[str, torch.Tensor], family: Family, part: Part, places: ModulePlaces
) -> tuple[list[tuple[str, Place, dict[str, torch.Tensor]]], set[str]]:
    """What a file has for one part of the model: the name of each tensor of the base's file, the rows of it, and the tensors by our suffix.

    Fused layers stay fused where the base's file has them so. Also the names, as the file spells them, of the layers that were found.
    """
    known = _spellings(family, part, places)
    fused = {place.module.replace(".", "_"): name for name, place in places.values() if place.module}
    found, taken = [], set()
    for base, held in grouped(tensors).items():
        plain = _plain(part, base)
        if plain in known:
            found.append((*places[known[plain]], held))
        elif plain in fused:
            found.append((fused[plain], Place(""), held))
        else:
            continue
        taken.add(base)
    return found, taken


def _originals(part: Part, names: Iterable[str]) -> dict[str, list[tuple[str, Place]]]:
    """Of a layer's name in its authors' files: the layers that it is cut into."""
    found: dict[str, list[tuple[str, Place]]] = {}
    for name, place in (places_of(names) if part == "denoiser" else {}).items():
        found.setdefault(place.module.replace(".", "_"), []).append((name, place))
    return found


def _ours(held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """LyCORIS's norms under the names of whole changes. peft's IA³ holds 1 + w, as a column for the outputs and as a row for the inputs of a linear layer."""
    held = {_OF_LYCORIS.get(suffix, suffix): tensor for suffix, tensor in held.items()}
    if "ia3_l" not in held:
        return held
    import torch

    values = held["ia3_l"]
    if values.dim() != 2:
        raise AthanorError("This IA³ of peft scales convolutions, of which its file does not tell the side; it cannot be read.")
    return {"weight": values.float().flatten() - 1, "on_input": torch.tensor(float(values.shape[0] == 1))}


def _spellings(family: Family, part: Part, names: Iterable[str]) -> dict[str, str]:
    known = {}
    for name in names:
        for spelt in (family.export_key(part, name), *family.other_names(part, name), name):
            plain = _plain(part, spelt)
            known[plain] = name
            if plain.endswith("_to_out_0"):
                # diffusers' processors know it without its number.
                known[plain.removesuffix("_0")] = name
        for spelt in spellings(name):
            known[spelt] = name
            # What diffusers makes of its own names for kohya's readers.
            known.setdefault(f"{'transformer' if part == 'denoiser' else part}_{spelt}", name)
        if (exported := family.export_key(part, name)).startswith("lora_te3_"):
            # OneTrainer counts FLUX's T5 as the second encoder.
            known.setdefault(exported.replace("lora_te3_", "lora_te2_"), name)
        if part != "denoiser" and (len(family.text_parts) == 1 or exported.startswith("lora_te3_")):
            # peft's own file of one encoder, where no other has modules of these names.
            known.setdefault(f"base_model_model_{_plain(part, name)}", name)
    # Where transformers keeps CLIP without a text model of its own, trainers write names without it, and others with it.
    for plain, name in list(known.items()) if part != "denoiser" else ():
        known.setdefault(plain.replace("text_model_", ""), name)
        known.setdefault(plain.replace("base_model_model_", "base_model_model_text_model_"), name)
    return known


def spellings(name: str) -> tuple[str, ...]:
    """A module's name with underscores, as files have it; old versions of diffusers leave out the 0 of to_out."""
    plain = name.replace(".", "_")
    return (plain, plain.removesuffix("_0")) if plain.endswith("to_out_0") else (plain,)


def _plain(part: Part, base: str) -> str:
    """A layer's name without the prefix and the dots, by which spellings differ."""
    for prefix in _DOTTED[part]:
        base = base.removeprefix(prefix)
    base = base.replace(".processor.", ".").replace(".", "_")
    if part == "denoiser":
        for prefix in _UNDERSCORED:
            base = base.removeprefix(prefix)
    return base
