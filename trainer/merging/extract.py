"""What a trained model has and its base has not, as a LoRA: the nearest one of low rank to the difference of each weight."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError, raise_problems
from ..families import family
from ..families.base import PARTS, Part
from ..files import file_sha256, require_space
from ..formats.files import save_tensors
from ..formats.spelling import spelt
from ..types import BaseModel
from .network import network_metadata
from .spectrum import Bounds, nearest
from .stored import StoredWeights

if TYPE_CHECKING:
    import torch

_TITLES: dict[Part, str] = {
    "denoiser": "model",
    "text_encoder": "text encoder 1",
    "text_encoder_2": "text encoder 2",
    "text_encoder_3": "text encoder 3",
}


@dataclass(frozen=True)
class Extraction:
    """What is taken, and how large it may be."""

    linear: Bounds
    convolution: Bounds | None
    """Of convolutions of more than one pixel, as LoCon has them; None leaves them out."""
    text_encoders: bool = True
    names: str = "auto"
    """"auto", "kohya" or "diffusers", as in the adapter's settings."""
    precision: str = "fp16"
    device: str = "cpu"
    """Where the decompositions are computed."""


def extract_lora(
    base: BaseModel, tuned: BaseModel, path: Path, wanted: Extraction, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> str:
    """Writes the LoRA that makes `tuned` of `base` as nearly as its rank allows; returns what it keeps, in lines for people.

    Reads both models layer by layer. `on_progress` may raise to stop. Raises InvalidJobError where the models do not belong
    together, and AthanorError where nothing differs.
    """
    first, second = _opened(base, tuned)
    parts = [part for part in first.by_part if part in second.by_part and (part == "denoiser" or wanted.text_encoders)]
    modules = [(part, module) for part in parts for module in first.by_part[part] if module in second.by_part[part]]
    require_space(path.parent, 64 << 20)
    found: dict[Part, dict[str, dict[str, torch.Tensor]]] = {}
    told: dict[Part, list[tuple[float, float, int, bool]]] = {part: [] for part in parts}
    for done, (part, module) in enumerate(modules):
        on_progress(done, len(modules))
        layer, entry = _layer(first, second, part, module, wanted)
        if entry is not None:
            told[part].append(entry)
        if layer is not None:
            found.setdefault(part, {})[module] = layer
    on_progress(len(modules), len(modules))
    if not found:
        raise AthanorError(
            f"{base.name} and {tuned.name} do not differ in any layer that a LoRA could change; choose the model before and after a training."
        )
    lines = [_line(part, entries) for part, entries in told.items()]
    absent = [_TITLES[part] for part in PARTS if part != "denoiser" and wanted.text_encoders and (part in first.by_part) != (part in second.by_part)]
    lines += [f"{title}: only one of the models has it, so it is left out" for title in absent]
    lines.append("Biases and norms have no low rank and are left out.")
    save_tensors(path, _spelt(base, first, found, wanted.names), _metadata(base, tuned, path, found, lines), wanted.precision)
    return "\n".join(lines)


def _opened(base: BaseModel, tuned: BaseModel) -> tuple[StoredWeights, StoredWeights]:
    if base.family != tuned.family:
        titles = family(base.family).title, family(tuned.family).title
        raise AthanorError(f"{base.name} is {titles[0]} and {tuned.name} is {titles[1]}; choose two models of one family.")
    problems = []
    if base.files == tuned.files:
        problems.append(f"{base.name} and {tuned.name} are the same model; choose the one before and the one after a training.")
    opened = StoredWeights(base), StoredWeights(tuned)
    for part in PARTS:
        ours, theirs = (each.by_part.get(part) for each in opened)
        if ours is None or theirs is None:
            continue
        others = [module for module, held in ours.items() if module in theirs and not _alike(held.shape, theirs[module].shape)]
        if others:
            shapes = ours[others[0]].shape, theirs[others[0]].shape
            problems.append(
                f"{others[0]} is {shapes[0]} in {base.name} and {shapes[1]} in {tuned.name} (and {len(others) - 1} more of the {_TITLES[part]}); choose two models of one size."
            )
        lacking = len(ours.keys() ^ theirs.keys())
        if part == "denoiser" and lacking > len(ours) // 10:
            problems.append(f"{lacking} layers of {base.name} and {tuned.name} are in one of them alone; choose two models of one size.")
    raise_problems(problems)
    return opened


def _alike(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """A convolution of one pixel is a linear layer: files have either."""

    def plain(shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[:2] if set(shape[2:]) <= {1} else shape

    return plain(one) == plain(other)


def _layer(
    first: StoredWeights, second: StoredWeights, part: Part, module: str, wanted: Extraction
) -> tuple[dict[str, torch.Tensor] | None, tuple[float, float, int, bool] | None]:
    """The layer's tensors, None where it has none; and the difference's energy, the kept one, the rank, and whether it is a convolution."""
    import torch

    (one, kind), (other, other_kind) = first.read(part, module), second.read(part, module)
    other = other.reshape(one.shape)
    if torch.equal(one.to(other_kind), other.to(other_kind)) or torch.equal(one.to(kind), other.to(kind)):
        return None, None  # the same but for the precision of the files
    shape, is_window = one.shape, one.dim() == 4 and one.shape[2:].numel() > 1
    change = (other.to(wanted.device).double() - one.to(wanted.device).double()).flatten(1)
    total = float(change.square().sum())
    bounds = wanted.convolution if is_window else wanted.linear
    if bounds is None:
        return None, (total, 0.0, 0, True)
    factors = nearest(change, bounds)
    up, down = factors.up, factors.down
    if len(shape) == 4:
        up, down = up[:, :, None, None], down.reshape(factors.rank, *shape[1:])
    held = {"lora_up.weight": up.contiguous(), "lora_down.weight": down.contiguous(), "alpha": torch.tensor(float(factors.rank))}
    return held, (total, factors.kept * total, factors.rank, is_window)


def _line(part: Part, entries: list[tuple[float, float, int, bool]]) -> str:
    total = sum(entry[0] for entry in entries)
    if not entries or total == 0:
        return f"{_TITLES[part]}: no difference"
    kept = sum(entry[1] for entry in entries) / total
    ranks = [entry[2] for entry in entries if entry[2]]
    spread = f"rank {ranks[0]}" if len(set(ranks)) == 1 else f"ranks {min(ranks)} to {max(ranks)}" if ranks else "nothing"
    without = sum(1 for entry in entries if not entry[2])
    left = f"; {without} convolutions left out" if without else ""
    return f"{_TITLES[part]}: {100 * kept:.2f} % of the difference's energy, {len(ranks)} layers of {spread}{left}"


def _spelt(base: BaseModel, stored: StoredWeights, found: dict[Part, dict[str, dict[str, torch.Tensor]]], names: str) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for part, layers in found.items():
        named = spelt(names, part, layers, stored.by_part[part])
        if named is None:
            named = {
                f"{family(base.family).export_key(part, module)}.{suffix}": tensor
                for module, held in layers.items()
                for suffix, tensor in held.items()
            }
        tensors |= named
    return tensors


def _metadata(
    base: BaseModel, tuned: BaseModel, path: Path, found: dict[Part, dict[str, dict[str, torch.Tensor]]], lines: list[str]
) -> dict[str, str]:
    of_family, downs = family(base.family), [held["lora_down.weight"] for layers in found.values() for held in layers.values()]
    hashed = {name: file_sha256(Path(model.path)) for name, model in (("base", base), ("tuned", tuned)) if Path(model.path).is_file()}
    return {
        **network_metadata([len(down) for down in downs if not _is_window(down)], [len(down) for down in downs if _is_window(down)]),
        "ss_sd_model_name": Path(base.path).name,
        "ss_base_model_version": of_family.kohya_version(base),
        "ss_v2": str(base.family == "sd2"),
        "ss_output_name": path.stem,
        "ss_training_comment": f"extracted with Athanor: {tuned.name} - {base.name}",
        **({"ss_new_sd_model_hash": hashed["base"]} if "base" in hashed else {}),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{of_family.modelspec_architecture(base)}/lora",
        "modelspec.implementation": of_family.modelspec_implementation,
        "modelspec.title": path.stem,
        "athanor_extract": "\n".join(lines),
        "athanor_extracted_from": json.dumps(
            [[tuned.name, hashed.get("tuned", tuned.fingerprint)], [base.name, hashed.get("base", base.fingerprint)]], ensure_ascii=False
        ),
    }


def _is_window(down: torch.Tensor) -> bool:
    return down.dim() == 4 and down.shape[2:].numel() > 1
