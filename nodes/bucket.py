"""Bucket: which size each image is trained in."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..trainer.dataset import assign_buckets, bucket_chart, bucket_report
from ..trainer.types import BaseModel, Dataset
from .images import to_comfy
from .types import BaseModelWire, DatasetWire

_DEFAULT_RESOLUTION_PX, _DEFAULT_STEP_PX = 512, 64


class Bucket(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorBucket",
            display_name="Bucket",
            category="Athanor/dataset",
            description="Sorts the images into sizes of like area, so that portraits and landscapes are trained without cutting much off. The sizes are kohya's.",
            search_aliases=["resolution", "aspect ratio", "crop", "resize"],
            inputs=[
                DatasetWire.Input("dataset", tooltip="The images to sort."),
                BaseModelWire.Input("base_model", optional=True, tooltip="Where it is connected, every 0 below takes what suits this model."),
                io.Int.Input(
                    "resolution",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="Side in pixels of the square whose area all sizes have. 0: that of the base model, or 512.",
                ),
                io.Int.Input(
                    "min_side",
                    default=0,
                    min=0,
                    max=4096,
                    display_name="min side",
                    tooltip="Shortest side of a size in pixels. 0: half the resolution.",
                ),
                io.Int.Input(
                    "max_side",
                    default=0,
                    min=0,
                    max=8192,
                    display_name="max side",
                    tooltip="Longest side of a size in pixels. 0: twice the resolution.",
                ),
                io.Int.Input(
                    "step",
                    default=0,
                    min=0,
                    max=512,
                    tooltip="Sides are multiples of this many pixels; larger makes fewer sizes. 0: that of the base model, or 64.",
                ),
                io.Boolean.Input(
                    "upscale",
                    default=True,
                    tooltip="Enlarge images that are smaller than their size. Off: small images are trained as small as they are.",
                ),
            ],
            outputs=[
                DatasetWire.Output("dataset", display_name="dataset"),
                io.Image.Output("chart", display_name="chart"),
                io.String.Output("report", display_name="report"),
            ],
        )

    @classmethod
    def execute(
        cls, dataset: Dataset, resolution: int, min_side: int, max_side: int, step: int, upscale: bool, base_model: BaseModel | None = None
    ) -> io.NodeOutput:
        resolution_px = resolution or (base_model.native_px if base_model else _DEFAULT_RESOLUTION_PX)
        step_px = step or (base_model.bucket_step_px if base_model else _DEFAULT_STEP_PX)
        placed = assign_buckets(
            dataset,
            resolution_px=resolution_px,
            min_px=min_side or max(step_px, resolution_px // 2),
            max_px=max_side or resolution_px * 2,
            step_px=step_px,
            upscale=upscale,
        )
        chart = to_comfy([bucket_chart(placed)])
        return io.NodeOutput(placed, chart, bucket_report(placed), ui=ui.PreviewImage(chart, cls=cls))
