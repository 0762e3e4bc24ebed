"""The widgets of nodes that draw pictures with epochs: alike on all of them."""

from __future__ import annotations

from comfy_api.latest import io

MAX_SEED = 2**32 - 1


def negative_prompt() -> io.Input:
    return io.String.Input("negative_prompt", default="", display_name="negative prompt", tooltip="What the pictures should not show.")


def seed(tooltip: str, num_seeds: int = 1) -> io.Input:
    """The first of at most `num_seeds`."""
    return io.Int.Input("seed", default=1, min=0, max=MAX_SEED + 1 - num_seeds, control_after_generate=False, tooltip=tooltip)


def steps() -> io.Input:
    return io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Sampling steps of each picture.")


def guidance(tooltip: str) -> io.Input:
    return io.Float.Input("guidance", default=7.0, min=0.0, max=100.0, step=0.5, tooltip=tooltip)
