"""How the weights are moved: builders by name, from libraries that are loaded when their optimizer is asked for.

A builder's keyword arguments are the optimizer's own options with their defaults; settings/optimizer.py holds the range
and the sentence of each. Rates come from outside, anew each step (see schedules.py).
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import AthanorError
from ..registry import Registry

if TYPE_CHECKING:
    import torch

ParameterGroups = Sequence[dict[str, Any]]
"""As torch takes them: {"params": […], "lr": rate}."""
Option = float | bool

OPTIMIZERS: Registry[Callable[..., torch.optim.Optimizer]] = Registry("optimizer")

_PACKAGES = {
    "adamw8bit": "bitsandbytes",
    "paged_adamw8bit": "bitsandbytes",
    "lion": "lion-pytorch",
    "lion8bit": "bitsandbytes",
    "prodigy": "prodigyopt",
    "schedulefree_adamw": "schedulefree",
}
"""What `pip install` calls the library of an optimizer that torch and transformers do not bring; Python writes _ for -."""
PAGED = ("paged_adamw8bit",)
RATE_FINDING = ("prodigy",)
"""They find the rate by themselves: the one that is set multiplies it, and must be the same for all parts."""
AVERAGING = ("schedulefree_adamw",)
"""They train at one point and give the mean of the way: no schedule is wanted, and there are two modes to switch."""


def own_options(name: str) -> dict[str, Option]:
    """The options that only some optimizers have, as this one takes them, with its defaults."""
    signature = inspect.signature(OPTIMIZERS[name])
    return {key: item.default for key, item in signature.parameters.items() if item.kind is inspect.Parameter.KEYWORD_ONLY}


def missing_package(name: str) -> str | None:
    """A sentence where the optimizer's library is not installed. Loads nothing."""
    package = _PACKAGES.get(name)
    if package is None or importlib.util.find_spec(package.replace("-", "_")):
        return None
    return (
        f"The optimizer {name} needs the package {package}, which is not installed. Run `pip install {package}` in ComfyUI's Python, or choose adamw."
    )


def device_problem(name: str, device_type: str) -> str | None:
    """A sentence where the optimizer cannot work, or does nothing special, on such a device ("cuda", "mps", "xpu" or "cpu")."""
    if name in PAGED and device_type != "cuda":
        return f"The optimizer {name} keeps its memory paged between an NVIDIA GPU and the computer, and there is none here; choose adamw8bit."
    if _PACKAGES.get(name) == "bitsandbytes" and device_type not in ("cuda", "xpu", "cpu"):
        return f"The optimizer {name} does not run on this kind of GPU ({device_type}); choose adamw, lion or adafactor."
    return None


def build_optimizer(name: str, groups: ParameterGroups, weight_decay: float, options: Mapping[str, Option]) -> torch.optim.Optimizer:
    """The optimizer over `groups`; what `options` leaves out is as the optimizer's own default.

    Raises AthanorError for an unknown name or option, a missing package, or rates that the optimizer cannot have.
    """
    builder, known = OPTIMIZERS[name], own_options(name)
    unknown = [key for key in options if key not in known]
    if unknown:
        raise AthanorError(f"The optimizer {name} has no option {unknown[0]}; it has: {', '.join(known) or 'none'}.")
    missing = missing_package(name)
    if missing:
        raise AthanorError(missing)
    rates = {group["lr"] for group in groups}
    if name in RATE_FINDING and len(rates) > 1:
        told = ", ".join(f"{rate:g}" for rate in sorted(rates))
        raise AthanorError(f"The optimizer {name} finds one rate for everything, so all parts must have the same one, best 1; they have {told}.")
    return builder(groups, weight_decay, **options)


def found_scale(optimizer: torch.optim.Optimizer) -> float:
    """By how much the rate that was set is multiplied: 1, but for optimizers that find the rate by themselves (Prodigy's d)."""
    return float(optimizer.param_groups[0].get("d", 1.0))


@OPTIMIZERS.register("adamw")
def adamw(groups: ParameterGroups, weight_decay: float, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019)."""
    import torch

    return torch.optim.AdamW(groups, betas=(beta1, beta2), eps=epsilon, weight_decay=weight_decay)


@OPTIMIZERS.register("adamw8bit")
def adamw8bit(
    groups: ParameterGroups, weight_decay: float, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> torch.optim.Optimizer:
    """AdamW with its two running means in 8 bits (Dettmers et al. 2022); tensors of fewer than 4096 numbers keep 32."""
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, betas=(beta1, beta2), eps=epsilon, weight_decay=weight_decay)


@OPTIMIZERS.register("paged_adamw8bit")
def paged_adamw8bit(
    groups: ParameterGroups, weight_decay: float, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
) -> torch.optim.Optimizer:
    """AdamW in 8 bits whose means may leave the GPU when its memory is full (Dettmers et al. 2023, section 3)."""
    from bitsandbytes.optim import PagedAdamW8bit

    return PagedAdamW8bit(groups, betas=(beta1, beta2), eps=epsilon, weight_decay=weight_decay)


@OPTIMIZERS.register("lion")
def lion(groups: ParameterGroups, weight_decay: float, *, beta1: float = 0.9, beta2: float = 0.99) -> torch.optim.Optimizer:
    """Lion (Chen et al. 2023): steps by the sign of the running mean alone; a third to a tenth of AdamW's rate."""
    from lion_pytorch import Lion

    return Lion(groups, betas=(beta1, beta2), weight_decay=weight_decay)


@OPTIMIZERS.register("lion8bit")
def lion8bit(groups: ParameterGroups, weight_decay: float, *, beta1: float = 0.9, beta2: float = 0.99) -> torch.optim.Optimizer:
    """Lion with its running mean in 8 bits; tensors of fewer than 4096 numbers keep 32."""
    from bitsandbytes.optim import Lion8bit

    return Lion8bit(groups, betas=(beta1, beta2), weight_decay=weight_decay)


@OPTIMIZERS.register("prodigy")
def prodigy(
    groups: ParameterGroups,
    weight_decay: float,
    *,
    beta1: float = 0.9,
    beta2: float = 0.99,
    epsilon: float = 1e-8,
    d0: float = 1e-6,
    d_coef: float = 1.0,
    growth_rate: float = 0.0,
    bias_correction: bool = True,
    safeguard_warmup: bool = True,
) -> torch.optim.Optimizer:
    """Prodigy (Mishchenko and Defazio 2024): finds the step size d by itself; the set rate, normally 1, multiplies it."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints which weight decay it takes
        from prodigyopt import Prodigy

        return Prodigy(
            groups,
            betas=(beta1, beta2),
            eps=epsilon,
            weight_decay=weight_decay,
            decouple=True,
            use_bias_correction=bias_correction,
            safeguard_warmup=safeguard_warmup,
            d0=d0,
            d_coef=d_coef,
            growth_rate=growth_rate or float("inf"),
        )


@OPTIMIZERS.register("adafactor")
def adafactor(
    groups: ParameterGroups,
    weight_decay: float,
    *,
    beta1: float = 0.0,
    decay_power: float = 0.8,
    clip_threshold: float = 1.0,
    scale_parameter: bool = False,
) -> torch.optim.Optimizer:
    """Adafactor (Shazeer and Stern 2018) at the rates that are set, not at its own; keeps row and column means only."""
    from transformers.optimization import Adafactor

    return Adafactor(
        groups,
        beta1=beta1 or None,
        decay_rate=-decay_power,
        clip_threshold=clip_threshold,
        scale_parameter=scale_parameter,
        relative_step=False,
        warmup_init=False,
        weight_decay=weight_decay,
    )


@OPTIMIZERS.register("adam")
def adam(groups: ParameterGroups, weight_decay: float, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2014); the weight decay is part of the gradient."""
    import torch

    return torch.optim.Adam(groups, betas=(beta1, beta2), eps=epsilon, weight_decay=weight_decay)


@OPTIMIZERS.register("sgd")
def sgd(groups: ParameterGroups, weight_decay: float, *, momentum: float = 0.9, nesterov: bool = False) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum (Sutskever et al. 2013)."""
    import torch

    return torch.optim.SGD(groups, lr=1e-3, momentum=momentum, nesterov=nesterov and momentum > 0, weight_decay=weight_decay)


@OPTIMIZERS.register("rmsprop")
def rmsprop(
    groups: ParameterGroups, weight_decay: float, *, beta2: float = 0.99, epsilon: float = 1e-8, momentum: float = 0.0, centered: bool = False
) -> torch.optim.Optimizer:
    """RMSprop (Tieleman and Hinton 2012); `beta2` is what torch calls alpha."""
    import torch

    return torch.optim.RMSprop(groups, alpha=beta2, eps=epsilon, momentum=momentum, centered=centered, weight_decay=weight_decay)


@OPTIMIZERS.register("schedulefree_adamw")
def schedulefree_adamw(
    groups: ParameterGroups,
    weight_decay: float,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    averaging_power: float = 0.0,
    rate_power: float = 2.0,
) -> torch.optim.Optimizer:
    """Schedule-free AdamW (Defazio et al. 2024): the mean of the way instead of a falling rate."""
    from schedulefree import AdamWScheduleFree

    return AdamWScheduleFree(
        groups, betas=(beta1, beta2), eps=epsilon, weight_decay=weight_decay, r=averaging_power, weight_lr_power=rate_power, foreach=True
    )
