"""Names of ComfyUI's samplers and schedules."""

from __future__ import annotations

import comfy.samplers


def samplers() -> list[str]:
    return list(comfy.samplers.SAMPLER_NAMES)


def schedulers() -> list[str]:
    return list(comfy.samplers.SCHEDULER_NAMES)
