"""Adapter files onto ComfyUI's models, by ComfyUI's own patches: what its loader knows and what it does not."""

from __future__ import annotations

import copy
import hashlib
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


_OWN = {"on_input": "ia3", PEFT_MAGNITUDE: "dora", "lokr_t2": "lokr"}
"""Kinds that ComfyUI has no adapter for, computes in another way, or fails to compute (Tucker's form of LoKr, of which it logs an
error and changes nothing), by what only they have."""


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
    own = {
        base: kind
        for base, held in layers.items()
        if base in key_map
        for mark, kind in _OWN.items()
        if mark in held and adapter(kind).recognises(held)
    }
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
    """A tokenizer for which some names of embeddings mean epochs; all else is the given one's.

    ComfyUI looks through the folders of embeddings in no order, so that of two files of one name either might be read, and
    it ends a name at the first blank. So the names in a prompt are replaced by those of files that only this knows.
    """

    def __init__(self, tokenizer: Any, files: Mapping[str, str]):
        """`files`: their names without endings, by the names in prompts, which are in small letters."""
        self._tokenizer, self._files = tokenizer, files
        # The longest first: one name may be the beginning of another.
        names = "|".join(re.escape(name) for name in sorted(files, key=len, reverse=True))
        self._name = re.compile(rf"embedding:({names})(?:\.(?:safetensors|pt|bin))?(?![\w-]|\.\w)", re.IGNORECASE)

    @property
    def inner(self) -> Any:
        return self._tokenizer

    @property
    def files(self) -> Mapping[str, str]:
        return self._files

    def tokenize_with_weights(self, text: str, *arguments: Any, **options: Any) -> Any:
        read = self._name.sub(lambda found: f"embedding:{self._files.get(found[1].lower(), found[1])}", text)
        return self._tokenizer.tokenize_with_weights(read, *arguments, **options)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return getattr(self._tokenizer, attribute)


def with_embedding(clip: Any, tensors: Mapping[str, torch.Tensor], token: str, strength: float, fingerprint: str) -> Any:
    """CLIP whose prompts read `embedding:token` as these vectors times `strength`, whatever file of that name there is."""
    from safetensors.torch import save_file

    folder = host.temp_folder() / "athanor-embeddings"
    tokenizer, files = (clip.tokenizer.inner, clip.tokenizer.files) if isinstance(clip.tokenizer, _EpochTokenizer) else (clip.tokenizer, {})
    # Tokenizers do not know the width of small models; ComfyUI itself takes what is there.
    fitting = fitting_vectors(_embedding_widths(tokenizer), tensors) or tensors
    scaled = {key: (tensor.float() * strength).contiguous() for key, tensor in fitting.items()}
    file = f"athanor-{hashlib.sha256(f'{token}|{fingerprint}'.encode()).hexdigest()[:20]}"
    replace_atomically(folder / f"{file}.safetensors", lambda temporary: save_file(scaled, temporary))
    patched = clip.clone()
    patched.tokenizer = _EpochTokenizer(_looking_in(tokenizer, str(folder)), {**files, token.lower(): file})
    return patched


def _looking_in(tokenizer: Any, folder: str) -> Any:
    """A copy of the tokenizer whose parts look for embeddings in `folder` first."""
    copied = copy.copy(tokenizer)
    for attribute, value in list(vars(tokenizer).items()):
        if hasattr(value, "embedding_directory"):
            inner = copy.copy(value)
            inner.embedding_directory = [folder, *(each for each in _as_list(value.embedding_directory) if each != folder)]
            setattr(copied, attribute, inner)
    return copied


def _embedding_widths(tokenizer: Any) -> dict[str, int]:
    """By the keys under which ComfyUI's tokenizers look for embeddings how wide these are."""
    inner = [value for value in vars(tokenizer).values() if hasattr(value, "embedding_directory")]
    return {each.embedding_key: each.embedding_size for each in inner if each.embedding_key and each.embedding_size}


def _as_list(folders: Any) -> list[str]:
    return [folders] if isinstance(folders, (str, Path)) else list(folders or [])
