"""Adapter files onto ComfyUI's models, by ComfyUI's own patches: what its loader knows and what it does not."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.lora
import comfy.lora_convert
import comfy.weight_adapter

from ..trainer.adapters import adapter
from ..trainer.adapters.dora import PEFT_MAGNITUDE
from ..trainer.errors import AthanorError
from ..trainer.files import replace_atomically
from ..trainer.formats.embedding import fitting_vectors
from ..trainer.formats.layers import grouped, spellings, split_key
from . import host

if TYPE_CHECKING:
    import torch

_PREFIXES = ("base_model.model.", "unet.", "transformer.", "diffusion_model.", "lora_unet_", "lora_transformer_", "lycoris_")
_STOCK_PREFIXES = ("lora_unet_", "lora_transformer_", "lycoris_")


_OWN = {"on_input": "ia3", PEFT_MAGNITUDE: "dora"}
"""Kinds that ComfyUI has no adapter for, or computes in another way, by what only they have."""


class OwnPatch(comfy.weight_adapter.WeightAdapterBase):
    """W + strength * change, as the kind of adapter itself computes it."""

    def __init__(self, name: str, loaded_keys: set[str], weights: Mapping[str, torch.Tensor]):
        self.name = name
        self.loaded_keys = loaded_keys
        self.weights = weights

    def calculate_weight(
        self, weight, key, strength, strength_model, offset, function, intermediate_dtype=None, original_weight=None
    ):  # The signature is ComfyUI's.
        # `function` puts rows in ComfyUI's order and is its own inverse; the tensors are in the file's order.
        change = adapter(self.name).change(self.weights, function(weight))
        weight += function((strength * change).to(weight.dtype))
        return weight


Patches = dict[str, Any]
"""By ComfyUI's names of the weights."""


def apply_adapter(model: Any, clip: Any, tensors: Mapping[str, torch.Tensor], strength_model: float, strength_clip: float, name: str) -> tuple:
    """MODEL and CLIP (None stays None) with the adapter in them; the ones given stay as they are.

    Raises AthanorError where nothing in the file belongs to them.
    """
    return with_patches(model, clip, adapter_patches(model, clip, tensors, name), strength_model, strength_clip)


def adapter_patches(model: Any, clip: Any, tensors: Mapping[str, torch.Tensor], name: str) -> Patches:
    """What the adapter in the file changes, whatever its strength. Raises AthanorError as `apply_adapter` does."""
    key_map: dict[str, Any] = {}
    if model is not None:
        comfy.lora.model_lora_keys_unet(model.model, key_map)
    if clip is not None:
        comfy.lora.model_lora_keys_clip(clip.cond_stage_model, key_map)
    spelt = _as_stock(comfy.lora_convert.convert_lora(dict(tensors)), key_map)
    layers = grouped(spelt)
    own = {base: kind for base, held in layers.items() if base in key_map for mark, kind in _OWN.items() if mark in held}
    others = {key: tensor for key, tensor in spelt.items() if (split_key(key) or ("",))[0] not in own}
    patches = comfy.lora.load_lora(others, key_map, log_missing=False)
    for base, kind in own.items():
        patches[key_map[base]] = OwnPatch(kind, {f"{base}.{suffix}" for suffix in layers[base]}, layers[base])
    if not patches:
        raise AthanorError(f"{name} holds nothing that fits this model; apply it to a model of the family that it was trained on.")
    return patches


def with_patches(model: Any, clip: Any, patches: Patches, strength_model: float, strength_clip: float) -> tuple:
    patched_model = patched_clip = None
    if model is not None:
        patched_model = model.clone()
        patched_model.add_patches(patches, strength_model)
    if clip is not None:
        patched_clip = clip.clone()
        patched_clip.add_patches(patches, strength_clip)
    return patched_model, patched_clip


def _as_stock(tensors: Mapping[str, torch.Tensor], key_map: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors under names that ComfyUI knows, where it knows the layer by another spelling than the file's."""
    known: dict[str, str] = {}
    for name in key_map:
        if name.startswith(_STOCK_PREFIXES):
            known.setdefault(_plain(name), name)
            for spelt in spellings(_plain(name)):
                known.setdefault(spelt, name)
                known.setdefault(f"transformer_{spelt}", name)
        elif name.startswith("lora_te"):
            # As trainers write it where transformers has no text model in CLIP any more.
            known.setdefault(name.replace("_text_model_", "_"), name)
    found = {}
    for key, tensor in tensors.items():
        base, suffix = split_key(key) or (None, None)
        if base is None or base in key_map:
            found[key] = tensor
            continue
        stock = known.get(_plain(base))
        found[key if stock is None else f"{stock}{'' if suffix is None else key[len(base) :]}"] = tensor
    return found


def _plain(base: str) -> str:
    for prefix in _PREFIXES:
        base = base.removeprefix(prefix)
    return base.replace(".processor.", ".").replace(".", "_")


class _EpochTokenizer:
    """A tokenizer for which one name of an embedding means one epoch; all else is the given one's.

    ComfyUI looks through the folders of embeddings in no order, so that of two files of one name either might be read.
    """

    def __init__(self, tokenizer: Any, name: re.Pattern[str], file_name: str):
        self._tokenizer, self._name, self._file_name = tokenizer, name, file_name

    @property
    def inner(self) -> Any:
        return self._tokenizer

    def tokenize_with_weights(self, text: str, *arguments: Any, **options: Any) -> Any:
        return self._tokenizer.tokenize_with_weights(self._name.sub(self._file_name, text), *arguments, **options)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return getattr(self._tokenizer, attribute)


def with_embedding(clip: Any, tensors: Mapping[str, torch.Tensor], token: str, strength: float, fingerprint: str) -> Any:
    """CLIP whose prompts read `embedding:token` as these vectors times `strength`, whatever file of that name there is."""
    from safetensors.torch import save_file

    folder = host.temp_folder() / "athanor-embeddings"
    widths = _embedding_widths(clip.tokenizer)
    # Tokenizers do not know the width of small models; ComfyUI itself takes what is there.
    fitting = fitting_vectors(widths, tensors) or tensors
    scaled = {key: (tensor.float() * strength).contiguous() for key, tensor in fitting.items()}
    replace_atomically(folder / f"{token}-{fingerprint}.safetensors", lambda temporary: save_file(scaled, temporary))
    tokenizer = copy.copy(clip.tokenizer)
    for attribute, value in list(vars(clip.tokenizer).items()):
        if hasattr(value, "embedding_directory"):
            inner = copy.copy(value)
            inner.embedding_directory = [str(folder), *_as_list(value.embedding_directory)]
            setattr(tokenizer, attribute, inner)
    name = re.compile(rf"embedding:{re.escape(token)}(?:\.(?:safetensors|pt|bin))?(?![\w-])", re.IGNORECASE)
    patched = clip.clone()
    patched.tokenizer = _EpochTokenizer(tokenizer, name, f"embedding:{token}-{fingerprint}")
    return patched


def _embedding_widths(tokenizer: Any) -> dict[str, int]:
    """By the keys under which ComfyUI's tokenizers look for embeddings how wide these are."""
    while isinstance(tokenizer, _EpochTokenizer):
        tokenizer = tokenizer.inner
    inner = [value for value in vars(tokenizer).values() if hasattr(value, "embedding_directory")]
    return {each.embedding_key: each.embedding_size for each in inner if each.embedding_key and each.embedding_size}


def _as_list(folders: Any) -> list[str]:
    return [folders] if isinstance(folders, (str, Path)) else list(folders or [])
