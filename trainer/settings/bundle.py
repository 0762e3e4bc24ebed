"""The settings that travel on a wire together: one section for each room of the training."""

from __future__ import annotations

from dataclasses import dataclass

from .adapter import AdapterSettings
from .captions import CaptionSettings
from .checkpoint import CheckpointSettings
from .data import DataSettings
from .embedding import EmbeddingSettings
from .objective import ObjectiveSettings
from .optimizer import OptimizerSettings
from .performance import PerformanceSettings
from .prior import PriorSettings
from .run import RunSettings
from .samples import SampleSettings
from .schedule import ScheduleSettings
from .train import TrainSettings

USUAL_OF_AN_EMBEDDING: dict[str, float] = {"text_encoder_rate": 5e-3, "weight_decay": 0.0}
"""Fields of TrainSettings, whose own defaults suit a LoRA."""
USUAL_OF_A_CHECKPOINT: dict[str, float] = {"rate": 2e-6, "text_encoder_rate": 0.0, "save_every_epochs": 5}
USUAL_KEPT_CHECKPOINTS = 3
"""Of RunSettings.keep_last: whole models are large."""


@dataclass(frozen=True)
class Settings:
    """What the settings nodes hand on, each replacing its own section; the training nodes' widgets replace single fields of them."""

    adapter: AdapterSettings = AdapterSettings()
    train: TrainSettings = TrainSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    performance: PerformanceSettings = PerformanceSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    captions: CaptionSettings = CaptionSettings()
    data: DataSettings = DataSettings()
    samples: SampleSettings = SampleSettings()
    run: RunSettings = RunSettings()
    prior: PriorSettings = PriorSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    from_file: tuple[str, ...] = ()
    """What a parameter file said, as "section.field": there the training nodes' widgets do not replace it."""
    imported: tuple[str, ...] = ()
    """All that parameter files said, whether the widgets replace it or not."""
    varied: tuple[str, ...] = ()
    """What Vary Settings has set, as "section.field": more than any widget."""
    label: str = ""
    """Of what is varied, like "rank16": it stands behind the run's name."""
