"""ComfyUI's samplers and schedules."""

from __future__ import annotations

import comfy.cli_args
import comfy.samplers


def samplers() -> list[str]:
    return list(comfy.samplers.SAMPLER_NAMES)


def schedulers() -> list[str]:
    return list(comfy.samplers.SCHEDULER_NAMES)


def previews_sampling() -> bool:
    """Whether they show pictures half-way."""
    return comfy.cli_args.args.preview_method != comfy.cli_args.LatentPreviewMethod.NoPreviews
