"""Save Captions: what the graph made of the captions, as files beside the images or in a folder of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from comfy_api.latest import io, ui

from ..trainer.dataset import PICTURES, SaveReport, save_captions
from ..trainer.errors import AthanorError
from ..trainer.types import Dataset
from . import host
from .types import DatasetWire

_MAX_NOTES = 10


class SaveCaptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorSaveCaptions",
            display_name="Save Captions",
            category="Athanor/dataset",
            description="Writes the captions beside their images, or into a new folder with the images, so that other programs can use them. The only dataset node that changes files, and only when write is on; earlier captions are kept as backups.",
            search_aliases=["caption", "txt", "tags", "export", "save images"],
            is_output_node=True,
            inputs=[
                DatasetWire.Input("dataset", tooltip="The images whose captions are written."),
                io.Combo.Input("extension", options=[".txt", ".caption"], default=".txt", tooltip="Ending of the caption files."),
                io.Boolean.Input("backup", default=True, tooltip="Keep what a caption file held before under another name."),
                io.Boolean.Input(
                    "write",
                    default=False,
                    optional=True,
                    tooltip="Off: nothing is written, and the report tells what would be. On: the files are written.",
                ),
                io.String.Input(
                    "folder",
                    default="",
                    optional=True,
                    display_name="new folder",
                    tooltip="Empty: beside the images. A name such as my-set: into that folder below ComfyUI's input, where Load Dataset finds it. Subfolders are kept.",
                ),
                io.Combo.Input(
                    "pictures",
                    options=list(PICTURES),
                    default="none",
                    optional=True,
                    tooltip="With a new folder: also save the images, whole and upright, or as trained: resized, cut and mirrored by Bucket.",
                ),
            ],
            outputs=[DatasetWire.Output("dataset", display_name="dataset"), io.String.Output("report", display_name="report")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, folder: str = "") -> bool | str:
        try:
            if (folder or "").strip():
                host.new_dataset_folder(folder)
        except AthanorError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, dataset: Dataset, extension: str, backup: bool, write: bool = False, folder: str = "", pictures: str = "none") -> io.NodeOutput:
        place = host.new_dataset_folder(folder) if folder.strip() else None
        if place is None:
            _check_within_roots([Path(sample.path) for sample in dataset.samples])
        progress = host.Progress(cls.hidden.unique_id)
        saved = save_captions(dataset, extension=extension, backup=backup, folder=place, pictures=pictures, write=write, on_progress=progress.show)
        report = _told(saved, extension, place, write)
        return io.NodeOutput(dataset, report, ui=ui.PreviewText(report))


def _told(saved: SaveReport, extension: str, place: Path | None, write: bool) -> str:
    where = f"in {place}" if place else "beside their images"
    lines = [f"{saved.num_captions} captions stand {where} now, as {extension} files: {saved.num_changed} written, the others said the same already"]
    if not write:
        lines = [f"Nothing is written yet. With write on, {saved.num_changed} of {saved.num_captions} captions would be written {where}"]
    lines += [f"{saved.num_backups} earlier captions {'are' if write else 'would be'} kept as backups"] if saved.num_backups else []
    lines += [f"{saved.num_pictures} pictures {'lie' if write else 'would be saved'} there, too"] if saved.num_pictures else []
    lines += [f"{saved.num_without} images have no caption, so no file is written for them"] if saved.num_without else []
    return "\n".join([*lines, *saved.notes[:_MAX_NOTES]])


def _check_within_roots(paths: Sequence[Path]) -> None:
    roots = host.dataset_roots()
    for folder in dict.fromkeys(path.parent for path in paths):
        if not any(host.is_within(folder, root) for root in roots):
            raise AthanorError(
                f"Captions are not written beside the images in {folder}: it does not lie in a registered dataset folder. Give a new folder to save to."
            )
