"""Save Captions: what the graph made of the captions, beside the images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from comfy_api.latest import io, ui

from ..trainer.dataset import write_caption
from ..trainer.errors import AthanorError
from ..trainer.types import Dataset
from . import host
from .types import DatasetWire


class SaveCaptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorSaveCaptions",
            display_name="Save Captions",
            category="Athanor/dataset",
            description="Writes the captions beside their images, so that other programs can use them. The only dataset node that changes files; earlier captions are kept as backups.",
            search_aliases=["caption", "txt", "tags"],
            is_output_node=True,
            inputs=[
                DatasetWire.Input("dataset", tooltip="The images whose captions are written."),
                io.Combo.Input("extension", options=[".txt", ".caption"], default=".txt", tooltip="Ending of the caption files."),
                io.Boolean.Input("backup", default=True, tooltip="Keep what a caption file held before under another name."),
            ],
            outputs=[DatasetWire.Output("dataset", display_name="dataset")],
        )

    @classmethod
    def execute(cls, dataset: Dataset, extension: str, backup: bool) -> io.NodeOutput:
        _check_within_roots([Path(sample.path) for sample in dataset.samples])
        written = [write_caption(Path(sample.path), sample.caption, extension, backup) for sample in dataset.samples if sample.caption is not None]
        report = f"{len(written)} captions stand beside their images now, as {extension} files"
        return io.NodeOutput(dataset, ui=ui.PreviewText(report))


def _check_within_roots(paths: Sequence[Path]) -> None:
    roots = host.dataset_roots()
    for path in paths:
        if not any(host.is_within(path, root) for root in roots):
            raise AthanorError(f"Captions are not written beside {path}: it does not lie in a registered dataset folder.")
