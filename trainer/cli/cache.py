"""`athanor cache`: what was encoded, how large it is, and away with it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..data.cache_folder import BASES, CACHE, CLASS_IMAGES, MERGED, clean_folder, folder_report, set_size_limit, size_limit_bytes
from ..errors import AthanorError
from ..files import told_bytes


def add_cache_command(commands: Any) -> None:
    cache = commands.add_parser(
        "cache", help="show, limit or clean what was encoded of images and captions, the models written from wires, merges, or class images"
    )
    cache.add_argument("--models", action="store_true", help="the models that Base Model From Wires has written, instead of what was encoded")
    cache.add_argument("--merges", action="store_true", help="the LoRAs that Merge Epochs and Extract LoRA have written, instead of what was encoded")
    cache.add_argument("--class-images", action="store_true", help="the class images that bases have drawn, instead of what was encoded")
    cache.add_argument("--output", type=Path, default=Path("runs"), help="where the run directories are; with ComfyUI its output/athanor")
    cache.add_argument("--limit", type=float, default=None, metavar="GIB", help="from now on keep it under this size; what was used longest ago goes")
    cache.add_argument("--clean", action="store_true", help="delete all of it but what was used in the last half hour")


def run_cache_command(options: argparse.Namespace) -> int:
    kinds = ((options.merges, MERGED, "are no merges"), (options.models, BASES, "are no models written from wires"))
    kinds += ((options.class_images, CLASS_IMAGES, "are no class images"), (True, CACHE, "is no cache"))
    _, name, what = next(kind for kind in kinds if kind[0])
    folder = options.output / name
    if not folder.is_dir():
        raise AthanorError(f"There {what} in {options.output}; name the folder of the run directories with --output.")
    if options.limit is not None:
        set_size_limit(folder, options.limit)
    freed = clean_folder(folder, 0 if options.clean else size_limit_bytes(folder))
    report = folder_report(folder)
    lines = [f"{told_bytes(num_bytes):>10}  {group}" for group, num_bytes in report.by_group.items()]
    lines += [f"{told_bytes(report.num_bytes):>10}  in {report.num_files} files, of {told_bytes(report.limit_bytes)} allowed"]
    lines += [f"{told_bytes(freed):>10}  freed"] if freed else []
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
