"""Embeddings as other programs save them, read into one form: for each text encoder its vectors.

| program | form |
| --- | --- |
| A1111 `.pt`, `.bin` | {"string_to_param": {"*": T}, "name", "step", …}; the first ones keep a ParameterDict there |
| sd-scripts | {"emb_params": T}; SDXL {"clip_l": T, "clip_g": T} |
| diffusers `learned_embeds` | {"<token>": T}, a vector a token: "<token>", "<token>_1", …; its pivotal trainers {"clip_l", "clip_g" or "t5"} |
| ComfyUI | all of these, and a list of {"…": T} of which each encoder takes that of its width |

T is (number, width), or (width,) for one vector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AthanorError
from ..files import file_sha256
from .files import load_tensors, save_tensors
from .header import MODEL_ENDINGS, Header, is_safe, pickled

if TYPE_CHECKING:
    import torch

_MOST_TENSORS = 80
EMBEDDING_ENDINGS = tuple(ending for ending in MODEL_ENDINGS if ending not in (".ckpt", ".pth"))
_ALIASES = {"emb_params": ("clip_l", "clip_h"), "clip_l": ("emb_params",), "clip_h": ("emb_params",), "t5xxl": ("t5",)}
"""Further names of an encoder's vectors."""
_ENCODERS = ("emb_params", "clip_l", "clip_g", "clip_h", "t5xxl", "t5")


def read_vectors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of an embedding's file under the names that it has, each (number, width) in fp32.

    A pickle is read without running any code in it. Raises AthanorError if the file is no embedding.
    """
    import torch

    if path.suffix.lower() not in EMBEDDING_ENDINGS:
        raise AthanorError(f"{path.name} is no embedding; those end in {', '.join(EMBEDDING_ENDINGS)}.")
    held = load_tensors(path) if is_safe(path) else _flat(_opened(path), path.name)
    found = {key: tensor.detach().float() for key, tensor in held.items() if isinstance(tensor, torch.Tensor) and tensor.dim() in (1, 2)}
    found = {key: tensor[None] if tensor.dim() == 1 else tensor for key, tensor in found.items()}
    if not found or len(found) < len([key for key in held if isinstance(held[key], torch.Tensor)]) or any(".lora_" in key for key in found):
        raise AthanorError(f"{path.name} is no embedding: an embedding holds a few vectors for each text encoder and nothing else.")
    return found


def vectors_for(widths: Mapping[str, int], held: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The vectors of each of a base's encoders; `widths` tells the encoders by their keys in our files.

    Raises AthanorError where the file has none for one of them, as of an embedding for another family.
    """
    found = fitting_vectors(widths, held)
    for key, width in widths.items():
        if key not in found:
            has = ", ".join(f"{each} of width {tensor.shape[1]}" for each, tensor in held.items())
            raise AthanorError(
                f"{name} has no vectors {key} of width {width}, which this base needs; it has {has}. It is an embedding for another family."
            )
    return found


def fitting_vectors(widths: Mapping[str, int], held: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As `vectors_for`, without the encoders for which the file has none."""
    import torch

    found: dict[str, torch.Tensor] = {}
    for key, width in widths.items():
        named = next((held[each] for each in (key, *_ALIASES.get(key, ())) if each in held), None)
        if named is None and not any(each in held for each in _ENCODERS):
            # Files that name no encoder: a token, or several of one vector each; of a list each width is one encoder's.
            fitting = [tensor for _, tensor in sorted(held.items(), key=lambda item: _order(item[0])) if tensor.shape[1] == width]
            named = torch.cat(fitting) if fitting else None
        if named is not None and named.shape[1] == width:
            found[key] = named
    return found


def num_vectors_of(path: Path) -> int:
    """Of the encoder that has most."""
    held = read_vectors(path)
    if any(each in held for each in _ENCODERS):
        return max(tensor.shape[0] for tensor in held.values())
    by_width: dict[int, int] = {}
    for tensor in held.values():
        by_width[tensor.shape[1]] = by_width.get(tensor.shape[1], 0) + tensor.shape[0]
    return max(by_width.values())


def is_embedding(header: Header) -> bool:
    """Judged from names and shapes: a few flat tensors, whose names are those of encoders or tokens."""
    return 0 < len(header.shapes) <= _MOST_TENSORS and all(
        len(shape) in (1, 2) and (key in _ENCODERS or not re.search(r"\.(?:lora|hada|lokr|weight|bias|alpha|on_input|dora)", key))
        for key, shape in header.shapes.items()
    )


def as_safetensors(path: Path, folder: Path) -> Path:
    """A copy of an embedding's pickle in `folder` that other rooms can read, made once; what A1111 tells of name and step becomes metadata."""
    target = folder / file_sha256(path)[:12] / f"{path.stem}.safetensors"
    if not target.is_file():
        data = _opened(path)
        told = {"ss_output_name": data.get("name"), "ss_steps": data.get("step")} if isinstance(data, dict) and "string_to_param" in data else {}
        metadata = {key: str(value) for key, value in told.items() if isinstance(value, (str, int)) and str(value)}
        save_tensors(target, read_vectors(path), metadata, "fp32")
    return target


def _opened(path: Path) -> Any:
    return pickled(path, "embedding", [(_Parameters, "torch.nn.modules.container.ParameterDict")])


class _Parameters(dict):
    """What old files keep as torch's ParameterDict: only its table of tensors."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.update(state.get("_parameters") or {})


def _flat(data: Any, name: str) -> dict[str, Any]:
    """Of a pickle: its tensors by name."""
    if isinstance(data, dict) and isinstance(data.get("string_to_param"), dict):
        terms = dict(data["string_to_param"])
        if len(terms) > 1:
            # As A1111 itself: which of them a prompt means is told nowhere.
            raise AthanorError(
                f"{name} holds {len(terms)} embeddings ({', '.join(map(str, terms))}) in one file, of which A1111 reads none; choose a file with one."
            )
        return terms
    if isinstance(data, dict):
        return data
    if isinstance(data, list):
        return {f"{i}.{key}": tensor for i, each in enumerate(data) if isinstance(each, dict) for key, tensor in each.items()}
    return {}


def _order(name: str) -> tuple[str, int]:
    """`<token>`, `<token>_1` … `<token>_10` as they were numbered."""
    stem, _, number = name.strip("<>").rpartition("_")
    return (stem.strip("<>"), int(number)) if stem and number.isdigit() else (name.strip("<>"), 0)
