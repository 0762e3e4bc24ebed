"""Train LoRA, Train Embedding and Train Checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..trainer.checks.validate import check_train_job
from ..trainer.config import TrainJob
from ..trainer.dataset.looks import LOOKS
from ..trainer.errors import AthanorError
from ..trainer.formats.files import load_tensors
from ..trainer.formats.parameters import settings_for
from ..trainer.runs.events import EventLog
from ..trainer.runs.promote import kind_folder
from ..trainer.runs.run import Run, open_run
from ..trainer.settings import (
    USUAL_KEPT_CHECKPOINTS,
    USUAL_OF_A_CHECKPOINT,
    USUAL_OF_AN_EMBEDDING,
    CheckpointSettings,
    EmbeddingSettings,
    RunSettings,
    SampleSettings,
    Settings,
    TrainSettings,
)
from ..trainer.types import BaseModel, Dataset
from . import host
from .adapters import kind_widget
from .failures import begin, told_after_the_others
from .images import open_rgb, shown, to_comfy
from .jobs import NONE, files_changed, job_of
from .plots import draw_loss_plot, save_loss_plot
from .settings import widgets
from .types import BaseModelWire, DatasetWire, RunWire, SettingsWire
from .watching import announce
from .worker import run_worker

_RUN_TOOLTIP = "Name of the run and of its files. With other settings under the same name a new run is made beside the old one; with the same settings it continues, or is taken as it is when finished."

_SETTINGS_TOOLTIP = "Finer settings, from the settings nodes; they can be chained. What has a widget here is taken from here, but for what Import Settings read from a file."
_SAMPLE_WIDGETS = ("prompts", "negative_prompt", "steps", "guidance", "seed")

_WORDS = ("num_vectors", "initial_words", "templates")
_BESIDE_A_LORA = ("other_embeddings", "embedding_rate", "embedding_percent", "keep_norm", "encoders")

_LATER = ("base_precision",)
"""Widgets that came when workflows had been saved already, in which values go by their place: they stand at the end."""


class TrainLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorTrainLora",
            display_name="Train LoRA",
            category="Athanor/training",
            description="Trains a LoRA in a process of its own. Cancel saves everything; queueing the same graph again continues. Each saved epoch can be picked in Load LoRA at once.",
            search_aliases=["lora", "kohya", "finetune", "dreambooth"],
            is_output_node=True,
            inputs=[
                BaseModelWire.Input("base_model", tooltip="The model to train upon, from Load Base Model."),
                DatasetWire.Input("dataset", tooltip="The images to train on, from Bucket."),
                io.String.Input("name", default="my-lora", tooltip=_RUN_TOOLTIP),
                kind_widget(),
                *widgets(TrainSettings, without=_LATER),
                *widgets(SampleSettings, prefix="sample_", only=_SAMPLE_WIDGETS),
                *widgets(TrainSettings, only=_LATER),
                *_may_lack(widgets(EmbeddingSettings, only=_BESIDE_A_LORA)),
                SettingsWire.Input("settings", optional=True, tooltip=_SETTINGS_TOOLTIP),
            ],
            outputs=[
                RunWire.Output("run", display_name="run"),
                io.LoraModel.Output("lora", display_name="lora"),
                io.LossMap.Output("loss_map", display_name="loss_map"),
                io.Image.Output("samples", display_name="samples"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **values: Any) -> str:
        return files_changed(values)

    @classmethod
    async def execute(cls, base_model: BaseModel, dataset: Dataset, name: str, settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        run = await _trained(job_of("lora", base_model, dataset, name, settings, values), settings, name, cls.hidden.unique_id)
        return io.NodeOutput(run, last_tensors(run), {"loss": run.losses()}, _last_samples(run), ui=_shown_run(run))


class TrainEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorTrainEmbedding",
            display_name="Train Embedding",
            category="Athanor/training",
            description="Textual inversion: learns new vectors for the prompt and leaves the model as it is. In prompts the result is written embedding:name.",
            search_aliases=["textual inversion", "embedding", "TI"],
            is_output_node=True,
            inputs=[
                BaseModelWire.Input("base_model", tooltip="The model to train upon, from Load Base Model."),
                DatasetWire.Input("dataset", tooltip="The images to train on, from Bucket."),
                io.String.Input(
                    "name",
                    default="my-embedding",
                    tooltip="The word for prompts, and the name of the run and its files. " + _RUN_TOOLTIP.split(". ", 1)[1],
                ),
                *widgets(EmbeddingSettings, only=_WORDS),
                io.Float.Input(
                    "text_encoder_rate",
                    default=USUAL_OF_AN_EMBEDDING["text_encoder_rate"],
                    min=1e-6,
                    max=10.0,
                    step=1e-6,
                    round=1e-6,
                    display_name="embedding rate",
                    tooltip="Learning rate of the new vectors. Usual: 0.001 to 0.01.",
                ),
                *widgets(TrainSettings, defaults=USUAL_OF_AN_EMBEDDING, without=("rate", "text_encoder_rate", *_LATER)),
                *widgets(SampleSettings, prefix="sample_", only=_SAMPLE_WIDGETS),
                *widgets(TrainSettings, only=_LATER),
                *_may_lack(widgets(EmbeddingSettings, only=("sentences", "other_embeddings", "keep_norm"))),
                io.Combo.Input(
                    "template_file",
                    options=[NONE, *host.template_files()],
                    default=NONE,
                    optional=True,
                    display_name="template file",
                    tooltip="Own sentences from a text file in models/textual_inversion_templates, in place of those written above. A1111's files are understood.",
                ),
                io.Combo.Input(
                    "start_embedding",
                    options=[NONE, *host.embedding_names()],
                    default=NONE,
                    optional=True,
                    advanced=True,
                    display_name="start from",
                    tooltip=next(item.metadata["help"] for item in dataclasses.fields(EmbeddingSettings) if item.name == "start_embedding"),
                ),
                *_may_lack(widgets(EmbeddingSettings, only=("encoders",))),
                SettingsWire.Input("settings", optional=True, tooltip=_SETTINGS_TOOLTIP),
            ],
            outputs=[
                RunWire.Output("run", display_name="run"),
                io.Image.Output("samples", display_name="samples"),
                io.LossMap.Output("loss_map", display_name="loss_map"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **values: Any) -> str:
        return files_changed(values)

    @classmethod
    async def execute(cls, base_model: BaseModel, dataset: Dataset, name: str, settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        job = job_of("embedding", base_model, dataset, name, settings, {**values, "rate": 0.0})
        run = await _trained(job, settings, name, cls.hidden.unique_id)
        return io.NodeOutput(run, _last_samples(run), {"loss": run.losses()}, ui=_shown_run(run))


class TrainCheckpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorTrainCheckpoint",
            display_name="Train Checkpoint",
            category="Athanor/training",
            description="DreamBooth and full fine-tuning: trains the model's own weights. Saves whole checkpoints for Load Checkpoint (SD1.5, SD2, SDXL), or diffusion models (SD3.5, FLUX.1).",
            search_aliases=["dreambooth", "finetune", "full fine-tuning", "checkpoint"],
            is_output_node=True,
            inputs=[
                BaseModelWire.Input("base_model", tooltip="The model to train, from Load Base Model. It stays as it is; each epoch is a new file."),
                DatasetWire.Input("dataset", tooltip="The images to train on, from Bucket; class images are loaded as regularization images."),
                io.String.Input("name", default="my-checkpoint", tooltip=_RUN_TOOLTIP),
                _fine_rate(
                    "rate",
                    USUAL_OF_A_CHECKPOINT["rate"],
                    "learning rate",
                    "Learning rate of the U-Net or transformer. Usual: 0.000001 to 0.00001; 0 leaves it out.",
                ),
                _fine_rate(
                    "text_encoder_rate",
                    USUAL_OF_A_CHECKPOINT["text_encoder_rate"],
                    "text encoder rate",
                    "Learning rate of the text encoder. Usual: 0, which leaves it as it is, or half of the other.",
                ),
                *widgets(CheckpointSettings),
                *widgets(TrainSettings, defaults=USUAL_OF_A_CHECKPOINT, without=("rate", "text_encoder_rate", *_LATER)),
                *widgets(RunSettings, defaults={"keep_last": USUAL_KEPT_CHECKPOINTS}, only=("keep_last",)),
                *widgets(SampleSettings, prefix="sample_", only=_SAMPLE_WIDGETS),
                SettingsWire.Input("settings", optional=True, tooltip=_SETTINGS_TOOLTIP),
            ],
            outputs=[
                RunWire.Output("run", display_name="run"),
                io.Image.Output("samples", display_name="samples"),
                io.LossMap.Output("loss_map", display_name="loss_map"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, base_model: BaseModel, dataset: Dataset, name: str, settings: Settings | None = None, **values: Any) -> io.NodeOutput:
        job = job_of("checkpoint", base_model, dataset, name, settings, values)
        run = await _trained(job, settings, name, cls.hidden.unique_id)
        return io.NodeOutput(run, _last_samples(run), {"loss": run.losses()}, ui=_shown_run(run))


def _fine_rate(name: str, default: float, shown: str, tooltip: str) -> io.Input:
    """A learning rate of whole models, which are much smaller than a LoRA's."""
    return io.Float.Input(name, default=default, min=0.0, max=10.0, step=1e-7, round=1e-8, display_name=shown, tooltip=tooltip)


def _may_lack(inputs: list[io.Input]) -> list[io.Input]:
    """Widgets that prompts written before they came do not have."""
    for each in inputs:
        each.optional = True
    return inputs


async def _trained(job: TrainJob, settings: Settings | None, name: str, node_id: str | None) -> Run:
    """The finished run of `job`: taken as it is, continued, or begun. `name`: what the node's widget says; `settings` came over the wire.

    A failure waits until the other trainings of the graph are done.
    """
    turn = begin()
    try:
        check_train_job(job, host.embedding_folders(), host.cache_folder() / LOOKS)
        run = open_run(host.runs_root(), job)
        host.register_epochs(run.folder, kind_folder(run), bool(run.words()))
        announce(node_id, name, run)
        if not run.finished():
            for note in settings_for(job.kind, settings or Settings())[1]:
                EventLog(run.folder).write("warning", {"message": note})
            run_worker(run, node_id)
        return run
    except AthanorError as error:
        told = await told_after_the_others(error, node_id, job.name, turn)
    raise told


def last_tensors(run: Run) -> Mapping[str, Any]:
    """The last epoch's tensors, as the stock LORA_MODEL wire carries them."""
    return load_tensors(run.epochs()[-1].path)


def _last_samples(run: Run) -> Any:
    """IMAGE [B, H, W, 3] of the last epoch's sample pictures; the loss plot where none were asked for."""
    pictures = run.samples()
    if not pictures:
        return to_comfy([draw_loss_plot(run)])
    return to_comfy([open_rgb(picture.path) for picture in pictures if picture.epoch == pictures[-1].epoch])


def _shown_run(run: Run) -> dict[str, Any]:
    """On the node: the last epoch's sample pictures and the loss."""
    pictures = run.samples()
    last = [picture.path for picture in pictures if picture.epoch == pictures[-1].epoch]
    return shown([*last, save_loss_plot(run)])
