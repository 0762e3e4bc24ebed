"""What files of adapters change in a base's weights, and how much: W + Σ sᵢ ΔWᵢ, one file after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..adapters import adapter
from ..adapters.attached import kind_of
from ..adapters.base import Adapter, scale_of
from ..errors import AthanorError
from ..families import family
from ..families.base import Family, ModulePlaces, Part
from ..formats.contents import describe_contents, lora_family
from ..formats.header import read_header
from ..formats.layers import grouped, placed_layers, read_tensors_of, split_key
from ..formats.native import Place

if TYPE_CHECKING:
    import torch

_SCALED = frozenset({"lora", "locon", "loha", "lokr"})
"""Kinds whose change is a product times alpha / rank."""
_WHOLE = frozenset({"diff", "diff_b"})


@dataclass(frozen=True)
class Addition:
    """A file of an adapter and its strengths."""

    path: Path
    strength_model: float = 1.0
    strength_text: float = 1.0

    def strength(self, part: Part) -> float:
        return self.strength_model if part == "denoiser" else self.strength_text


@dataclass(frozen=True)
class Change:
    """Of some rows of one tensor."""

    kind: str
    """Of the registry of adapters; "" for a whole change, and for one that is not known."""
    place: Place
    held: Mapping[str, torch.Tensor]
    strength: float


@dataclass(frozen=True)
class Weights:
    """Of one file of the base."""

    places: Mapping[Part, ModulePlaces]
    shapes: Mapping[str, tuple[int, ...]]
    """Of all its tensors."""


@dataclass(frozen=True)
class Gathered:
    changes: tuple[dict[str, list[Change]], ...]
    """Of each file of the base: by the name of the changed tensor, in the order of the adapters."""
    problems: tuple[str, ...]
    left: tuple[str, ...]
    """Layers of the adapters, as they spell them, that are in none of the parts."""


def family_problems(additions: Sequence[Addition], base_family: Family, base_name: str) -> list[str]:
    """A sentence for each file that cannot be read, or was made for another family; from headers alone."""
    problems = []
    for addition in additions:
        try:
            header = read_header(addition.path)
        except AthanorError as error:
            problems.append(f"{error} Choose another.")
            continue
        made_for = lora_family(header)
        if not any((split_key(key) or ("", "weight"))[1] != "weight" for key in header.shapes):
            problems.append(f"{addition.path.name} is {describe_contents(header)}, not an adapter; choose a LoRA, LoCon, LoHa, LoKr, DoRA or IA³.")
        elif made_for not in ("", base_family.name):
            problems.append(
                f"{addition.path.name} was made for {family(made_for).title}, and {base_name} is {base_family.title}; choose files of one family of models."
            )
    return problems


def gather(additions: Sequence[Addition], base_family: Family, bases: Sequence[Weights]) -> Gathered:
    """The changes of all adapters in all files of the base. Reads the adapters, not the base."""
    changes: tuple[dict[str, list[Change]], ...] = tuple({} for _ in bases)
    problems, left = [], []
    for addition in additions:
        tensors, name = read_tensors_of(addition.path), addition.path.name
        taken: set[str] = set()
        wrong: list[str] = []
        for weights, of_file in zip(bases, changes, strict=True):
            for part, modules in weights.places.items():
                found, spelt = placed_layers(tensors, base_family, part, modules)
                taken |= spelt
                pieces = [
                    piece for target, place, held in found for piece in _pieces(Change(_kind(held), place, held, addition.strength(part)), target)
                ]
                for target, change in pieces:
                    if problem := _problem(change, weights.shapes.get(target)):
                        wrong.append(f"{target} {problem}")
                    elif change.strength != 0:
                        of_file.setdefault(target, []).append(change)
        unknown = sorted(grouped(tensors).keys() - taken)
        left += [f"{base} of {name}" for base in unknown]
        if not taken:
            problems.append(
                f"{name} holds nothing that fits this base: its layers are like {unknown[0]}; choose a file that was made for {base_family.title}."
            )
        elif wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            problems.append(f"{name} does not fit this base: {wrong[0]}{more}; choose files of one family and size of models.")
    return Gathered(changes, tuple(problems), tuple(left))


def apply(weight: torch.Tensor, changes: Sequence[Change]) -> torch.Tensor:
    """`weight` with the changes, in fp32 and in the order of ComfyUI's own sums; the one given stays as it is."""
    import torch

    made = weight.to(torch.float32, copy=True)
    for change in changes:
        rows = change.place.rows(made)
        added = _added(change, rows)
        if change.place.swapped:
            added = torch.cat(added.chunk(2)[::-1])
            rows = made
        rows += added.reshape(rows.shape)
    return made


def _pieces(change: Change, target: str) -> list[tuple[str, Change]]:
    """The change of the weight, and that of the bias where the file has one."""
    if not _WHOLE & change.held.keys():
        return [(target, change)]
    bias = f"{target.removesuffix('.weight')}.bias"
    rest = {suffix: tensor for suffix, tensor in change.held.items() if suffix != "diff_b"}
    pieces = [(target, replace(change, held=rest))] if rest else []
    if "diff_b" in change.held:
        pieces.append((bias, replace(change, held={"diff": change.held["diff_b"]})))
    return pieces


def _problem(change: Change, shape: tuple[int, ...] | None) -> str:
    """Why the change cannot be made; "" where it can. Computed on tensors without content."""
    import torch

    if shape is None:
        return "is not in the base"
    if not change.kind and "diff" not in change.held:
        return "has a kind of adapter in the file that is not known here"
    try:
        held = {suffix: tensor if tensor.numel() == 1 else tensor.to("meta") for suffix, tensor in change.held.items()}
        rows = change.place.rows(torch.empty(shape, device="meta"))
        up, down = held.get("lora_up.weight"), held.get("lora_down.weight")
        if (
            up is not None
            and down is not None
            and (up.shape[0], down.flatten(1).shape[1]) != (rows.shape[0], rows.flatten(1).shape[1])
            and ("lora_mid.weight" not in held)
        ):
            return f"is {tuple(rows.shape)} in the base and {(up.shape[0], down.flatten(1).shape[1])} in the file"
        _added(replace(change, held=held), rows).reshape(rows.shape)
    except (RuntimeError, ValueError, KeyError):
        return f"is {tuple(rows.shape)} in the base and of another size in the file"
    return ""


def _added(change: Change, rows: torch.Tensor) -> torch.Tensor:
    held = change.held
    if "diff" in held:
        return change.strength * held["diff"].float().to(rows.device)
    kind = adapter(change.kind)
    if change.kind not in _SCALED:
        return change.strength * kind.change(held, rows)
    unscaled = {suffix: tensor for suffix, tensor in held.items() if suffix != "alpha"}
    # In place: the tensor is as large as the weight.
    return kind.change(unscaled, rows).mul_(change.strength * _scale(kind, held))


def _kind(held: Mapping[str, torch.Tensor]) -> str:
    try:
        return kind_of({"": held}, "")[0]
    except AthanorError:
        return ""


def _scale(kind: Adapter, held: Mapping[str, torch.Tensor]) -> float:
    """alpha / rank; 1 for a LoKr of two whole factors, as every loader has it."""
    return 1.0 if {"lokr_w1", "lokr_w2"} <= held.keys() else scale_of(held, kind.rank_of(held))
