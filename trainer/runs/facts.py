"""What comparisons and scores need to know of a run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..adapters.check import merges
from ..base_merges import merged_fingerprint
from ..config import LoadedJob
from ..data.batches import commonest_bucket
from ..errors import AthanorError
from ..families import family
from ..memory.space import trained_part_names
from ..objective.noise import trained_base
from ..settings import AdapterSettings, ObjectiveSettings
from ..types import BaseModel
from .run import Run


@dataclass(frozen=True)
class RunFacts:
    """What is needed of a training to draw with its epochs."""

    family: str
    """Empty where another program trained it."""
    token: str
    """The embedding's word in the prompts; empty for LoRAs."""
    trigger: str
    size_px: tuple[int, int]
    precision: str
    unit: str = "epoch"
    """What the epochs are numbered by."""
    merge_files: str = ""
    """LoRAs that its base was given first."""
    base_precision: str = "auto"
    objective: ObjectiveSettings = ObjectiveSettings()
    words: tuple[str, ...] = ()
    """Embeddings that each epoch has beside its own file."""
    trained_parts: tuple[str, ...] = ()
    """Of runs whose epochs are whole models."""

    @classmethod
    def of(cls, run: Run, base: BaseModel | None) -> RunFacts:
        job = run.job()
        if isinstance(job, LoadedJob):
            side_px = base.native_px if base else 512
            whole = job.content == "checkpoint"
            parts = ("denoiser", *(family(base.family).text_parts if base else ())) if whole else ()
            return cls("", run.token(), "", (side_px, side_px), "bf16", job.unit, trained_parts=parts)
        job = run.train_job()
        size_px = commonest_bucket(job.dataset.with_role("train"))
        return cls(
            family=job.base.family,
            token=run.token(),
            trigger=job.dataset.trigger,
            size_px=size_px,
            precision=job.train.precision,
            merge_files=job.adapter.merge_files,
            base_precision=job.train.base_precision,
            objective=job.objective,
            words=run.words(),
            trained_parts=trained_part_names(job) if job.kind == "checkpoint" else (),
        )

    def drawn(self, base: BaseModel) -> BaseModel:
        """`base` with the noise schedule that the run was trained with, by which its sample pictures were drawn."""
        return trained_base(base, self.objective)

    def pace_key(self, base: BaseModel) -> str:
        """Of the model as the worker draws with it, by which is known how long pictures take."""
        parts = ("worker", base.fingerprint, self.precision, self.base_precision)
        return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()[:16]

    def look(self, base: BaseModel) -> list[str]:
        """What changes its pictures beside the base and the epoch. Raises AthanorError if a LoRA that was merged first is gone."""
        if not self.merge_files and self.base_precision == "auto":
            return []
        merged = AdapterSettings(merge_files=self.merge_files)
        for path, _ in merges(merged):
            if not Path(path).is_file():
                raise AthanorError(f"The LoRA {path}, which the run merged into its base first, is not there any more; put it back.")
        return [merged_fingerprint(base.fingerprint, merged), self.base_precision]
