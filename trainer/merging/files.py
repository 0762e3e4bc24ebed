"""A merge as a file, and as a run of that one epoch, so that it can be compared, applied and saved like any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..data.cache_folder import MERGED, clean_folder, mark_used, size_limit_bytes
from ..errors import AthanorError, raise_problems
from ..files import safe_name
from ..formats.files import load_tensors, save_tensors
from ..formats.header import read_header
from ..formats.layers import read_tensors_of
from ..runs.run import Run, open_loaded
from .blocks import BlockWeights
from .check import merge_problems
from .layers import Part, merge_layers
from .network import network_metadata
from .recipe import Chosen
from .resize import Limit
from .vectors import merge_vectors

if TYPE_CHECKING:
    import torch

MERGED_FOLDER = MERGED
Precision = Literal["fp16", "bf16", "fp32"]


@dataclass(frozen=True)
class MergeResult:
    run: Run
    """Of one epoch, the merge."""
    report: str


def merge_epochs(
    root: Path, name: str, content: Literal["lora", "embedding"], chosen: Sequence[Chosen], blocks: BlockWeights, limit: Limit, precision: Precision
) -> MergeResult:
    """Merges epochs into a file below `root`. The same epochs, weights and options give the same file, which is made once.

    Raises AthanorError, before anything is written, where they cannot be merged.
    """
    beside = next((dict(epoch.words) for epoch, _ in chosen if epoch.words), {})
    if beside:
        raise AthanorError(
            f"{chosen[0][0].path.name} goes with the embedding {', '.join(beside)} of the same epoch, which would not fit the merge any more; merge epochs that have none."
        )
    recipe = [[epoch.sha256, weight] for epoch, weight in chosen]
    said = json.dumps([recipe, blocks.rules, limit.rank, limit.energy, precision])
    path = root / MERGED_FOLDER / f"{safe_name(name)}-{hashlib.sha256(said.encode('utf-8')).hexdigest()[:12]}.safetensors"
    lines = [f"{weight:+.4g} × {epoch.path.name}" for epoch, weight in chosen]
    if not path.is_file():
        _write(path, name, content, chosen, blocks, limit, precision)
    tend_merges(path)
    told = read_header(path).metadata["athanor_merge"]
    return MergeResult(open_loaded(root, name, "epoch", [(1, path)], content), "\n".join([*lines, told]))


def tend_merges(path: Path) -> None:
    """Keeps `path` for the next half hour, and its folder within its limit."""
    mark_used([path])
    clean_folder(path.parent, size_limit_bytes(path.parent))


def _write(path: Path, name: str, content: str, chosen: Sequence[Chosen], blocks: BlockWeights, limit: Limit, precision: Precision) -> None:
    if content == "embedding":
        if blocks.rules or not limit.is_exact:
            raise AthanorError("Rank, energy and block weights mean nothing for embeddings; leave them at 0, 1 and empty.")
        tensors = merge_vectors([Part(epoch.path.name, load_tensors(epoch.path), weight) for epoch, weight in chosen])
        told, network = f"{next(iter(tensors.values())).shape[0]} vectors", {}
    else:
        raise_problems(merge_problems([epoch.path for epoch, _ in chosen]))
        merged = merge_layers([Part(epoch.path.name, read_tensors_of(epoch.path), weight) for epoch, weight in chosen], blocks, limit)
        tensors = merged.tensors
        told, network = _told(merged.ranks, merged.kept), network_metadata(*_ranks(merged.tensors))
    first = read_header(chosen[0][0].path).metadata
    metadata = {
        **{key: value for key, value in first.items() if not key.startswith(("sshs_", "athanor_validation"))},
        **network,
        "ss_output_name": name,
        "modelspec.title": name,
        "modelspec.merged_from": ", ".join(read_header(epoch.path).metadata.get("modelspec.title", epoch.path.stem) for epoch, _ in chosen),
        "athanor_merge": told,
        "athanor_merged_from": json.dumps([[epoch.path.name, epoch.sha256, weight] for epoch, weight in chosen]),
    }
    save_tensors(path, tensors, metadata, precision)


def _told(ranks: Sequence[int], kept: float) -> str:
    if not ranks:
        return "an exact sum"
    spread = f"rank {ranks[0]}" if len(set(ranks)) == 1 else f"ranks {min(ranks)} to {max(ranks)}"
    return f"{spread}, an exact sum" if kept >= 1 else f"{spread}; every layer keeps at least {100 * kept:.2f} % of the sum's energy"


def _ranks(tensors: Mapping[str, torch.Tensor]) -> tuple[list[int], list[int]]:
    """Of linear layers, and of convolutions of more than one pixel."""
    downs = [tensor for key, tensor in tensors.items() if key.endswith(".lora_down.weight")]
    windows = [tensor.dim() == 4 and tensor.shape[2:].numel() > 1 for tensor in downs]
    return tuple([len(down) for down, is_window in zip(downs, windows, strict=True) if is_window == wanted] for wanted in (False, True))  # type: ignore[return-value]
