"""Score Epochs: how good each epoch is, in separate numbers."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..tagger.errors import TaggerError
from ..tagger.sentences import is_prose
from ..trainer.drawing.palette import THEMES
from ..trainer.runs.run import Run
from ..trainer.scoring.plan import MAX_IMAGES, MAX_SEEDS, Drawing
from ..trainer.scoring.report import write_report
from ..trainer.scoring.scoring import Scoring
from ..trainer.types import BaseModel, Dataset
from . import drawing, host
from .images import open_rgb, shown, to_comfy
from .score_work import likeness_choices, likeness_path, measured_by_worker
from .tag_recall import with_tag_recall
from .taggers import choices, place_of
from .types import BaseModelWire, DatasetWire, RunWire

_NO_TAGGER = "none"


class ScoreEpochs(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorScoreEpochs",
            display_name="Score Epochs",
            category="Athanor/training",
            description="Measures every epoch on held-out images: their loss, how like them its pictures are, whether captions are followed, how seeds differ, whether training images are copied, how far the weights moved. Each beside the bare base, with how sure it is.",
            search_aliases=["best epoch", "evaluate", "CLIP score", "DINO", "overfitting", "validation"],
            is_output_node=True,
            inputs=[
                RunWire.Input("run", tooltip="The run whose epochs are measured, from a training node or Load Run."),
                BaseModelWire.Input(
                    "base_model", optional=True, tooltip="Draws and measures with this model. Not connected: the one that the run was trained on."
                ),
                DatasetWire.Input(
                    "dataset",
                    optional=True,
                    tooltip="Images that were not trained on, with captions, behind a Bucket node. Not connected: those that the run itself held out.",
                ),
                io.String.Input("epochs", default="all", tooltip="all, last, best, every 2, or numbers and ranges such as 2, 4, 6-10."),
                io.Int.Input(
                    "max_images",
                    default=16,
                    min=1,
                    max=MAX_IMAGES,
                    display_name="max images",
                    tooltip="So many held-out images at most, evenly chosen. More make the numbers surer and take longer.",
                ),
                io.Int.Input(
                    "num_seeds",
                    default=2,
                    min=1,
                    max=MAX_SEEDS,
                    display_name="seeds",
                    tooltip="Pictures drawn for each caption by each epoch. From 2 on the difference between seeds is told.",
                ),
                drawing.seed("The first of the seeds; every epoch draws with the same ones.", MAX_SEEDS),
                drawing.steps(),
                drawing.guidance("Classifier-free guidance (CFG); for FLUX.1 dev what it is told."),
                drawing.negative_prompt(),
                io.Combo.Input(
                    "likeness",
                    options=likeness_choices(),
                    default=likeness_choices()[0],
                    tooltip="What judges likeness: a DINO or CLIP of models/image_encoders, a CLIP of models/clip_vision, or shapes and colours, which need no model. auto takes the first there is.",
                ),
                io.Combo.Input(
                    "tagger",
                    options=[_NO_TAGGER, *choices()],
                    default=_NO_TAGGER,
                    tooltip="Looks for the tags of each caption in the pictures. For captions made of tags, with the tagger that wrote them.",
                ),
                io.Float.Input(
                    "tag_threshold",
                    default=0.35,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_name="tag threshold",
                    tooltip="From which score on a tag counts as found.",
                ),
                io.Combo.Input(
                    "theme", options=list(THEMES), default="dark", advanced=True, tooltip="Of the picture. Light suits documents and print."
                ),
            ],
            outputs=[
                RunWire.Output("run", display_name="run", tooltip="The same, scored: Save Epoch takes best by likeness, for example."),
                io.Image.Output("plot", display_name="plot", tooltip="A curve for each score over the epochs."),
                io.String.Output("table", display_name="table", tooltip="All numbers, and whether there is a winner."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, tagger: str = _NO_TAGGER) -> bool | str:
        try:
            if tagger not in (_NO_TAGGER, host.MINIATURE):
                place_of(tagger)
        except TaggerError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        run: Run,
        epochs: str,
        max_images: int,
        num_seeds: int,
        seed: int,
        steps: int,
        guidance: float,
        negative_prompt: str,
        likeness: str,
        tagger: str,
        tag_threshold: float,
        theme: str,
        base_model: BaseModel | None = None,
        dataset: Dataset | None = None,
    ) -> io.NodeOutput:
        scoring = Scoring.of(run, base_model, dataset, epochs, max_images)
        job = scoring.job(Drawing(num_seeds, seed, steps, guidance, negative_prompt), likeness_path(likeness), all(map(is_prose, scoring.captions)))
        measured = measured_by_worker(scoring, job, cls.hidden.unique_id)
        notes = list(scoring.notes)
        if tagger != _NO_TAGGER:
            measured, told = with_tag_recall(measured, scoring, job, tagger, tag_threshold, host.Progress(cls.hidden.unique_id))
            notes += told
        report = write_report(scoring, job, measured, notes, THEMES[theme])
        told_on_node = {**shown([report.plot]), **ui.PreviewText(report.table).as_dict()}
        return io.NodeOutput(run, to_comfy([open_rgb(report.plot)]), report.table, ui=told_on_node)
