"""Bucket: which size each image is trained in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from comfy_api.latest import io, ui

from ..tagger.faces import ADVICE, FaceDetector
from ..trainer.dataset import Focus, assign_buckets, bucket_chart, bucket_report, contact_sheet
from ..trainer.dataset.focus import by_edges, by_faces, upper_third
from ..trainer.dataset.resolutions import in_resolutions, read_resolutions
from ..trainer.errors import AthanorError
from ..trainer.types import BaseModel, Dataset
from . import host
from .images import to_comfy
from .types import BaseModelWire, DatasetWire

_DEFAULT_RESOLUTION_PX, _DEFAULT_STEP_PX = 512, 64
_FITS = {"cover and cut": "cover", "pad": "pad", "stretch": "stretch"}
_CENTRE, _UPPER_THIRD, _EDGES, _FACES = "centre", "upper third", "edges", "faces"
_NO_DETECTOR = "none"


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
                io.Combo.Input(
                    "fit",
                    options=list(_FITS),
                    default="cover and cut",
                    optional=True,
                    advanced=True,
                    tooltip="How an image comes into its size: filled and cut, shown whole with a border around it, or stretched.",
                ),
                io.Combo.Input(
                    "crop",
                    options=[_CENTRE, _UPPER_THIRD, _EDGES, _FACES],
                    default=_CENTRE,
                    optional=True,
                    advanced=True,
                    tooltip="What stays in the picture where something is cut off: the middle, the upper third (people), where most edges are, or faces.",
                ),
                io.Combo.Input(
                    "face_detector",
                    options=[_NO_DETECTOR, *host.face_detector_files()],
                    default=_NO_DETECTOR,
                    optional=True,
                    advanced=True,
                    display_name="face detector",
                    tooltip="For faces: an ONNX file in models/face_detectors, YuNet for photographs or the anime face detector of deepghs for drawings.",
                ),
                io.String.Input(
                    "border",
                    default="edge",
                    optional=True,
                    advanced=True,
                    tooltip="What pad fills up with: edge repeats the outermost pixels; or a colour such as white, grey or #808080.",
                ),
                io.Int.Input(
                    "fixed_width",
                    default=0,
                    min=0,
                    max=8192,
                    optional=True,
                    advanced=True,
                    display_name="fixed width",
                    tooltip="One size for all images instead of buckets. 0: buckets, or as high as the fixed height.",
                ),
                io.Int.Input(
                    "fixed_height",
                    default=0,
                    min=0,
                    max=8192,
                    optional=True,
                    advanced=True,
                    display_name="fixed height",
                    tooltip="One size for all images instead of buckets. 0: buckets, or as wide as the fixed width.",
                ),
                io.Float.Input(
                    "split_percent",
                    default=0.0,
                    min=0.0,
                    max=95.0,
                    step=5.0,
                    optional=True,
                    advanced=True,
                    display_name="split over %",
                    tooltip="Very long images, of which more than this would be cut off, become several pictures side by side. 0: never; 50 is usual.",
                ),
                io.Float.Input(
                    "overlap_percent",
                    default=20.0,
                    min=0.0,
                    max=90.0,
                    step=5.0,
                    optional=True,
                    advanced=True,
                    display_name="overlap %",
                    tooltip="By how much the parts of a split image overlap at least.",
                ),
                io.Boolean.Input(
                    "mirror",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Add a mirrored copy of each image that is trained on. Not for subjects that are not symmetrical, or with writing.",
                ),
                io.Int.Input(
                    "merge_below",
                    default=0,
                    min=0,
                    max=10_000,
                    optional=True,
                    advanced=True,
                    display_name="join below",
                    tooltip="Sizes with fewer images an epoch than this are joined with the nearest one. 0: never; the report tells what it would cost.",
                ),
                io.String.Input(
                    "more_resolutions",
                    default="",
                    optional=True,
                    advanced=True,
                    display_name="more resolutions",
                    tooltip="Train every image in these resolutions too, once an epoch in each: 768, 1024. Min and max side of 0 follow each of them.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                DatasetWire.Output("dataset", display_name="dataset"),
                io.Image.Output("chart", display_name="chart"),
                io.String.Output("report", display_name="report"),
                io.Image.Output("contact_sheet", display_name="contact_sheet"),
            ],
        )

    @classmethod
    def execute(
        cls,
        dataset: Dataset,
        resolution: int,
        min_side: int,
        max_side: int,
        step: int,
        upscale: bool,
        base_model: BaseModel | None = None,
        fit: str = "cover and cut",
        crop: str = _CENTRE,
        face_detector: str = _NO_DETECTOR,
        border: str = "edge",
        fixed_width: int = 0,
        fixed_height: int = 0,
        split_percent: float = 0.0,
        overlap_percent: float = 20.0,
        mirror: bool = False,
        merge_below: int = 0,
        more_resolutions: str = "",
    ) -> io.NodeOutput:
        resolution_px = resolution or (base_model.native_px if base_model else _DEFAULT_RESOLUTION_PX)
        step_px = step or (base_model.bucket_step_px if base_model else _DEFAULT_STEP_PX)
        fixed_px = (fixed_width or fixed_height, fixed_height or fixed_width) if fixed_width or fixed_height else None
        more_px = read_resolutions(more_resolutions)
        if fixed_px and more_px:
            raise AthanorError("More resolutions do nothing with a fixed width or height, which is one size for all; clear one of both.")
        focus = _focus(crop, face_detector, host.Progress(cls.hidden.unique_id).show)

        def place(side_px: int) -> Dataset:
            return assign_buckets(
                dataset,
                resolution_px=side_px,
                min_px=min_side or max(step_px, side_px // 2),
                max_px=max_side or side_px * 2,
                step_px=step_px,
                upscale=upscale,
                fixed_px=fixed_px,
                fit=_FITS[fit],
                border=border,
                focus=focus,
                split_over=split_percent / 100,
                split_overlap=overlap_percent / 100,
                mirror=mirror,
                merge_below=merge_below,
            )

        placed = in_resolutions((resolution_px, *more_px), place)
        chart, sheet = to_comfy([bucket_chart(placed)]), to_comfy([contact_sheet(placed)])
        return io.NodeOutput(placed, chart, bucket_report(placed), sheet, ui=ui.PreviewImage(chart, cls=cls))


def _focus(crop: str, face_detector: str, on_progress: Callable[[int, int], None]) -> Focus | None:
    if crop == _EDGES:
        return partial(by_edges, on_progress=on_progress)
    if crop == _FACES:
        if face_detector == _NO_DETECTOR:
            raise AthanorError(f"To keep faces in the picture, choose a face detector. {ADVICE} Then press R.")
        file = host.face_detector_files().get(face_detector)
        if file is None:
            raise AthanorError(f"There is no face detector {face_detector!r}. {ADVICE}")
        detector = FaceDetector(file)
        return partial(by_faces, find_faces=lambda image: [face.box for face in detector.find(image)], on_progress=on_progress)
    return upper_third if crop == _UPPER_THIRD else None
