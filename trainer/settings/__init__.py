"""What a person can set, one section a file. No torch: the host makes its widgets of them."""

from .adapter import AdapterSettings
from .bundle import USUAL_KEPT_CHECKPOINTS, USUAL_OF_A_CHECKPOINT, USUAL_OF_AN_EMBEDDING, Settings
from .captioning import CaptioningSettings
from .captions import CaptionOverrides, CaptionSettings
from .checkpoint import CheckpointSettings
from .data import DataOverrides, DataSettings
from .embedding import EmbeddingSettings
from .field import range_problems, setting, value_type
from .objective import ObjectiveSettings
from .optimizer import OptimizerSettings
from .performance import PerformanceSettings
from .prior import PriorSettings
from .run import RunSettings
from .samples import SampleSettings
from .schedule import ScheduleSettings
from .train import TrainSettings

__all__ = [
    "USUAL_KEPT_CHECKPOINTS",
    "USUAL_OF_AN_EMBEDDING",
    "USUAL_OF_A_CHECKPOINT",
    "AdapterSettings",
    "CaptionOverrides",
    "CaptionSettings",
    "CaptioningSettings",
    "CheckpointSettings",
    "DataOverrides",
    "DataSettings",
    "EmbeddingSettings",
    "ObjectiveSettings",
    "OptimizerSettings",
    "PerformanceSettings",
    "PriorSettings",
    "RunSettings",
    "SampleSettings",
    "ScheduleSettings",
    "Settings",
    "TrainSettings",
    "range_problems",
    "setting",
    "value_type",
]
