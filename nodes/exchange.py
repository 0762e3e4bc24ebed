"""Images To Dataset and Dataset To Images: between the pictures of a graph and the images of a training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from comfy_api.latest import io, ui
from PIL import Image

from ..trainer.dataset import open_image, placed_image, store_images
from ..trainer.errors import AthanorError
from ..trainer.types import Dataset, Sample
from . import host
from .dataset import describe
from .images import to_comfy, to_pictures
from .types import DatasetWire

if TYPE_CHECKING:
    import torch

_ROLES = {
    "all": ("train", "validation", "regularization"),
    "to train on": ("train",),
    "held out": ("validation",),
    "regularization": ("regularization",),
}


class ImagesToDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorImagesToDataset",
            display_name="Images To Dataset",
            category="Athanor/dataset",
            description="Makes a dataset of pictures from the graph, with captions from any node that writes text. The pictures are kept as PNG in ComfyUI's output folder, under athanor/.pictures.",
            search_aliases=["caption", "generated images", "batch", "list"],
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="A batch, or a list of pictures of any sizes."),
                io.String.Input(
                    "captions",
                    optional=True,
                    force_input=True,
                    tooltip="A list of one text for each picture, one text for all, or one text with a line for each. Without it the trigger stands for the caption.",
                ),
                io.String.Input(
                    "trigger", default="", tooltip="The word that will call what is learned. Pictures without a caption are trained with it alone."
                ),
                io.Float.Input(
                    "validation_percent",
                    default=10.0,
                    min=0.0,
                    max=90.0,
                    step=1.0,
                    display_name="held out %",
                    tooltip="Share of the pictures that is never trained on. Chosen by content, so it stays the same when pictures are added.",
                ),
                io.Int.Input("repeats", default=1, min=1, max=1000, tooltip="How often each picture is seen in an epoch."),
            ],
            outputs=[DatasetWire.Output("dataset", display_name="dataset"), io.String.Output("report", display_name="report")],
        )

    @classmethod
    def execute(
        cls,
        images: list[torch.Tensor],
        trigger: list[str],
        validation_percent: list[float],
        repeats: list[int],
        captions: list[str] | None = None,
    ) -> io.NodeOutput:
        dataset = store_images(
            to_pictures(images),
            captions or [],
            host.pictures_folder(),
            trigger=trigger[0],
            repeats=repeats[0],
            validation_percent=validation_percent[0],
        )
        report = describe(dataset)
        return io.NodeOutput(dataset, report, ui=ui.PreviewText(report))


class DatasetToImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorDatasetToImages",
            display_name="Dataset To Images",
            category="Athanor/dataset",
            description="Gives the images of a dataset and their captions to other nodes, as lists in the same order. Every image keeps its own size.",
            search_aliases=["batch", "list", "captions", "unpack"],
            inputs=[
                DatasetWire.Input("dataset", tooltip="The images that are wanted."),
                io.Combo.Input("which", options=list(_ROLES), default="all", tooltip="All images, or those of one part."),
                io.Boolean.Input(
                    "cut",
                    default=True,
                    display_name="as trained",
                    tooltip="Resized and cut as Bucket says, where the dataset went through it. Off: the whole images.",
                ),
                io.Int.Input("skip", default=0, min=0, max=1_000_000, tooltip="So many of the first images are left out."),
                io.Int.Input(
                    "max_images",
                    default=100,
                    min=1,
                    max=10_000,
                    display_name="max images",
                    tooltip="How many images are opened at most; they all lie in memory together.",
                ),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", is_output_list=True),
                io.String.Output("captions", display_name="captions", is_output_list=True),
                io.String.Output("names", display_name="names", is_output_list=True),
            ],
        )

    @classmethod
    def execute(cls, dataset: Dataset, which: str, cut: bool, skip: int, max_images: int) -> io.NodeOutput:
        wanted = [sample for sample in dataset.samples if sample.role in _ROLES[which]]
        samples = wanted[skip : skip + max_images]
        if not samples:
            raise AthanorError(f'There is no image to give: {len(wanted)} of {len(dataset.samples)} are "{which}", and {skip} are skipped.')
        images = []
        for sample in samples:
            host.raise_if_interrupted()
            images.append(to_comfy([_picture(sample, cut)]))
        told = f"{len(samples)} of {len(wanted)} images" if len(samples) < len(wanted) else f"{len(samples)} images"
        captions, names = [sample.caption or "" for sample in samples], [Path(sample.path).stem for sample in samples]
        return io.NodeOutput(images, captions, names, ui=ui.PreviewText(told))


def _picture(sample: Sample, cut: bool) -> Image.Image:
    return placed_image(sample) if cut and sample.placement is not None else open_image(Path(sample.path))
