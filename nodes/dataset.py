"""Load Dataset: images and their captions into the graph."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from comfy_api.latest import io, ui

from ..trainer.dataset import (
    NamePattern,
    duplicate_notes,
    duplicate_sheet,
    load_list,
    name_pattern,
    near_duplicates,
    places_of,
    scan_folder,
    shape_notes,
    with_regularization,
    with_validation,
)
from ..trainer.dataset.looks import LOOKS
from ..trainer.errors import AthanorError
from ..trainer.types import Dataset, Sample
from . import host
from .images import to_comfy
from .types import DatasetWire

_EXTENSIONS = {".txt, then .caption": (".txt", ".caption"), ".caption, then .txt": (".caption", ".txt"), ".txt": (".txt",), ".caption": (".caption",)}
_NONE, _ALPHA = "none", "alpha channel"


class LoadDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        folders = host.dataset_names()
        return io.Schema(
            node_id="AthanorLoadDataset",
            display_name="Load Dataset",
            category="Athanor/dataset",
            description="Reads a folder of images with their captions. Nothing is changed on disk. Subfolders named like 6_name are read as kohya does: six repeats each.",
            search_aliases=["train", "images", "folder", "kohya"],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=folders,
                    default=host.MINIATURE,
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
                io.String.Input(
                    "dataset_file",
                    default="",
                    optional=True,
                    advanced=True,
                    display_name="dataset file",
                    tooltip="A file in the folder that says which images there are: a dataset .toml of sd-scripts, a metadata .json of kohya, or captions in a .jsonl. Empty: all images of the folder.",
                ),
                io.String.Input(
                    "name_pattern",
                    default="",
                    optional=True,
                    advanced=True,
                    display_name="captions from names",
                    tooltip='For images without a caption file: {words}_{number} finds "red cat" in red_cat_012.png. {caption} takes the text as it stands, {words} with spaces for underscores; {number} is digits and * anything.',
                ),
                io.Combo.Input(
                    "masks",
                    options=[_NONE, _ALPHA, *folders],
                    default=_NONE,
                    optional=True,
                    advanced=True,
                    tooltip="Where the loss counts: the images' own alpha channel, or a folder of pictures with their names and sizes, white where it counts.",
                ),
                io.Combo.Input(
                    "regularization",
                    options=[_NONE, *folders],
                    default=_NONE,
                    optional=True,
                    advanced=True,
                    display_name="regularization folder",
                    tooltip="Images of the class, such as other cats, repeated as kohya's trainers do until there are as many as training images.",
                ),
                io.Combo.Input(
                    "validation",
                    options=[_NONE, *folders],
                    default=_NONE,
                    optional=True,
                    advanced=True,
                    display_name="validation folder",
                    tooltip="Images that are held out, instead of a share of the others. None of them is trained on.",
                ),
                io.Int.Input(
                    "min_resolution",
                    default=0,
                    min=0,
                    max=8192,
                    optional=True,
                    advanced=True,
                    display_name="report smaller than",
                    tooltip="Names images with fewer pixels than a square of this side in the report; they stay in. 0: none.",
                ),
                io.Boolean.Input(
                    "near_duplicates",
                    default=False,
                    optional=True,
                    advanced=True,
                    display_name="find look-alikes",
                    tooltip="Names groups of images that look alike in the report; they stay in. Every image is opened for it, the first time.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                DatasetWire.Output("dataset", display_name="dataset"),
                io.String.Output("report", display_name="report"),
                io.Image.Output("look_alikes", display_name="look-alikes"),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        folder: str = host.MINIATURE,
        dataset_file: str = "",
        name_pattern: str = "",
        masks: str = _NONE,
        regularization: str = _NONE,
        validation: str = _NONE,
    ) -> bool | str:
        try:
            place = host.dataset_folder(folder)
            for name in (masks, regularization, validation):
                _optional_folder(name)
            _list_file(dataset_file or "", place)
            _pattern(name_pattern or "")
        except AthanorError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(
        cls,
        folder: str,
        dataset_file: str = "",
        masks: str = _NONE,
        regularization: str = _NONE,
        validation: str = _NONE,
        **_: object,
    ) -> str:
        place = host.dataset_folder(folder)
        listed = _list_file(dataset_file, place)
        others = [other for name in (masks, regularization, validation) if (other := _optional_folder(name))]
        if listed is not None:
            others += [listed, *_registered(places_of(listed))]
        return "".join(_state(path) for path in (place, *others))

    @classmethod
    def execute(
        cls,
        folder: str,
        trigger: str,
        validation_percent: float,
        recursive: bool,
        captions: str,
        dataset_file: str = "",
        name_pattern: str = "",
        masks: str = _NONE,
        regularization: str = _NONE,
        validation: str = _NONE,
        min_resolution: int = 0,
        near_duplicates: bool = False,
    ) -> io.NodeOutput:
        place, held_out, regular = host.dataset_folder(folder), _optional_folder(validation), _optional_folder(regularization)
        listed, pattern, extensions = _list_file(dataset_file, place), _pattern(name_pattern), _EXTENSIONS[captions]
        source = "alpha" if masks == _ALPHA else _optional_folder(masks)
        percent = 0.0 if held_out else validation_percent
        if listed is not None:
            dataset = load_list(
                listed,
                place,
                is_allowed=host.is_registered,
                trigger=trigger,
                caption_extensions=extensions,
                validation_percent=percent,
                pattern=pattern,
                masks=source,
            )
        else:
            dataset = scan_folder(
                place,
                trigger=trigger,
                caption_extensions=extensions,
                recursive=recursive,
                validation_percent=percent,
                pattern=pattern,
                masks=source,
                without=[other for other in (held_out, regular) if other is not None and other != place],
            )
        if held_out is not None:
            dataset = with_validation(
                dataset, scan_folder(held_out, caption_extensions=extensions, recursive=recursive, pattern=pattern, masks=source)
            )
        if regular is not None:
            dataset = with_regularization(dataset, scan_folder(regular, caption_extensions=extensions, recursive=recursive, pattern=pattern))
        groups = cls._look_alikes(dataset) if near_duplicates else ()
        notes = [*shape_notes(dataset, min_resolution), *duplicate_notes(groups)]
        notes += ["No two images look alike."] if near_duplicates and not groups else []
        dataset = dataset.with_samples(dataset.samples, *notes)
        report = describe(dataset)
        sheet = to_comfy([duplicate_sheet(groups) if near_duplicates else duplicate_sheet((), title="find look-alikes is off")])
        shown = ui.PreviewText(report).as_dict()
        if groups:
            shown |= ui.PreviewImage(sheet, cls=cls).as_dict()
        return io.NodeOutput(dataset, report, sheet, ui=shown)

    @classmethod
    def _look_alikes(cls, dataset: Dataset) -> tuple[tuple[Sample, ...], ...]:
        progress = host.Progress(cls.hidden.unique_id)
        return near_duplicates(dataset, cache_folder=host.cache_folder() / LOOKS, on_progress=progress.show)


def _optional_folder(name: str | None) -> Path | None:
    return None if not name or name in (_NONE, _ALPHA) else host.dataset_folder(name)


def _list_file(name: str, folder: Path) -> Path | None:
    return host.dataset_file(name, folder) if name.strip() else None


def _pattern(text: str) -> NamePattern | None:
    return name_pattern(text) if text.strip() else None


def _registered(paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if host.is_registered(path)]


def describe(dataset: Dataset) -> str:
    """What was found, then a line for each thing worth knowing."""
    train, held_out = dataset.with_role("train"), dataset.with_role("validation")
    captioned = sum(sample.caption is not None for sample in dataset.samples)
    seen = sum(sample.repeats for sample in train)
    head = f"{len(train)} images to train on ({seen} with repeats), {len(held_out)} held out, {captioned} with a caption"
    if regularization := dataset.with_role("regularization"):
        head += f", {len(regularization)} for regularization ({sum(sample.repeats for sample in regularization)} with repeats)"
    return "\n".join([head, *dataset.notes])


def _state(place: Path) -> str:
    """Changes when the file is written, or one in the folder added, removed or written."""
    digest = hashlib.sha256()
    walk = [(str(place.parent), [], [place.name])] if place.is_file() else os.walk(place)
    for where, folders, names in walk:
        folders.sort()
        for name in sorted(names):
            path = Path(where) / name
            try:
                state = path.stat()
            except OSError:
                continue
            digest.update(f"{path}|{state.st_size}|{state.st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
