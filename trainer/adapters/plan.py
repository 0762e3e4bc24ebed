"""Which layers get an adapter, of which rank and rate."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..settings import AdapterSettings
from .base import LayerPlan

if TYPE_CHECKING:
    from torch import nn

_ATTENTION = re.compile(r"(?:^|\.)(?:attn\d?|self_attn|SelfAttention)\.")
_MLP = re.compile(r"(?:^|\.)(?:ff(?:_context)?|mlp|DenseReluDense)\.|(?:^|\.)single_transformer_blocks\.\d+\.proj_(?:mlp|out)$")
_CONVOLVED = re.compile(r"(?:^|\.)(?:resnets|downsamplers|upsamplers)\.\d+\.")
_SCALED = re.compile(
    r"(?:^|\.)(?:attn\d?\.(?:to|add)_[kv](?:_proj)?|self_attn\.[kv]_proj|SelfAttention\.[kv]|ff(?:_context)?\.net\.2|mlp\.fc2|DenseReluDense\.wo)$"
)
"""What LyCORIS's preset for IA³ trains: keys, values, and the second layer of each feed-forward pair."""
_RULE = re.compile(r"\s*(?P<glob>[^:\s][^:]*?)\s*:\s*(?P<settings>(?:\w+\s*=\s*[\d.eE+-]+[\s,]*)+)")
_KEYS = ("rank", "alpha", "rate")


@dataclass(frozen=True)
class Rule:
    """One line of the rules: which layers, and what is different for them. None leaves a value as it is."""

    glob: str
    rank: int | None = None
    alpha: float | None = None
    rate: float | None = None


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Raises AthanorError for a line that is none. Empty lines and lines that start with # are left out."""
    return tuple(_rule(line.strip()) for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))


def _rule(line: str) -> Rule:
    match = _RULE.fullmatch(line)
    if match is None:
        raise AthanorError(f"Rules: {line!r} is not understood; write for example up_blocks.*: rank=8 rate=0.5.")
    values: dict[str, float] = {}
    for key, value in re.findall(r"(\w+)\s*=\s*([\d.eE+-]+)", match["settings"]):
        if key not in _KEYS:
            raise AthanorError(f"Rules: {line!r} sets {key!r}; known are {', '.join(_KEYS)}.")
        try:
            values[key] = float(value)
        except ValueError:
            raise AthanorError(f"Rules: {value!r} in {line!r} is not a number.") from None
        if values[key] < 0 or not math.isfinite(values[key]) or (key == "alpha" and values[key] == 0):
            raise AthanorError(f"Rules: {key}={value} in {line!r} must not be negative.")
    rank = values.get("rank")
    if rank is not None and (rank != int(rank) or rank > 1024):
        raise AthanorError(f"Rules: rank={rank:g} in {line!r} must be a whole number from 0 to 1024.")
    return Rule(match["glob"], None if rank is None else int(rank), values.get("alpha"), values.get("rate"))


def names_of(text: str) -> tuple[str, ...]:
    """The entries of a list with commas or line ends between."""
    return tuple(part for raw in re.split(r"[,\n]", text) if (part := raw.strip()))


def is_part(glob: str, part: str, name: str) -> bool:
    """Whether `glob` means the layer or something that it lies in; the name may have its part of the model in front."""
    return any(fnmatchcase(whole, form) for whole in (name, f"{part}.{name}") for form in (glob, f"{glob}.*"))


def plan_layers(module: nn.Module, part: str, default_targets: str, settings: AdapterSettings) -> tuple[LayerPlan, ...]:
    """The layers of `module`, the model's `part`, in the order of their names; empty where the settings leave all out."""
    wanted = [name for name in _targets(module, part, default_targets, settings) if _is_chosen(name, part, settings)]
    rules = parse_rules(settings.rules)
    plans = (_planned(name, is_window(module.get_submodule(name)), part, rules, settings) for name in sorted(wanted))
    return tuple(plan for plan in plans if plan is not None)


def rate_of(name: str, part: str, settings: AdapterSettings) -> float:
    """What the rules multiply the layer's learning rate by."""
    rates = [rule.rate for rule in parse_rules(settings.rules) if rule.rate is not None and is_part(rule.glob, part, name)]
    return rates[-1] if rates else 1.0


def unmatched(names: Iterable[tuple[str, str]], settings: AdapterSettings) -> tuple[str, ...]:
    """A sentence for each block or rule that means none of the layers `names`, pairs of part and name, that could be trained."""
    known = list(names)
    problems = []
    for what, globs in (("Blocks", names_of(settings.blocks)), ("Rules", [rule.glob for rule in parse_rules(settings.rules)])):
        for glob in globs:
            if not any(is_part(glob, part, name) for part, name in known):
                problems.append(f"{what}: {glob!r} matches no layer that is trained here. {_examples(known)}")
    if settings.pattern and not any(re.search(settings.pattern, name) for _, name in known):
        problems.append(f"Pattern: {settings.pattern!r} matches no layer that is trained here. {_examples(known)}")
    return tuple(problems)


def all_targets(module: nn.Module, part: str, default_targets: str, settings: AdapterSettings) -> tuple[str, ...]:
    """What the preset takes, before blocks, pattern and rules."""
    return tuple(_targets(module, part, default_targets, settings))


def _examples(known: Sequence[tuple[str, str]]) -> str:
    tops = list(dict.fromkeys(".".join(name.split(".")[:2]) for _, name in known))
    return f"Layers are called for example {known[len(known) // 2][1]}; the parts are {', '.join(tops[:12])}." if known else "There are none."


def _targets(module: nn.Module, part: str, default_targets: str, settings: AdapterSettings) -> list[str]:
    from torch import nn

    default = re.compile(default_targets)
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))}
    usual = [name for name in layers if default.fullmatch(name)]
    whole_model = part == "denoiser"
    if settings.kind == "ia3" and settings.targets == "default":
        return [name for name in usual if _SCALED.search(name)]
    if settings.targets == "attention":
        wanted = [name for name in usual if _ATTENTION.search(name)]
    elif settings.targets == "attention-mlp":
        wanted = [name for name in usual if _ATTENTION.search(name) or _MLP.search(name)]
    elif settings.targets == "linear" and whole_model:
        wanted = [name for name, layer in layers.items() if isinstance(layer, nn.Linear)]
    elif settings.targets == "full" and whole_model:
        wanted = list(layers)
    else:
        wanted = usual
    if whole_model and settings.targets != "full" and (settings.kind == "locon" or settings.conv_rank > 0):
        wanted += [name for name in layers if _CONVOLVED.search(name) and name not in set(wanted)]
    return wanted


def _is_chosen(name: str, part: str, settings: AdapterSettings) -> bool:
    blocks = names_of(settings.blocks)
    if blocks and not any(is_part(glob, part, name) for glob in blocks):
        return False
    return not settings.pattern or re.search(settings.pattern, name) is not None


def _planned(name: str, windowed: bool, part: str, rules: Sequence[Rule], settings: AdapterSettings) -> LayerPlan | None:
    conv_rank = settings.conv_rank or settings.rank
    rank, alpha = (conv_rank, settings.conv_alpha or float(conv_rank)) if windowed else (settings.rank, settings.alpha)
    plan = LayerPlan(name, rank, alpha)
    for rule in rules:
        if not is_part(rule.glob, part, name):
            continue
        if rule.rank is not None:
            # The scale stays, so that a layer of another rank changes as strongly.
            plan = replace(plan, rank=rule.rank, alpha=plan.alpha * rule.rank / plan.rank if plan.rank else float(rule.rank))
        if rule.alpha is not None:
            plan = replace(plan, alpha=rule.alpha)
        if rule.rate is not None:
            plan = replace(plan, rate=rule.rate)
    if plan.rank == 0 or plan.rate == 0:
        return None
    # Kalajdzievski 2023: alpha / sqrt(rank), written as the alpha that loaders divide by rank.
    return replace(plan, alpha=plan.alpha * math.sqrt(plan.rank)) if settings.rank_stabilised else plan


def is_window(layer: nn.Module) -> bool:
    """Whether it is a convolution that looks at neighbours: one of 1 x 1 is as good as a linear layer."""
    from torch import nn

    return isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
