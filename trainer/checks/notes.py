"""Settings that are always set to something and do nothing in this job: told when it begins, as refusing them would help nobody."""

from __future__ import annotations

from ..config import TrainJob
from ..settings import AdapterSettings

_FORM = ("rank", "alpha")


def unused_notes(job: TrainJob) -> list[str]:
    """A sentence for each group of them."""
    adapter = job.adapter
    if job.kind != "lora":
        return _told(adapter, ("kind", *_FORM), f"for {'an embedding' if job.kind == 'embedding' else 'a whole model'}, which has no adapter")
    if adapter.start_file:
        return _told(adapter, _FORM, "where training goes on from a LoRA, whose file decides them")
    if adapter.kind == "lokr" and adapter.full_matrix:
        return _told(adapter, _FORM, "while full_matrix keeps LoKr's factors whole")
    return []


def _told(adapter: AdapterSettings, names: tuple[str, ...], where: str) -> list[str]:
    usual = AdapterSettings()
    changed = [f"{name} = {getattr(adapter, name)}" for name in names if getattr(adapter, name) != getattr(usual, name)]
    if not changed:
        return []
    return [f"The adapter's {' and '.join(changed)} {'does' if len(changed) == 1 else 'do'} nothing {where}."]
