"""What the optimizer is told beside its name and the learning rates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from ..optimizing.optimizers import OPTIMIZERS, Option, own_options
from .field import setting


@dataclass(frozen=True)
class OptimizerSettings:
    """Options of single optimizers are None where nobody set them: then the optimizer's own default counts."""

    kind: str = setting(
        "", "The optimizer that these options are for; empty where they are for whichever is chosen.", choices=("", *OPTIMIZERS.names())
    )
    beta1: float | None = setting(None, "How long the running mean of the gradient remembers. 0.9 suits nearly always.", 0.0, 0.99999, step=0.001)
    beta2: float | None = setting(
        None, "How long the running mean of the squared gradient remembers; with Lion, of the gradient. 0.99 to 0.999.", 0.0, 0.99999, step=0.001
    )
    epsilon: float | None = setting(
        None, "Added to the divisor, so that a gradient of zero divides nothing by zero. Usual: 1e-8.", 1e-16, 1.0, step=1e-9
    )
    momentum: float | None = setting(None, "Share of the last step that is kept in the next one. 0 to 0.95.", 0.0, 0.99999, step=0.001)
    nesterov: bool | None = setting(None, "Looks ahead along the momentum (Nesterov).")
    centered: bool | None = setting(None, "Divides by the variance of the gradient instead of its square.")
    d0: float | None = setting(None, "First guess of the rate, far too small on purpose. Usual: 1e-6.", 1e-12, 1.0, step=1e-7)
    d_coef: float | None = setting(None, "Multiplies the rate that Prodigy finds: 0.5 trains more carefully, 2 more boldly.", 0.01, 100.0, step=0.1)
    growth_rate: float | None = setting(
        None, "The rate grows at most by this factor a step, for example 1.02. 0 sets no limit.", 0.0, 100.0, step=0.01
    )
    bias_correction: bool | None = setting(None, "Corrects the running means for having started at zero. Smoother first steps.")
    safeguard_warmup: bool | None = setting(None, "Keeps a warm-up from spoiling the guess of the rate.")
    decay_power: float | None = setting(None, "How fast the memory of the squared gradient grows with the steps. Usual: 0.8.", 0.01, 1.0, step=0.01)
    clip_threshold: float | None = setting(None, "Steps with a larger root mean square than this are shortened. Usual: 1.", 0.01, 100.0, step=0.1)
    scale_parameter: bool | None = setting(None, "Multiplies the rate by the size of each weight matrix. Off where you set the rate.")
    averaging_power: float | None = setting(None, "Larger than 0 weighs later steps more in the mean of the way. Usual: 0.", 0.0, 10.0, step=0.1)
    rate_power: float | None = setting(None, "How much steps at a higher rate count more in the mean of the way. Usual: 2.", 0.0, 10.0, step=0.1)
    text_encoder_2_rate: float = setting(
        -1.0,
        "Learning rate of the second text encoder (SDXL, SD3.5). 0 leaves it out; -1 takes that of the first, which is usual.",
        -1.0,
        10.0,
        step=1e-6,
    )
    accumulation: int = setting(
        1, "Batches whose gradients are added up before one step: as one larger batch, at the memory of a small one. Usual: 1 to 8.", 1, 1024
    )
    ema_decay: float = setting(
        0.0,
        "Saves and draws a running mean of the weights that remembers this share of itself each step, for example 0.99 to 0.9999. 0 turns it off.",
        0.0,
        0.999999,
        step=0.0001,
    )
    ema_on_cpu: bool = setting(False, "Keeps that mean in the computer's memory instead of the GPU's: a little slower.", advanced=True)
    t5_rate: float = setting(
        0.0,
        "Learning rate of T5 (FLUX.1, SD3.5), for example 1e-5. It costs much memory and is hardly ever needed. 0 leaves it out.",
        0.0,
        10.0,
        step=1e-6,
        advanced=True,
    )


_COMMON = ("kind", "text_encoder_2_rate", "accumulation", "ema_decay", "ema_on_cpu", "t5_rate")


def option_field_names() -> tuple[str, ...]:
    """The fields that only some optimizers have."""
    return tuple(item.name for item in dataclasses.fields(OptimizerSettings) if item.name not in _COMMON)


def chosen_options(settings: OptimizerSettings) -> dict[str, Option]:
    """The options that somebody set."""
    return {name: value for name in option_field_names() if (value := getattr(settings, name)) is not None}


def all_options(name: str, settings: OptimizerSettings) -> Mapping[str, Option]:
    """Every option of the optimizer `name` as it will be."""
    return {**own_options(name), **{key: value for key, value in chosen_options(settings).items() if key in own_options(name)}}
