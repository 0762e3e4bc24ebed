"""Training without ComfyUI: `athanor train …`, `athanor resume RUN` and `athanor dataset PATH`. The same jobs, runs and files as from the nodes.

Ctrl+C ends a run after its step with everything saved; a second one ends at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from .adapters.check import with_files_hashed
from .bases import describe_base
from .cache_folder import BASES, CACHE, clean_folder, folder_report, set_size_limit, size_limit_bytes
from .cli_dataset import add_dataset_command, read_dataset, run_dataset_command
from .cli_run import COMMANDS, add_run_commands, run_run_command
from .config import TrainJob
from .control import Control
from .dataset import assign_buckets, scan_folder, with_regularization
from .dataset.resolutions import in_resolutions, read_resolutions
from .errors import AthanorError, raise_problems
from .processes import PartedError, Processes, join_processes
from .relocation import relocated
from .run import Run, open_run, write_job_file
from .settings import (
    AdapterSettings,
    CaptionSettings,
    DataSettings,
    EmbeddingSettings,
    ObjectiveSettings,
    OptimizerSettings,
    PerformanceSettings,
    RunSettings,
    SampleSettings,
    ScheduleSettings,
    TrainSettings,
    value_type,
)
from .validate import check_train_job
from .worker import work

Settings = TypeVar("Settings")
_SHOW_EVERY_SEC = 2.0
_SAMPLE, _CAPTION, _IMAGE, _RUN = "sample-", "caption-", "image-", "run-"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.command == "dataset":
            return run_dataset_command(options)
        if options.command == "cache":
            return _tend_cache(options)
        if options.command in COMMANDS:
            return run_run_command(options)
        processes = join_processes()
        try:
            return _train(options, processes)
        finally:
            processes.leave()
    except AthanorError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except PartedError:
        # One of the others has said why.
        return 1


def _train(options: argparse.Namespace, processes: Processes) -> int:
    run = Run(Path(processes.of_leader(lambda: str(_wanted_run(options).folder))))
    if not processes.leads:
        # Ctrl+C reaches the leader, who tells the others.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return work(run, Control(), processes) if not processes.any_of(False) else 0
    sys.stdout.write(f"Run directory: {run.folder}\n")
    finished = run.finished()
    if processes.any_of(finished):
        sys.stdout.write("It has finished already.\n")
        code = 0
    else:
        code = _work_in_the_foreground(run, processes)
    for epoch in run.epochs():
        loss = f"  held-out loss {epoch.validation_loss:.5f}" if epoch.validation_loss is not None else ""
        sys.stdout.write(f"epoch {epoch.number}: {epoch.path}{loss}\n")
    return code


def _wanted_run(options: argparse.Namespace) -> Run:
    if options.run is None:
        return _new_run(options)
    run = Run(options.run.resolve())
    if options.command == "train":
        _refuse_settings(options)
        if options.base or options.images or options.tokenizers:
            job = relocated(run.train_job(), options.base, options.images, options.tokenizers)
            check_train_job(job)
            write_job_file(run.folder, job)
    return run


def _refuse_settings(options: argparse.Namespace) -> None:
    """With a run directory only the places of its files may be said anew."""
    usual, places = vars(_parser().parse_args(["train"])), ("run", "base", "images", "tokenizers")
    changed = [f"--{name.replace('_', '-')}" for name, value in vars(options).items() if name not in places and value != usual[name]]
    if changed:
        raise AthanorError(f"{changed[0]} would make another run of {options.run}; leave it out, or describe a new run without naming a directory.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="athanor", description="Trains LoRAs and embeddings.")
    commands = parser.add_subparsers(dest="command", required=True)
    resume = commands.add_parser("resume", help="go on with a run directory, or do the job.json in it")
    resume.add_argument("run", type=Path)
    add_dataset_command(commands)
    add_run_commands(commands)
    train = commands.add_parser("train", help="train on a folder of images", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    train.add_argument(
        "run",
        type=Path,
        nargs="?",
        help="a run directory whose job.json is done, with --base and --images where these lie elsewhere now; or leave it out and describe a new run",
    )
    train.add_argument("--base", type=Path, help="a checkpoint file, a diffusers folder, or the file of a denoiser alone")
    train.add_argument(
        "--text-encoders", type=Path, nargs="+", default=[], help="files of the text encoders, in any order, where they are not in the base"
    )
    train.add_argument("--vae", type=Path, default=None, help="file of the autoencoder, where it is not in the base or is to replace its own")
    train.add_argument(
        "--clip-skip", type=int, default=0, help="which layer of CLIP is read, counted from the last, which is 1; 0 is the model's own"
    )
    train.add_argument("--prediction", choices=("auto", "epsilon", "v"), default="auto", help="what the base predicts, where its file does not tell")
    train.add_argument(
        "--images",
        type=Path,
        help="a folder of images with their captions (6_name subfolders repeat six times), or a dataset .toml or .json",
    )
    train.add_argument("--output", type=Path, default=Path("runs"), help="where run directories are made")
    train.add_argument("--name", help="of the run and its files; for an embedding also its word in prompts")
    train.add_argument("--embedding", action="store_true", help="train an embedding (textual inversion) instead of a LoRA")
    train.add_argument(
        "--masks",
        type=Path,
        default=None,
        help="a folder of masks of the same names: white is where the loss counts; alpha: the images' own alpha channel",
    )
    train.add_argument(
        "--regularization", type=Path, default=None, help="a folder of regularization images, repeated to as many as there are training images"
    )
    train.add_argument("--trigger", default="", help="what images without a caption are trained with")
    train.add_argument("--held-out-percent", type=float, default=10.0, help="share of the images to measure on instead of training on them")
    train.add_argument("--resolution", type=int, default=0, help="side of the square whose area all sizes have; 0 is the base model's own")
    train.add_argument("--more-resolutions", default="", help="train every image in these resolutions too, for example 768,1024")
    train.add_argument("--download", action="store_true", help="fetch a tokenizer that is nowhere on this machine from the Hugging Face hub")
    train.add_argument(
        "--tokenizers",
        type=Path,
        action="append",
        default=[],
        help="a folder with the CLIP tokenizer, or ComfyUI's folder comfy; needed for checkpoint files",
    )
    _add_cache_command(commands)
    kind = next(item for item in dataclasses.fields(AdapterSettings) if item.name == "kind")
    train.add_argument("--adapter", choices=kind.metadata["choices"], default=kind.default, help=kind.metadata["help"])
    _add_settings(train, AdapterSettings, without=("kind", "files_sha256"))
    _add_settings(train, EmbeddingSettings, without=("token",))
    _add_settings(train, TrainSettings)
    _add_settings(train, OptimizerSettings, without=("kind",))
    _add_settings(train, ScheduleSettings, without=("kind",))
    _add_settings(train, PerformanceSettings)
    _add_settings(train, ObjectiveSettings)
    _add_settings(train, CaptionSettings, prefix=_CAPTION)
    _add_settings(train, DataSettings, prefix=_IMAGE)
    _add_settings(train, SampleSettings, prefix=_SAMPLE)
    _add_settings(train, RunSettings, prefix=_RUN)
    return parser


def _add_cache_command(commands: Any) -> None:
    cache = commands.add_parser("cache", help="show, limit or clean what was encoded of images and captions, or the models written from wires")
    cache.add_argument("--models", action="store_true", help="the models that Base Model From Wires has written, instead of what was encoded")
    cache.add_argument("--output", type=Path, default=Path("runs"), help="where the run directories are; with ComfyUI its output/athanor")
    cache.add_argument("--limit", type=float, default=None, metavar="GIB", help="from now on keep it under this size; what was used longest ago goes")
    cache.add_argument("--clean", action="store_true", help="delete all of it but what was used in the last half hour")


def _tend_cache(options: argparse.Namespace) -> int:
    folder = options.output / (BASES if options.models else CACHE)
    if not folder.is_dir():
        what = "are no models written from wires" if options.models else "is no cache"
        raise AthanorError(f"There {what} in {options.output}; name the folder of the run directories with --output.")
    if options.limit is not None:
        set_size_limit(folder, options.limit)
    freed = clean_folder(folder, 0 if options.clean else size_limit_bytes(folder))
    report = folder_report(folder)
    lines = [f"{_gib(num_bytes):>10}  {group}" for group, num_bytes in report.by_group.items()]
    lines += [f"{_gib(report.num_bytes):>10}  in {report.num_files} files, of {_gib(report.limit_bytes)} allowed"]
    lines += [f"{_gib(freed):>10}  freed"] if freed else []
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 // 10 else f"{num_bytes / 2**20:.1f} MiB"


def _add_settings(parser: argparse.ArgumentParser, settings: type, prefix: str = "", without: tuple[str, ...] = ()) -> None:
    for item in dataclasses.fields(settings):
        if item.name not in without:
            option, sentence = f"--{prefix}{item.name.replace('_', '-')}", item.metadata["help"].replace("%", "%%")
            kind = value_type(settings, item.name)
            if kind is bool:
                parser.add_argument(option, action=argparse.BooleanOptionalAction, default=item.default, help=sentence)
            else:
                parser.add_argument(option, type=kind, default=item.default, choices=item.metadata["choices"] or None, help=sentence)


def _settings(kind: type[Settings], options: dict[str, Any], prefix: str = "") -> Settings:
    names = [item.name for item in dataclasses.fields(kind)]  # type: ignore[arg-type]
    key = prefix.replace("-", "_")
    return kind(**{name: options[key + name] for name in names if key + name in options})


def _new_run(options: argparse.Namespace) -> Run:
    missing = [f"--{name}" for name in ("base", "images", "name") if getattr(options, name) is None]
    if missing:
        raise AthanorError(f"A new run needs {', '.join(missing)}; or name a run directory: athanor train RUN_DIR.")
    raise_problems(_without_effect(options))
    base = describe_base(
        options.base, options.tokenizers, options.text_encoders, options.vae, options.clip_skip, options.prediction, options.download
    )
    masks = "alpha" if options.masks == Path("alpha") else options.masks
    scanned = read_dataset(options.images, trigger=options.trigger, held_out_percent=options.held_out_percent, masks=masks)
    if options.regularization:
        scanned = with_regularization(scanned, scan_folder(options.regularization))
    side_px, step_px = options.resolution or base.native_px, base.bucket_step_px
    dataset = in_resolutions(
        (side_px, *read_resolutions(options.more_resolutions)),
        lambda px: assign_buckets(scanned, resolution_px=px, min_px=max(step_px, px // 2), max_px=2 * px, step_px=step_px, upscale=True),
    )
    for note in dataset.notes:
        sys.stdout.write(f"note: {note}\n")
    values = vars(options)
    train = _settings(TrainSettings, values)
    job = TrainJob(
        name=options.name,
        base=base,
        dataset=dataset,
        kind="embedding" if options.embedding else "lora",
        adapter=with_files_hashed(dataclasses.replace(_settings(AdapterSettings, values), kind=options.adapter)),
        embedding=_settings(EmbeddingSettings, {**values, "token": options.name}),
        train=dataclasses.replace(train, rate=0.0) if options.embedding else train,
        optimizer=_settings(OptimizerSettings, values),
        schedule=_settings(ScheduleSettings, values),
        performance=_settings(PerformanceSettings, values),
        objective=_settings(ObjectiveSettings, values),
        captions=_settings(CaptionSettings, values, prefix=_CAPTION),
        data=_settings(DataSettings, values, prefix=_IMAGE),
        samples=_settings(SampleSettings, values, prefix=_SAMPLE),
        run=_settings(RunSettings, values, prefix=_RUN),
    )
    check_train_job(job)
    return open_run(options.output.resolve(), job)


def _without_effect(options: argparse.Namespace) -> list[str]:
    """A sentence for each option that is for LoRAs or for embeddings only, and given for the other."""
    without = ("kind", "merge_files", "files_sha256")
    lora_only = {item.name: item.default for item in dataclasses.fields(AdapterSettings) if item.name not in without}
    lora_only |= {"adapter": AdapterSettings().kind, "rate": TrainSettings().rate}
    embedding_only = {item.name: item.default for item in dataclasses.fields(EmbeddingSettings) if item.name != "token"}
    names, advice = (lora_only, "an embedding") if options.embedding else (embedding_only, "a LoRA")
    return [
        f"--{name.replace('_', '-')} is {getattr(options, name)}, but does nothing for {advice}; leave it out."
        for name, default in names.items()
        if getattr(options, name) != default
    ]


def _work_in_the_foreground(run: Run, processes: Processes) -> int:
    control, ended = Control(), threading.Event()

    def interrupted(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        sys.stdout.write("\nSaving … (Ctrl+C again ends at once)\n")
        control.stop()

    signal.signal(signal.SIGINT, interrupted)
    # What a cluster's queue and `kill` send before they lose patience.
    signal.signal(signal.SIGTERM, interrupted)
    watcher = threading.Thread(target=_show_progress, args=(run, ended), daemon=True)
    watcher.start()
    try:
        return work(run, control, processes)
    finally:
        ended.set()
        watcher.join()


def _show_progress(run: Run, ended: threading.Event) -> None:
    shown = 0
    while not ended.wait(_SHOW_EVERY_SEC):
        steps = [event for event in run.events() if event["event"] == "step"]
        if steps and steps[-1]["step"] != shown:
            last, shown = steps[-1], steps[-1]["step"]
            sys.stdout.write(f"step {last['step']}, epoch {last['epoch']}, loss {last['loss']:.5f}, {last['seconds']:.2f} s a step\n")
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
