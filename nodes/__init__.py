"""The nodes: thin faces of trainer and tagger. Only this room knows ComfyUI."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import host


class AthanorExtension(ComfyExtension):
    async def on_load(self) -> None:
        from .panel_routes import add_panel_routes
        from .routes import add_routes
        from .viewer_routes import add_viewer_routes

        host.register_folders()
        add_routes()
        add_panel_routes()
        add_viewer_routes()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        from .adapters import AdapterSettingsNode
        from .apply import ApplyEpoch
        from .base_model import BaseModelFromWires, LoadBaseModel
        from .bucket import Bucket
        from .captioning import CaptionImages
        from .captions import SaveCaptions
        from .compare import XYPlotCompare
        from .dataset import LoadDataset
        from .editing import EditTags
        from .epochs import PlotLoss, SaveEpoch
        from .exchange import DatasetToImages, ImagesToDataset
        from .load_run import LoadRun
        from .merging import MergeEpochs
        from .models import ExtractLora, MergeIntoCheckpoint
        from .objective_settings import CaptionSettingsNode, DataSettingsNode, ObjectiveSettingsNode
        from .parameters import ExportSettings, ImportSettings
        from .prior_settings import PriorSettingsNode
        from .run_settings import RunSettingsNode, SampleSettingsNode
        from .scoring import ScoreEpochs
        from .tagging import AutoTag
        from .train import TrainCheckpoint, TrainEmbedding, TrainLora
        from .training_settings import OptimizerSettingsNode, PerformanceSettingsNode, ScheduleSettingsNode
        from .varying import CollectRuns, VarySettings

        dataset = [LoadDataset, ImagesToDataset, AutoTag, CaptionImages, EditTags, SaveCaptions, Bucket, DatasetToImages]
        settings = [
            AdapterSettingsNode,
            OptimizerSettingsNode,
            ScheduleSettingsNode,
            PerformanceSettingsNode,
            ObjectiveSettingsNode,
            CaptionSettingsNode,
            DataSettingsNode,
            PriorSettingsNode,
        ]
        settings += [SampleSettingsNode, RunSettingsNode, ImportSettings, ExportSettings, VarySettings]
        results = [LoadRun, CollectRuns, MergeEpochs, MergeIntoCheckpoint, ExtractLora, SaveEpoch, ApplyEpoch, PlotLoss, ScoreEpochs, XYPlotCompare]
        trainings = [TrainLora, TrainEmbedding, TrainCheckpoint]
        return [LoadBaseModel, BaseModelFromWires, *dataset, *trainings, *settings, *results]
