"""Training without ComfyUI: `athanor train …`, `athanor resume RUN`, `athanor score RUN` and others. The same jobs, runs and files as from the nodes.

Ctrl+C ends a run after its step with everything saved; a second one ends at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import AthanorError
from ..processes import PartedError, join_processes
from .cache import add_cache_command, run_cache_command
from .dataset import add_dataset_command, run_dataset_command
from .epochs import COMMANDS, add_run_commands, run_run_command
from .given_settings import as_defaults, read_given, usual_of, with_defaults
from .models import MODEL_COMMANDS, add_model_commands, run_model_command
from .score import add_score_command, run_score_command
from .train import add_train_commands, kind_of, run_train_command


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser({}).parse_args(arguments)
    try:
        if options.command == "train" and options.run is None:
            options = _with_given(options, arguments)
        if options.command == "dataset":
            return run_dataset_command(options)
        if options.command == "cache":
            return run_cache_command(options)
        if options.command in MODEL_COMMANDS:
            return run_model_command(options)
        if options.command == "score":
            return run_score_command(options)
        if options.command in COMMANDS:
            return run_run_command(options)
        processes = join_processes()
        try:
            return run_train_command(options, processes)
        finally:
            processes.leave()
    except AthanorError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except PartedError:
        # One of the others has said why.
        return 1


def _with_given(options: argparse.Namespace, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options once more, with what suits the kind of training, and what files say, in the place of the usual values."""
    given, kind = read_given(options.settings), kind_of(options)
    options = _parser({**usual_of(kind), **as_defaults(given, kind)}).parse_args(arguments)
    options.given = given
    return options


def _parser(defaults: Mapping[str, Any]) -> argparse.ArgumentParser:
    """`defaults`: of options of `train`, in the place of the usual ones."""
    parser = argparse.ArgumentParser(prog="athanor", description="Trains LoRAs, embeddings and checkpoints.")
    commands = parser.add_subparsers(dest="command", required=True)
    add_dataset_command(commands)
    add_run_commands(commands)
    add_score_command(commands)
    with_defaults(add_train_commands(commands), defaults)
    add_cache_command(commands)
    add_model_commands(commands)
    return parser
