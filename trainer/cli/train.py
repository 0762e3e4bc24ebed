"""`athanor train` and `athanor resume`: a run described by options, or one whose directory is there."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any, Literal

from ..adapters.check import with_files_hashed
from ..bases import describe_base
from ..checks.validate import check_train_job
from ..checks.words import OF_A_LORA
from ..config import TrainJob
from ..dataset import assign_buckets, scan_folder, with_regularization
from ..dataset.resolutions import in_resolutions, read_resolutions
from ..errors import AthanorError, raise_problems
from ..processes import Processes
from ..runs.relocation import relocated
from ..runs.run import Run, open_run, write_job_file
from ..settings import (
    AdapterSettings,
    CaptionSettings,
    CheckpointSettings,
    DataSettings,
    EmbeddingSettings,
    ObjectiveSettings,
    OptimizerSettings,
    PerformanceSettings,
    PriorSettings,
    RunSettings,
    SampleSettings,
    ScheduleSettings,
    TrainSettings,
)
from ..trainees.templates import lines_of_template
from ..trainees.words import with_files
from .dataset import read_dataset
from .foreground import follow, work_in_the_foreground
from .given_settings import notes_of, usual_options
from .options import add_settings, existing_run, settings_of

_SHARED = ("blocks", "pattern")
"""Options that mean the same for a LoRA and for a whole model."""
_USAGE = "athanor train --base MODEL --images FOLDER --name NAME [options], or athanor train RUN_DIRECTORY; athanor train --help lists the options"
_SAMPLE, _CAPTION, _IMAGE, _RUN = "sample-", "caption-", "image-", "run-"


def add_train_commands(commands: Any) -> argparse.ArgumentParser:
    """The parser of `train` itself."""
    resume = commands.add_parser("resume", help="go on with a run directory, or do the job.json in it")
    resume.add_argument("run", type=Path)
    train: argparse.ArgumentParser = commands.add_parser(
        "train", help="train on a folder of images", usage=_USAGE, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
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
    train.set_defaults(given=())
    train.add_argument(
        "--embedding", action="store_true", help=f"train an embedding (textual inversion) instead of a LoRA; usual then: {usual_options('embedding')}"
    )
    train.add_argument(
        "--checkpoint",
        action="store_true",
        help=f"train the model's own weights (DreamBooth, full fine-tuning) instead of a LoRA; usual then: {usual_options('checkpoint')}",
    )
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
    train.add_argument(
        "--settings",
        action="append",
        default=[],
        metavar="FILE",
        help="settings of a preset (sdxl character), of an earlier run, or of kohya_ss, sd-scripts or lora-scripts; other options count more, and of several files the later one",
    )
    kind = next(item for item in dataclasses.fields(AdapterSettings) if item.name == "kind")
    train.add_argument("--adapter", choices=kind.metadata["choices"], default=kind.default, help=kind.metadata["help"])
    add_settings(train, AdapterSettings, without=("kind", "files_sha256"))
    add_settings(train, EmbeddingSettings, without=("token", "embedding_sha256"))
    add_settings(train, CheckpointSettings, without=_SHARED)
    add_settings(train, TrainSettings)
    add_settings(train, OptimizerSettings, without=("kind",))
    add_settings(train, ScheduleSettings, without=("kind",))
    add_settings(train, PerformanceSettings)
    add_settings(train, ObjectiveSettings)
    add_settings(train, CaptionSettings, prefix=_CAPTION)
    add_settings(train, DataSettings, prefix=_IMAGE)
    add_settings(train, SampleSettings, prefix=_SAMPLE)
    add_settings(train, RunSettings, prefix=_RUN)
    add_settings(train, PriorSettings)
    return train


def run_train_command(options: argparse.Namespace, processes: Processes) -> int:
    run = Run(Path(processes.of_leader(lambda: str(_wanted_run(options).folder))))
    if not processes.leads:
        return follow(run, processes)
    sys.stdout.write(f"Run directory: {run.folder}\n")
    finished = run.finished()
    if processes.any_of(finished):
        sys.stdout.write("It has finished already.\n")
        code = 0
    else:
        code = work_in_the_foreground(run, processes)
    for epoch in run.epochs():
        loss = f"  held-out loss {epoch.validation_loss:.5f}" if epoch.validation_loss is not None else ""
        sys.stdout.write(f"epoch {epoch.number}: {epoch.path}{loss}\n")
    return code


def _wanted_run(options: argparse.Namespace) -> Run:
    if options.run is None:
        return _new_run(options)
    run = existing_run(options.run)
    if options.command == "train":
        _refuse_settings(options)
        if options.base or options.images or options.tokenizers:
            job = relocated(run.train_job(), options.base, options.images, options.tokenizers)
            check_train_job(job)
            write_job_file(run.folder, job)
    return run


def _refuse_settings(options: argparse.Namespace) -> None:
    """With a run directory only the places of its files may be said anew."""
    parser = argparse.ArgumentParser()
    add_train_commands(parser.add_subparsers(dest="command"))
    usual, places = vars(parser.parse_args(["train"])), ("run", "base", "images", "tokenizers")
    changed = [f"--{name.replace('_', '-')}" for name, value in vars(options).items() if name not in places and value != usual[name]]
    if changed:
        raise AthanorError(f"{changed[0]} would make another run of {options.run}; leave it out, or describe a new run without naming a directory.")


def _new_run(options: argparse.Namespace) -> Run:
    missing = [f"--{name}" for name in ("base", "images", "name") if getattr(options, name) is None]
    if missing:
        raise AthanorError(f"A new run needs {', '.join(missing)}; or name a run directory: athanor train RUN_DIR.")
    raise_problems(_without_effect(options))
    for imported in options.given:
        sys.stdout.write(f"{imported.report()}\n\n")
    for note in notes_of(options.given, kind_of(options)):
        sys.stdout.write(f"note: {note}\n")
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
    train = settings_of(TrainSettings, values)
    job = TrainJob(
        name=options.name,
        base=base,
        dataset=dataset,
        kind=kind_of(options),
        adapter=AdapterSettings()
        if options.checkpoint
        else with_files_hashed(dataclasses.replace(settings_of(AdapterSettings, values), kind=options.adapter)),
        checkpoint=settings_of(CheckpointSettings, values) if options.checkpoint else CheckpointSettings(),
        embedding=_embedding(options),
        train=dataclasses.replace(train, rate=0.0) if options.embedding else train,
        optimizer=settings_of(OptimizerSettings, values),
        schedule=settings_of(ScheduleSettings, values),
        performance=settings_of(PerformanceSettings, values),
        objective=settings_of(ObjectiveSettings, values),
        captions=settings_of(CaptionSettings, values, prefix=_CAPTION),
        data=settings_of(DataSettings, values, prefix=_IMAGE),
        samples=settings_of(SampleSettings, values, prefix=_SAMPLE),
        run=settings_of(RunSettings, values, prefix=_RUN),
        prior=settings_of(PriorSettings, values),
    )
    check_train_job(job)
    return open_run(options.output.resolve(), job)


def kind_of(options: argparse.Namespace) -> Literal["lora", "embedding", "checkpoint"]:
    return "checkpoint" if options.checkpoint else "embedding" if options.embedding else "lora"


def _embedding(options: argparse.Namespace) -> EmbeddingSettings:
    """--sentences may be the file of a template."""
    sentences = options.sentences
    if "\n" not in sentences and sentences.lower().endswith(".txt"):
        sentences = "\n".join(lines_of_template(Path(sentences)))
    settings = settings_of(EmbeddingSettings, {**vars(options), "sentences": sentences, **({"token": options.name} if options.embedding else {})})
    return with_files(settings, lambda file: str(Path(file).resolve()))


def _without_effect(options: argparse.Namespace) -> list[str]:
    """A sentence for each option that is for another kind of training than the chosen one."""
    if options.embedding and options.checkpoint:
        return ["--embedding and --checkpoint are two kinds of training; give one of them."]
    of_lora = {**_usual(AdapterSettings, "kind", "files_sha256"), "adapter": AdapterSettings().kind}
    of_embedding, of_checkpoint = _usual(EmbeddingSettings, "token", "embedding_sha256"), _usual(CheckpointSettings, *_SHARED)
    if options.embedding:
        names, advice = {**of_lora, **of_checkpoint, "rate": TrainSettings().rate}, "an embedding"
        del names["merge_files"]
    elif options.checkpoint:
        names, advice = {**of_embedding, **{name: value for name, value in of_lora.items() if name not in _SHARED}}, "a checkpoint"
    else:
        names = {**{name: value for name, value in of_embedding.items() if name not in OF_A_LORA}, **of_checkpoint}
        advice = "a LoRA"
    return [
        f"--{name.replace('_', '-')} is {getattr(options, name)}, but does nothing for {advice}; leave it out."
        for name, default in names.items()
        if getattr(options, name) != default
    ]


def _usual(settings: type, *without: str) -> dict[str, Any]:
    return {item.name: item.default for item in dataclasses.fields(settings) if item.name not in without}
