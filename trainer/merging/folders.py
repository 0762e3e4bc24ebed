"""A diffusers folder as the files that stock loaders take: each tensor under its native name, made of the folder's when it is its turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..families._whole import Native, SavedPart
from ..families._whole import Source as Component
from ..formats.files import Planned
from .sources import Source, Sources

if TYPE_CHECKING:
    import torch

_Found = tuple[str, Native]


def sources_of_part(saved: SavedPart) -> Sources:
    """Of one component. What the authors' files do without is left out."""
    component, by_native = saved.open(), dict[str, dict[int, _Found]]()
    for name in sorted(component.names):
        native = saved.native(name)
        if native is not None:
            # Some folders have one table under two names.
            by_native.setdefault(saved.prefix + native.names[0], {}).setdefault(native.place.start, (name, native))
    return {key: _source(component, [rows[start] for start in sorted(rows)]) for key, rows in by_native.items()}


def _source(component: Component, rows: Sequence[_Found]) -> Source:
    first = _turned(component.stored(rows[0][0]), rows[0][1])
    height = sum(component.stored(name).shape[0] for name, _ in rows) if len(rows) > 1 else first.shape[0]
    return Source(Planned(Planned.like(first).dtype, (height, *first.shape[1:]) if first.dim() else ()), _reader(component, rows))


def _reader(component: Component, rows: Sequence[_Found]) -> Callable[[], torch.Tensor]:
    def read() -> torch.Tensor:
        import torch

        pieces = [_turned(component.stored(name), native) for name, native in rows]
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    return read


def _turned(tensor: torch.Tensor, native: Native) -> torch.Tensor:
    import torch

    if native.place.swapped:
        tensor = torch.cat(tensor.chunk(2)[::-1])
    if native.turned:
        tensor = tensor.t()
    return tensor[:, :, None, None] if native.is_pixel and tensor.dim() == 2 else tensor
