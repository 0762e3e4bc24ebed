"""Other adapters that are added to the base before it is trained upon."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .adapters.attached import kind_of
from .adapters.base import base_weight
from .adapters.check import merges
from .adapters.whole import WholeChanges, parted
from .errors import AthanorError
from .families.base import Family, Part
from .files import file_sha256
from .formats.layers import layers_of, read_tensors_of
from .settings import AdapterSettings

if TYPE_CHECKING:
    from torch import nn


def merge_into(settings: AdapterSettings, family: Family, modules: Mapping[Part, nn.Module], before: Collection[str] | None = None) -> set[str]:
    """Adds the files of `settings` to the weights of `modules`, one after the other; returns those that held something for them.

    `before` are those that earlier modules took: raises AthanorError for a file that neither they nor these take. None if others follow.
    """
    import torch

    taken = set()
    for path, strength in merges(settings):
        tensors, name = read_tensors_of(Path(path)), Path(path).name
        for part, module in modules.items():
            given = layers_of(tensors, family, part, (key for key, _ in module.named_modules()))
            if not given:
                continue
            taken.add(path)
            given, whole = parted(given)
            WholeChanges(module, whole, name).set_strength(strength)
            kind = kind_of(given, name)[1] if given else None
            for key, held in given.items():
                assert kind is not None
                layer = module.get_submodule(key)
                with torch.no_grad():
                    weight = base_weight(layer)
                    try:
                        merged = weight + strength * kind.change(held, weight)
                    except RuntimeError:
                        raise AthanorError(f"{name}, which should be merged first, does not fit {key} of this base: its sizes are others.") from None
                    layer.weight.data = merged.to(layer.weight.dtype)
        if before is not None and path not in taken and path not in before:
            raise AthanorError(f"{name}, which should be merged first, holds nothing for {family.title}; choose one of this family.")
    return taken


def merged_fingerprint(fingerprint: str, settings: AdapterSettings) -> str:
    """By which what the text encoders of the merged base give is cached."""
    files = merges(settings)
    if not files:
        return fingerprint
    parts = [fingerprint, *(f"{file_sha256(Path(path))}:{strength:g}" for path, strength in files)]
    return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()
