"""Where a trained model's tensors go in files: in the whole checkpoints of Stability's families, or in the denoiser's own file.

Names of modules are diffusers' and transformers'; native ones are those of the authors' files, which ComfyUI loads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import AthanorError
from ..formats.header import read_model_header
from ..formats.native import Place
from ..formats.unet_names import UNetLayout
from ..types import BaseModel
from ._clip import open_clip_name
from ._native import TensorFile, count_blocks
from ._parts import T5, PartKind, open_any, open_part, text_paths, vae_paths
from ._places import places_in
from ._unet import unet_prefix, unet_shape
from ._vae import SD_VAE, native_vae_module
from ._weights import folder_weights, read_json

if TYPE_CHECKING:
    import torch

UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Of diffusers' first autoencoders."""


class Source(Protocol):
    """Tensors of the base, by name."""

    names: frozenset[str]

    def stored(self, name: str) -> torch.Tensor: ...

    def rows(self, name: str, place: Place, dtype: torch.dtype) -> torch.Tensor: ...


@dataclass(frozen=True)
class Native:
    """Where a module's tensor lives in the authors' files."""

    names: tuple[str, ...]
    """The first is written; all are read."""
    place: Place = Place("")
    turned: bool = False
    """Rows there are columns here."""
    is_pixel: bool = False
    """There it is a convolution of one pixel."""


@dataclass(frozen=True)
class SavedPart:
    """One part of a model as it is saved."""

    part: str
    """Of PARTS, or "vae"."""
    prefix: str
    """In front of its native names in the file."""
    file: str
    """Of which file beside the denoiser's it makes the whole, such as clip_l; "" where it is in the same one."""
    open: Callable[[], Source]
    """The base's."""
    is_native: Callable[[Source], bool]
    """Whether the base has it under native names, not under the modules'."""
    native: Callable[[str], Native | None]
    """Of a module's tensor; None for one that the authors' files do without."""
    plain: Callable[[str], str] = str
    """A module's tensor without what versions of transformers call differently."""


class FolderTensors:
    """A component of a diffusers folder, in one file or several."""

    def __init__(self, folder: Path, stem: str):
        found = folder_weights(folder, stem)
        if found is None:
            raise AthanorError(f"The base model lacks {folder / stem}.safetensors; copy it there from the model's page.")
        self._files = {name: file for file in map(TensorFile, found.files) for name in file.names}
        self.names = frozenset(self._files)

    def stored(self, name: str) -> torch.Tensor:
        return self._files[name].stored(name)

    def rows(self, name: str, place: Place, dtype: torch.dtype) -> torch.Tensor:
        return self._files[name].rows(name, place, dtype)


def _of_folder(base: BaseModel) -> bool:
    return Path(base.path).is_dir()


def unet_part(base: BaseModel) -> SavedPart:
    path = Path(base.path)
    if _of_folder(base):
        config = read_json(path / "unet" / "config.json")
        attended = frozenset(level for level, kind in enumerate(config["up_block_types"]) if "CrossAttn" in kind)
        layout = UNetLayout(int(config.get("layers_per_block", 2)), attended)
        return SavedPart("denoiser", UNET_PREFIX, "", lambda: FolderTensors(path / "unet", _DIFFUSION), _foreign, _modules_of(layout.native))
    header = read_model_header(path)
    prefix = unet_prefix(header)
    assert prefix is not None, "recognised before"
    layout = unet_shape(header.shapes, prefix).layout
    return SavedPart("denoiser", UNET_PREFIX, "", lambda: TensorFile(path, prefix), _own, _modules_of(layout.native))


def transformer_part(base: BaseModel, prefixes: Sequence[str], key: str, norm: str) -> SavedPart:
    """A denoiser with fused layers: its prefix in a file is the one of `prefixes` that stands before `key`; norms call their weight `norm`."""
    path = Path(base.path)

    def opened() -> Source:
        if _of_folder(base):
            return FolderTensors(path / "transformer", _DIFFUSION)
        shapes = read_model_header(path).shapes
        return TensorFile(path, next(prefix for prefix in prefixes if prefix + key in shapes))

    known = places_in(opened().names)

    def native(name: str) -> Native | None:
        module, _, leaf = name.rpartition(".")
        if module not in known:
            return Native((_SINGLE_TENSORS[name],)) if name in _SINGLE_TENSORS else None
        place = known[module]
        is_norm = leaf == "weight" and ".norm_" in f".{module}"
        leaves = dict.fromkeys((norm, "weight", "scale") if is_norm and "norm_out" not in module else (leaf,))
        return Native(tuple(f"{place.module}.{each}" for each in leaves), place)

    return SavedPart("denoiser", "", "", opened, _foreign if _of_folder(base) else _own, native)


def clip_part(base: BaseModel, part: str, kinds: Sequence[PartKind], prefix: str, file: str = "") -> SavedPart:
    """CLIP in the names of Hugging Face."""

    def native(name: str) -> Native | None:
        plain = _plain_clip(name)
        return Native((plain, "text_projection")) if plain.startswith("text_projection") else Native((f"text_model.{plain}", plain))

    return SavedPart(part, prefix, file, _text_source(base, part, kinds), _foreign if _of_folder(base) else _own, native, _plain_clip)


def open_clip_part(base: BaseModel, part: str, kinds: Sequence[PartKind], prefix: str) -> SavedPart:
    """CLIP in the names of OpenCLIP, which whole checkpoints of SD2 and SDXL have."""

    def native(name: str) -> Native | None:
        plain = _plain_clip(name)
        if plain == "text_projection.weight":
            return Native(("text_projection",), turned=True)
        if plain.endswith("position_ids") or not plain.startswith(("embeddings.", "encoder.", "final_layer_norm.")):
            return None
        names, place = open_clip_name(plain)
        return Native(names, place)

    return SavedPart(part, prefix, "", _text_source(base, part, kinds), lambda source: "token_embedding.weight" in source.names, native, _plain_clip)


def t5_saved(base: BaseModel, part: str) -> SavedPart:
    def native(name: str) -> Native | None:
        tables = ("shared.weight", "encoder.embed_tokens.weight")
        return Native(tables if name in tables else (name,))

    return SavedPart(part, "", "t5xxl", _text_source(base, part, (T5,)), _own, native)


def sd_vae_part(base: BaseModel) -> SavedPart:
    def opened() -> Source:
        if _of_folder(base) and not base.vae_path:
            return FolderTensors(Path(base.path) / "vae", _DIFFUSION)
        return open_part(SD_VAE, vae_paths(base))

    num_levels = count_blocks(opened().names, "encoder.down_blocks")

    def native(name: str) -> Native | None:
        module, _, leaf = name.rpartition(".")
        for old, new in _OLD_ATTENTION.items():
            module = module.removesuffix(f".{old}") + f".{new}" if module.endswith(f".{old}") else module
        is_linear = ".attentions." in module and not module.endswith("group_norm") and leaf == "weight"
        return Native((f"{native_vae_module(module, num_levels)}.{leaf}",), is_pixel=is_linear)

    return SavedPart("vae", VAE_PREFIX, "", opened, lambda source: "encoder.down.0.block.0.conv1.weight" in source.names, native)


def as_in_folder(base: BaseModel, part: str, folder: str, file: str) -> SavedPart:
    """A part of a diffusers folder under the names that it has there."""
    stem = "model" if part.startswith("text_encoder") else _DIFFUSION
    return SavedPart(part, "", file, lambda: FolderTensors(Path(base.path) / folder, stem), _own, lambda name: Native((name,)))


_DIFFUSION = "diffusion_pytorch_model"
_SINGLE_TENSORS = {"pos_embed.pos_embed": "pos_embed"}


def _own(source: Source) -> bool:
    return True


def _foreign(source: Source) -> bool:
    return False


def _plain_clip(name: str) -> str:
    return name.removeprefix("text_model.")


def _modules_of(rename: Callable[[str], str]) -> Callable[[str], Native | None]:
    def native(name: str) -> Native | None:
        module, _, leaf = name.rpartition(".")
        return Native((f"{rename(module)}.{leaf}",))

    return native


def _text_source(base: BaseModel, part: str, kinds: Sequence[PartKind]) -> Callable[[], Source]:
    if _of_folder(base):
        return lambda: FolderTensors(Path(base.path) / part, "model")
    return lambda: open_any(kinds, text_paths(base))
