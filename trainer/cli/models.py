"""`athanor merge` and `athanor extract`: LoRAs into a checkpoint for good, and out of two checkpoints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..bases import describe_base
from ..errors import AthanorError
from ..merging.checkpoint import SaveFolders, merge_into_checkpoint
from ..merging.extract import Extraction, extract_lora
from ..merging.lines import read_additions
from ..merging.sources import PRECISIONS
from ..merging.spectrum import Bounds
from ..types import BaseModel

MODEL_COMMANDS = ("merge", "extract")


def add_model_commands(commands: Any) -> None:
    merge = commands.add_parser("merge", help="write a base model with LoRAs in it as a file that stock loaders take")
    merge.add_argument(
        "loras",
        nargs="+",
        metavar="LORA",
        help="files with their strengths, such as style.safetensors:0.8, or :0.8,0.4 with one for the text encoders",
    )
    merge.add_argument(
        "--into", type=Path, required=True, metavar="BASE", help="a checkpoint file, a diffusers folder, or the file of a denoiser alone"
    )
    merge.add_argument(
        "--text-encoders",
        type=Path,
        nargs="+",
        default=[],
        help="files of the text encoders, where they are not in the base; those that change are written too",
    )
    merge.add_argument("--to", type=Path, required=True, metavar="FILE", help="the file to write; another of its name is left alone")
    merge.add_argument(
        "--precision", choices=PRECISIONS, default="as it is", help="of the written weights; fp8 becomes bf16 where it is left as it is"
    )
    extract = commands.add_parser("extract", help="write the LoRA that makes one model of another")
    extract.add_argument("base", type=Path, help="the model before the training")
    extract.add_argument("trained", type=Path, help="the model after it")
    extract.add_argument("--to", type=Path, required=True, metavar="FILE", help="the LoRA to write")
    extract.add_argument("--text-encoders", type=Path, nargs="+", default=[], help="files of the base's text encoders, where they are not in it")
    extract.add_argument(
        "--trained-text-encoders", type=Path, nargs="+", default=[], help="files of the trained model's text encoders, where they are not in it"
    )
    extract.add_argument("--rank", type=int, default=64, help="the most rank of a linear layer; 0 sets no limit")
    extract.add_argument("--conv-rank", type=int, default=32, help="the most rank of a convolution; 0 leaves convolutions out")
    extract.add_argument(
        "--energy",
        type=float,
        default=1.0,
        help="each layer gets the smallest rank that keeps this share of its difference; 1 gives every layer the whole rank",
    )
    extract.add_argument("--min-rank", type=int, default=1, help="the least rank of a layer, with --energy")
    extract.add_argument("--clamp", type=float, default=1.0, help="cut the factors' largest numbers off at this quantile; 1 cuts nothing")
    extract.add_argument("--no-text", action="store_true", help="leave the text encoders out")
    extract.add_argument("--names", choices=("auto", "kohya", "diffusers"), default="auto", help="how the file names its layers")
    extract.add_argument("--precision", choices=("fp16", "bf16", "fp32"), default="fp16", help="of the saved numbers")
    extract.add_argument("--device", default="", help="where to compute, such as cuda or cpu; a GPU where there is one")


def run_model_command(options: argparse.Namespace) -> int:
    """The exit code. Raises AthanorError for what the person can mend."""
    if options.to.suffix.lower() != ".safetensors":
        raise AthanorError(f"--to is {options.to}; give a name that ends in .safetensors.")
    if options.command == "merge":
        folder = options.to.parent.resolve()
        base = _described(options.into, options.text_encoders)
        made = merge_into_checkpoint(
            base, read_additions("\n".join(options.loras)), SaveFolders(folder, folder, folder), options.to.stem, options.precision, _show
        )
        report = "\n".join([made.report, *map(str, made.files)])
    else:
        base, trained = _described(options.base, options.text_encoders), _described(options.trained, options.trained_text_encoders)
        if options.to.exists():
            raise AthanorError(f"There is a file {options.to} already; give another name.")
        report = f"{extract_lora(base, trained, options.to.resolve(), _extraction(options), _show)}\n{options.to.resolve()}"
    sys.stdout.write(f"{report}\n")
    return 0


def _extraction(options: argparse.Namespace) -> Extraction:
    import torch

    if not 0 < options.energy <= 1 or not 0 < options.clamp <= 1 or min(options.rank, options.conv_rank) < 0:
        raise AthanorError(f"--energy is {options.energy} and --clamp {options.clamp}; both are shares above 0 and up to 1, and ranks are 0 or more.")
    linear, window = (Bounds(rank, options.energy, options.min_rank, options.clamp) for rank in (options.rank, options.conv_rank))
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Extraction(linear, window if options.conv_rank else None, not options.no_text, options.names, options.precision, device)


def _described(path: Path, text_encoders: list[Path]) -> BaseModel:
    return describe_base(path, (), text_encoders)


def _show(done: int, total: int) -> None:
    if sys.stderr.isatty() and (done == total or done % 10 == 0):
        sys.stderr.write(f"\r{done} of {total}" + ("\n" if done == total else ""))
        sys.stderr.flush()
