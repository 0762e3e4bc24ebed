"""The model's own weights: of each part whose learning rate is not 0, all of them or those that are chosen by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..adapters.plan import is_part, names_of
from ..config import TrainJob
from ..errors import AthanorError
from ..families.base import Family, TextStack
from ..settings import CheckpointSettings
from .checkpoint_file import save_checkpoint, take_checkpoint
from .lora import trained_parts
from .trainee import Group, Trainee

if TYPE_CHECKING:
    import torch
    from torch import nn


def checkpoint_trainee(job: TrainJob, family: Family, denoiser: nn.Module, text: TextStack | None) -> Trainee:
    """`text` may be None if no text encoder is trained. The modules of trained parts must hold their weights in the format of the settings.

    Raises AthanorError where the names leave nothing to train, or name nothing.
    """
    settings = job.checkpoint
    modules = trained_parts(job, family, denoiser, text)
    _check_choice(settings, {part: module for part, (module, _) in modules.items()})
    trained = {part: chosen for part, (module, _) in modules.items() if (chosen := _chosen(settings, part, module))}
    for tensors in trained.values():
        for tensor in tensors.values():
            tensor.requires_grad_(True)
    groups = tuple(Group(part, modules[part][1], tensors, len({name.rpartition(".")[0] for name in tensors})) for part, tensors in trained.items())
    names = {part: list(modules[part][0].state_dict()) for part in trained}

    def save(path: Path, metadata: Mapping[str, str], precision: str) -> str:
        return save_checkpoint(path, family, job.base, trained, names, metadata, precision)

    return Trainee(
        groups,
        export=lambda: {f"{part}.{name}": tensor.detach().float().cpu().clone() for part, of in trained.items() for name, tensor in of.items()},
        caption=lambda caption, draw: caption,
        prompt=lambda prompt: prompt,
        take=lambda path: take_checkpoint(path, family, job.base, trained),
        save=save,
    )


def _chosen(settings: CheckpointSettings, part: str, module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in module.named_parameters() if _is_chosen(settings, part, name)}


def _is_chosen(settings: CheckpointSettings, part: str, name: str) -> bool:
    globs = names_of(settings.blocks)
    if globs and not any(is_part(glob, part, name) for glob in globs):
        return False
    return not settings.pattern or re.search(settings.pattern, f"{part}.{name}") is not None


def _check_choice(settings: CheckpointSettings, modules: Mapping[str, nn.Module]) -> None:
    names = [(part, name) for part, module in modules.items() for name, _ in module.named_parameters()]
    parts = ", ".join(dict.fromkeys(name.split(".")[0] for _, name in names))
    for glob in names_of(settings.blocks):
        if not any(is_part(glob, part, name) for part, name in names):
            raise AthanorError(
                f"Blocks: {glob!r} matches no weight of what is trained. There are for example {names[len(names) // 2][1]}; the parts are {parts}."
            )
    if not any(_is_chosen(settings, part, name) for part, name in names):
        what = f"the pattern {settings.pattern!r}" if not settings.blocks else "blocks and pattern together"
        raise AthanorError(f"Checkpoint: {what} leaves no weight to train; weights are called for example {names[len(names) // 2][1]}.")
