"""Score Epochs: how good each epoch is, in separate numbers."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..tagger.errors import TaggerError
from ..trainer.errors import AthanorError
from ..trainer.files import replace_atomically
from ..trainer.palette import THEMES
from ..trainer.run import Run
from ..trainer.scoring.files import FOLDER, PLOT_FILE, write_scores
from ..trainer.scoring.plan import Drawing
from ..trainer.scoring.plot import scores_plot
from ..trainer.scoring.table import judge, table_text
from ..trainer.types import BaseModel, Dataset
from . import host
from .images import open_rgb, shown, to_comfy
from .score_plan import Scoring, likeness_choices, likeness_path, measured_by_worker
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
                    max=200,
                    display_name="max images",
                    tooltip="So many held-out images at most, evenly chosen. More make the numbers surer and take longer.",
                ),
                io.Int.Input(
                    "num_seeds",
                    default=2,
                    min=1,
                    max=16,
                    display_name="seeds",
                    tooltip="Pictures drawn for each caption by each epoch. From 2 on the difference between seeds is told.",
                ),
                io.Int.Input(
                    "seed",
                    default=1,
                    min=0,
                    max=2**32 - 17,
                    control_after_generate=False,
                    tooltip="The first of the seeds; every epoch draws with the same ones.",
                ),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Sampling steps of each picture."),
                io.Float.Input(
                    "guidance", default=7.0, min=0.0, max=100.0, step=0.5, tooltip="Classifier-free guidance (CFG); for FLUX.1 dev what it is told."
                ),
                io.String.Input("negative_prompt", default="", display_name="negative prompt", tooltip="What the pictures should not show."),
                io.Combo.Input(
                    "likeness",
                    options=likeness_choices(),
                    default=likeness_choices()[0],
                    tooltip="What judges likeness: a DINOv2 or CLIP of models/image_encoders, a CLIP of models/clip_vision, or shapes and colours, which need no model. auto takes the first there is.",
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
        job = scoring.job(Drawing(num_seeds, seed, steps, guidance, negative_prompt), likeness_path(likeness))
        measured = measured_by_worker(scoring, job, cls.hidden.unique_id)
        notes = list(scoring.notes)
        if tagger != _NO_TAGGER:
            measured, told = with_tag_recall(measured, scoring, job, tagger, tag_threshold, host.Progress(cls.hidden.unique_id))
            notes += told
        scores = judge(measured)
        if not scores:
            raise AthanorError("Nothing could be measured; connect a dataset of held-out images with captions.")
        write_scores(run, scores, measured, scoring.folder(job))
        unit, path = scoring.facts.unit, run.folder / FOLDER / PLOT_FILE
        picture = scores_plot(scores, measured, f"{run.name} · {scoring.summary(measured)}", unit, THEMES[theme])
        replace_atomically(path, lambda temporary: picture.save(temporary, format="PNG"))
        table = table_text(scores, unit, measured, notes)
        return io.NodeOutput(run, to_comfy([open_rgb(path)]), table, ui={**shown([path]), **ui.PreviewText(table).as_dict()})
