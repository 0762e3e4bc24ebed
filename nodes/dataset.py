"""Load Dataset and Save Captions: images and their captions in and out of the graph."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from comfy_api.latest import io, ui

from ..trainer.dataset import scan_folder, write_caption
from ..trainer.errors import AthanorError
from ..trainer.types import Dataset
from . import host
from .types import DatasetWire

_EXTENSIONS = {".txt, then .caption": (".txt", ".caption"), ".caption, then .txt": (".caption", ".txt"), ".txt": (".txt",), ".caption": (".caption",)}


class LoadDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorLoadDataset",
            display_name="Load Dataset",
            category="Athanor/dataset",
            description="Reads a folder of images with their captions. Nothing is changed on disk. Subfolders named like 6_name are read as kohya does: six repeats each.",
            search_aliases=["train", "images", "folder", "kohya"],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=host.dataset_names(),
                    tooltip="A folder below ComfyUI's input folder, below its datasets folder, or below one registered as athanor_datasets in extra_model_paths.yaml.",
                ),
                io.String.Input(
                    "trigger",
                    default="",
                    tooltip="The word that will call what is learned. Images without a caption are trained with it alone (those in a 6_name folder with that name); Edit Tags can put it in front of the others.",
                ),
                io.Float.Input(
                    "validation_percent",
                    default=10.0,
                    min=0.0,
                    max=90.0,
                    step=1.0,
                    display_name="held out %",
                    tooltip="Share of the images that is never trained on, so that the loss on them tells which epoch is best. Chosen by file name, so it stays the same when images are added.",
                ),
                io.Boolean.Input("recursive", default=False, tooltip="Also read the folders inside the folder."),
                io.Combo.Input(
                    "captions", options=list(_EXTENSIONS), default=".txt, then .caption", tooltip="Which text file beside an image holds its caption."
                ),
            ],
            outputs=[DatasetWire.Output("dataset", display_name="dataset"), io.String.Output("report", display_name="report")],
        )

    @classmethod
    def validate_inputs(cls, folder: str = host.MINIATURE) -> bool | str:
        try:
            host.dataset_folder(folder)
        except AthanorError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, folder: str, **_: object) -> str:
        return _folder_state(host.dataset_folder(folder))

    @classmethod
    def execute(cls, folder: str, trigger: str, validation_percent: float, recursive: bool, captions: str) -> io.NodeOutput:
        dataset = scan_folder(
            host.dataset_folder(folder),
            trigger=trigger.strip(),
            caption_extensions=_EXTENSIONS[captions],
            recursive=recursive,
            validation_percent=validation_percent,
        )
        report = describe(dataset)
        return io.NodeOutput(dataset, report, ui=ui.PreviewText(report))


def describe(dataset: Dataset) -> str:
    """What was found, then a line for each thing worth knowing."""
    train, held_out = dataset.with_role("train"), dataset.with_role("validation")
    captioned = sum(sample.caption is not None for sample in dataset.samples)
    seen = sum(sample.repeats for sample in train)
    head = f"{len(train)} images to train on ({seen} with repeats), {len(held_out)} held out, {captioned} with a caption"
    return "\n".join([head, *dataset.notes])


def _folder_state(folder: Path) -> str:
    """Changes when a file is added, removed or written."""
    digest = hashlib.sha256()
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(where) / name
            try:
                state = path.stat()
            except OSError:
                continue
            digest.update(f"{path}|{state.st_size}|{state.st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


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
