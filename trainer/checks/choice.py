"""Blocks, pattern and rules that mean no layer of the model, told from the names in its headers before anything loads.

What only the loaded model tells, such as the layers of a text encoder, is told then.
"""

from __future__ import annotations

import dataclasses
import re

from ..adapters.plan import unmatched
from ..config import TrainJob
from ..errors import AthanorError
from ..families import family
from ..families.base import PARTS
from ..merging.stored import StoredWeights
from ..settings import AdapterSettings

_OF_TEXT = ("text_model", "encoder", "embeddings", "final_layer_norm", "text_projection", "shared")
"""What a text encoder's own parts begin with."""


def choice_problems(job: TrainJob) -> list[str]:
    """A sentence for each. The base's files must be known to be whole."""
    chosen = AdapterSettings(blocks=job.checkpoint.blocks) if job.kind == "checkpoint" else job.adapter
    if job.kind == "embedding" or not (chosen.blocks or chosen.pattern or chosen.rules) or job.train.rate == 0:
        return []
    try:
        modules = StoredWeights(job.base).by_part.get("denoiser", {})
        if not modules:
            return []
        names = list(modules) if job.kind == "checkpoint" else _targets(job, list(modules))
        told = unmatched([("denoiser", name) for name in names], dataclasses.replace(chosen, **_surely_of_the_denoiser(job, chosen, names)))
    except (AthanorError, re.error):
        return []  # told elsewhere
    if job.kind == "checkpoint":
        return [f"Checkpoint: {sentence.replace('layer that is trained here', 'weight of what is trained')}" for sentence in told]
    return [f"Adapter: {sentence}" for sentence in told]


def _targets(job: TrainJob, names: list[str]) -> list[str]:
    """Those that could be trained; more than are, where convolutions or all layers are asked for."""
    if job.adapter.kind == "locon" or job.adapter.conv_rank > 0 or job.adapter.targets in ("linear", "full"):
        return names
    wanted = re.compile(family(job.base.family).adapter_targets("denoiser"))
    return [name for name in names if wanted.fullmatch(name)] or names


def _surely_of_the_denoiser(job: TrainJob, chosen: AdapterSettings, names: list[str]) -> dict[str, str]:
    """The globs that can mean nothing else than a part of the denoiser."""
    tops = {name.partition(".")[0] for name in names}

    def sure(glob: str) -> bool:
        top = glob.strip().partition(".")[0].partition(":")[0].strip()
        if job.kind == "checkpoint":
            # Norms have no rows that headers would tell them by.
            return not job.trains_text and not re.search(r"[*?\[]", top) and "norm" not in top and top not in (*tops, *PARTS)
        return not job.trains_text or (not re.search(r"[*?\[]", top) and top not in (*PARTS, *_OF_TEXT))

    rules = "\n".join(line for line in chosen.rules.splitlines() if line.strip() and not line.strip().startswith("#") and sure(line))
    blocks = ",".join(each for each in re.split(r"[,\n]", chosen.blocks) if each.strip() and sure(each))
    return {"blocks": blocks, "rules": rules, "pattern": "" if job.trains_text else chosen.pattern}
