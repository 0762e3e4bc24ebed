"""An adapter on each part of the model whose learning rate is not 0."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..adapters import Adapter, adapter
from ..adapters.attached import attach, export, kind_of, limit_norms, load, plans_of, set_strength, set_training, trained
from ..adapters.base import LayerPlan
from ..adapters.plan import all_targets, plan_layers, rate_of, unmatched
from ..adapters.whole import WholeChanges, parted
from ..config import TrainJob
from ..errors import AthanorError, raise_problems
from ..families.base import Family, Part, TextStack
from ..formats.layers import layers_of, read_tensors_of, unread_note
from ..formats.spelling import spelt
from ..seeds import stable_seed
from ..settings import AdapterSettings
from .trainee import Group, Trainee

if TYPE_CHECKING:
    import torch
    from torch import nn

Layers = dict[str, "nn.Module"]
Given = dict[Part, dict[str, dict[str, "torch.Tensor"]]]
"""What a file holds, by part, by the module's name and by suffix."""


def lora_trainee(job: TrainJob, family: Family, denoiser: nn.Module, text: TextStack | None) -> Trainee:
    """Adapters on each part whose rate is not 0; `text` may be None if the text encoder's is 0."""
    settings, kind = job.adapter, adapter(job.adapter.kind)
    rates = trained_parts(job, family, denoiser, text)
    for part, (module, _) in rates.items():
        _check_names(family, part, module)
    plans, given, whole = _plans(settings, family, {part: module for part, (module, _) in rates.items()})
    kept = {part: WholeChanges(rates[part][0], changes, Path(settings.start_file).name) for part, changes in whole.items()}
    for each in kept.values():
        each.set_strength(1.0)
    attached: dict[Part, Layers] = {}
    groups: list[Group] = []
    for part, (module, rate) in rates.items():
        if not plans[part]:
            continue
        attached[part] = attach(kind, module, plans[part], settings, stable_seed(job.train.seed, "init", part))
        if part in given:
            load(kind, attached[part], given[part])
        groups += _groups(kind, part, rate, settings.lora_plus_ratio, plans[part], attached[part])

    def exported() -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = {}
        for part, layers in attached.items():
            named = _spelt(settings.names, part, rates[part][0], kind, layers)
            tensors.update(
                export(kind, layers, lambda name, part=part: family.export_key(part, name), settings.stock_form) if named is None else named
            )
        # What the file to start from has beside its adapters stays as it is.
        for part, layers in whole.items():
            for name, held in layers.items():
                tensors |= {f"{family.export_key(part, name)}.{suffix}": tensor for suffix, tensor in held.items()}
        return tensors

    def take(path: Path) -> None:
        held, _ = _given(replace(settings, start_file=str(path)), family, {part: rates[part][0] for part in attached})
        for part, layers in attached.items():
            load(kind, layers, held.get(part, {}))

    @contextmanager
    def switched_off() -> Iterator[None]:
        def set_all(strength: float) -> None:
            for layers in attached.values():
                set_strength(kind, layers, strength)
            for each in kept.values():
                each.set_strength(strength)

        set_all(0.0)
        try:
            yield
        finally:
            set_all(1.0)

    def after_step() -> None:
        for layers in attached.values():
            limit_norms(kind, layers, settings.max_norm)

    everything = [layers for layers in attached.values()]
    drops = max(settings.dropout, settings.rank_dropout, settings.module_dropout) > 0
    random = {"dropping": _dropping(job.train.seed, everything), "rest": lambda: _set_training(everything, False)} if drops else {}
    limited = {"after_step": after_step} if settings.max_norm > 0 else {}
    return Trainee(
        tuple(groups),
        exported,
        caption=lambda caption, draw: caption,
        prompt=lambda prompt: prompt,
        take=take,
        switched_off=switched_off,
        notes=_notes(settings, family, {part: module for part, (module, _) in rates.items()}),
        metadata=network_metadata(settings, kind, [plan for part in attached for plan in plans[part]], family.t5_part(job.base) in attached),
        **random,
        **limited,
    )


def _spelt(names: str, part: Part, module: nn.Module, kind: Adapter, layers: Layers) -> dict[str, torch.Tensor] | None:
    if names == "auto":
        return None
    held = {
        name: {suffix: tensor.detach().float().cpu().clone().contiguous() for suffix, tensor in kind.tensors(layer).items()}
        for name, layer in layers.items()
    }
    return spelt(names, part, held, (name for name, _ in module.named_modules()))


def trained_parts(job: TrainJob, family: Family, denoiser: nn.Module, text: TextStack | None) -> dict[Part, tuple[nn.Module, float]]:
    """The parts whose learning rate is not 0, with their rates; `text` may be None if no text encoder is among them."""
    rates: dict[Part, tuple[nn.Module, float]] = {}
    if job.train.rate > 0:
        rates["denoiser"] = (denoiser, job.train.rate)
    for part, rate in zip(family.text_parts, job.text_rates, strict=False):
        if rate > 0:
            assert text is not None
            rates[part] = (text.parts()[part], rate)
    t5 = family.t5_part(job.base) if job.optimizer.t5_rate > 0 else None
    if t5 is not None:
        assert text is not None
        rates[t5] = (text.parts()[t5], job.optimizer.t5_rate)
    return rates


def _check_names(family: Family, part: Part, module: nn.Module) -> None:
    found, expected = len(all_targets(module, part, family.adapter_targets(part), AdapterSettings())), family.expected_targets(part, module)
    if found != expected:
        raise AthanorError(
            f"{found} modules of the {part.replace('_', ' ')} would be trained where {family.title} has {expected}: "
            "the installed diffusers or transformers names them in a way that this version of Athanor does not know; install the versions of its requirements.txt."
        )


def _plans(settings: AdapterSettings, family: Family, modules: Mapping[Part, nn.Module]) -> tuple[dict[Part, tuple[LayerPlan, ...]], Given, Given]:
    """The layers of each part, and what the file to start from holds for them: adapters, and whole changes. Raises AthanorError where there is nothing to train."""
    targets = {part: all_targets(module, part, family.adapter_targets(part), settings) for part, module in modules.items()}
    known = [(part, name) for part, names in targets.items() for name in names]
    raise_problems(unmatched(known, settings))
    if settings.start_file:
        given, whole = _given(settings, family, modules)
        kind = adapter(settings.kind)
        plans = {
            part: tuple(replace(plan, rate=rate_of(plan.name, part, settings)) for plan in plans_of(kind, given.get(part, {}))) for part in modules
        }
        return plans, given, whole
    plans = {part: plan_layers(module, part, family.adapter_targets(part), settings) for part, module in modules.items()}
    if not any(plans.values()):
        raise AthanorError("Blocks, pattern and rules together leave no layer to train; leave one of them empty.")
    if settings.kind == "locon" and "denoiser" in modules and not _has_convolutions(modules["denoiser"]):
        raise AthanorError(f"{family.title} has no convolutions, so that LoCon would be the same as LoRA; choose lora.")
    if settings.conv_rank > 0 and not any(_has_convolutions(module) for part, module in modules.items() if part == "denoiser"):
        raise AthanorError(f"The conv_rank is {settings.conv_rank}, but nothing with convolutions is trained; set it to 0.")
    return plans, {}, {}


def _has_convolutions(denoiser: nn.Module) -> bool:
    from torch import nn

    return any(isinstance(module, nn.Conv2d) and ".resnets." in name for name, module in denoiser.named_modules())


def _given(settings: AdapterSettings, family: Family, modules: Mapping[Part, nn.Module]) -> tuple[Given, Given]:
    path = Path(settings.start_file)
    tensors = read_tensors_of(path)
    found = {part: parted(layers_of(tensors, family, part, (name for name, _ in module.named_modules()))) for part, module in modules.items()}
    given = {part: layers for part, (layers, _) in found.items() if layers}
    whole = {part: layers for part, (_, layers) in found.items() if layers}
    if not given:
        what = "whole weights alone, which are no LoRA" if whole else f"nothing for the trained parts of {family.title}"
        raise AthanorError(f"{path.name}, which the training should start from, holds {what}.")
    for layers in given.values():
        found, kind = kind_of(layers, path.name)
        # LoCon is LoRA with more layers; IA³ in its stock form looks like a DoRA.
        if settings.kind not in {"lora": ("lora", "locon"), "dora": ("dora", "ia3")}.get(found, (found,)):
            raise AthanorError(f"{path.name}, which the training should start from, is a {kind.title}; choose {found} as the adapter.")
    return given, whole


def _notes(settings: AdapterSettings, family: Family, modules: Mapping[Part, nn.Module]) -> tuple[str, ...]:
    if not settings.start_file:
        return ()
    path = Path(settings.start_file)
    names = {part: [name.replace(".base_layer", "") for name, _ in module.named_modules()] for part, module in modules.items()}
    note = unread_note(read_tensors_of(path), family, names, path.name)
    return (note,) if note else ()


def _groups(kind: Adapter, part: Part, rate: float, lora_plus_ratio: float, plans: Sequence[LayerPlan], layers: Layers) -> list[Group]:
    """A group for each learning rate."""
    ratios = {plan.name: plan.rate for plan in plans}
    sorted_out: dict[float, dict[str, torch.Tensor]] = {}
    for (name, suffix), tensor in trained(kind, layers).items():
        ratio = ratios[name] * (lora_plus_ratio if lora_plus_ratio > 0 and suffix in kind.fast else 1.0)
        sorted_out.setdefault(ratio, {})[f"{name}.{suffix}"] = tensor
    return [
        Group(part if ratio == 1.0 else f"{part} × {ratio:g}", rate * ratio, tensors, len({_layer_of(name, layers) for name in tensors}))
        for ratio, tensors in sorted(sorted_out.items())
    ]


def _layer_of(parameter: str, layers: Layers) -> str:
    return next(name for name in (parameter.rsplit(".", 1)[0], parameter.rsplit(".", 2)[0]) if name in layers)


def _dropping(seed: int, everything: Sequence[Layers]) -> Callable[[int], AbstractContextManager[None]]:
    import torch

    device = next(layer for layers in everything for layer in layers.values()).base_layer.weight.device

    @contextmanager
    def dropping(draw: int) -> Iterator[None]:
        _set_training(everything, True)
        # A forward pass that is computed anew for its gradient gets this state back from torch.utils.checkpoint.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(stable_seed(seed, "dropout", draw))
            yield

    return dropping


def _set_training(everything: Sequence[Layers], training: bool) -> None:
    for layers in everything:
        if next(iter(layers.values())).training != training:
            set_training(layers, training)


def network_metadata(settings: AdapterSettings, kind: Adapter, plans: Sequence[LayerPlan], with_t5: bool = False) -> dict[str, str]:
    """What sd-scripts and LyCORIS write of a network's form; its rank and alpha are those that most layers have."""
    ranks = [plan.rank for plan in plans]
    rank = max(sorted(set(ranks)), key=ranks.count)
    alpha = next(plan.alpha for plan in plans if plan.rank == rank)
    arguments: dict[str, str] = {}
    if kind.algo is not None:
        arguments["algo"] = kind.algo
    if with_t5:
        arguments["train_t5xxl"] = "True"
    windowed = settings.kind == "locon" or settings.conv_rank > 0
    if windowed:
        conv_rank = settings.conv_rank or settings.rank
        arguments |= {"conv_dim": str(conv_rank), "conv_alpha": str(settings.conv_alpha or float(conv_rank))}
    if settings.kind == "lokr":
        arguments |= {"factor": str(settings.factor or -1), "decompose_both": str(settings.decompose_both), "full_matrix": str(settings.full_matrix)}
    if settings.kind == "dora":
        arguments |= {"dora_wd": "True", "wd_on_output": "False"}
    for key, value in (
        ("rank_dropout", settings.rank_dropout),
        ("module_dropout", settings.module_dropout),
        ("loraplus_lr_ratio", settings.lora_plus_ratio),
    ):
        if value > 0:
            arguments[key] = str(value)
    return {
        "ss_network_module": kind.network_module,
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(round(alpha, 6)),
        "ss_network_dropout": str(settings.dropout or None),
        "ss_network_args": json.dumps(arguments),
        "ss_scale_weight_norms": str(settings.max_norm or None),
    }
