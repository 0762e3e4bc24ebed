"""`athanor dataset PATH`: what a folder or a dataset file holds, how it would be sorted into buckets, and copies of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

from ..dataset import (
    assign_buckets,
    bucket_chart,
    bucket_report,
    contact_sheet,
    duplicate_notes,
    load_list,
    near_duplicates,
    save_captions,
    scan_folder,
    shape_notes,
)
from ..dataset.focus import by_edges, upper_third
from ..dataset.masks import MaskSource
from ..files import replace_atomically
from ..types import Dataset

_LISTS = (".toml", ".json", ".jsonl")
_CROPS = {"centre": None, "upper-third": upper_third, "edges": by_edges}


def read_dataset(path: Path, *, trigger: str = "", held_out_percent: float = 0.0, recursive: bool = False, masks: MaskSource = None) -> Dataset:
    """A folder of images, or a file that lists them: a dataset file of sd-scripts, metadata of kohya, captions in JSON lines.

    Whoever has a command line may read every folder that such a file names. Raises AthanorError as the loaders do.
    """
    if path.suffix.lower() in _LISTS and path.is_file():
        file = path.resolve()
        return load_list(file, file.parent, is_allowed=lambda _: True, trigger=trigger, validation_percent=held_out_percent, masks=masks)
    return scan_folder(path, trigger=trigger, validation_percent=held_out_percent, recursive=recursive, masks=masks)


def add_dataset_command(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "dataset", help="report on a folder of images or a dataset file", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("path", type=Path, help="a folder of images, or a .toml, .json or .jsonl file that lists them")
    parser.add_argument("--trigger", default="", help="what images without a caption are trained with")
    parser.add_argument("--recursive", action="store_true", help="also read the folders inside the folder")
    parser.add_argument("--held-out-percent", type=float, default=10.0, help="share of the images to measure on instead of training on them")
    parser.add_argument("--look-alikes", action="store_true", help="name images that look alike; every image is opened for it")
    parser.add_argument("--resolution", type=int, default=512, help="side of the square whose area all sizes have")
    parser.add_argument("--step", type=int, default=64, help="sides are multiples of it")
    parser.add_argument("--no-upscale", action="store_true", help="leave small images as small as they are")
    parser.add_argument("--fixed", metavar="WIDTHxHEIGHT", type=_size, help="one size for all images instead of buckets")
    parser.add_argument("--fit", choices=("cover", "pad", "stretch"), default="cover", help="how an image comes into its size")
    parser.add_argument("--border", default="edge", help="what pad fills up with: edge, or a colour")
    parser.add_argument("--crop", choices=tuple(_CROPS), default="centre", help="what stays where something is cut off")
    parser.add_argument("--split-over-percent", type=float, default=0.0, help="split images of which more would be cut off; 0 is never")
    parser.add_argument("--mirror", action="store_true", help="add a mirrored copy of each image that is trained on")
    parser.add_argument("--join-below", type=int, default=0, help="join sizes with fewer images an epoch with the nearest one")
    parser.add_argument("--chart", type=Path, help="save the chart of the buckets as this PNG")
    parser.add_argument("--sheet", type=Path, help="save a contact sheet with the cuts as this PNG")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="copy captions and images into this folder")
    parser.add_argument("--pictures", choices=("whole", "as-trained", "none"), default="whole", help="how images are saved with --save")


def run_dataset_command(options: argparse.Namespace) -> int:
    """Raises AthanorError."""
    scanned = read_dataset(options.path, trigger=options.trigger, held_out_percent=options.held_out_percent, recursive=options.recursive)
    notes = [*shape_notes(scanned), *(duplicate_notes(near_duplicates(scanned)) if options.look_alikes else [])]
    dataset = assign_buckets(
        scanned.with_samples(scanned.samples, *notes),
        resolution_px=options.resolution,
        min_px=max(options.step, options.resolution // 2),
        max_px=2 * options.resolution,
        step_px=options.step,
        upscale=not options.no_upscale,
        fixed_px=options.fixed,
        fit=options.fit,
        border=options.border,
        focus=_CROPS[options.crop],
        split_over=options.split_over_percent / 100,
        mirror=options.mirror,
        merge_below=options.join_below,
    )
    sys.stdout.write(bucket_report(dataset) + "\n")
    if options.chart:
        _save_png(bucket_chart(dataset), options.chart)
    if options.sheet:
        _save_png(contact_sheet(dataset), options.sheet)
    if options.save:
        saved = save_captions(dataset, folder=options.save.resolve(), pictures=options.pictures.replace("-", " "))
        sys.stdout.write(f"{saved.num_captions} captions and {saved.num_pictures} pictures are in {options.save}\n")
    return 0


def _save_png(image: Image.Image, file: Path) -> None:
    replace_atomically(file, lambda temporary: image.save(temporary, format="PNG"))


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it like 512x768")
    return int(width), int(height)
