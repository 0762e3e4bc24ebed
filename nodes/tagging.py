"""Auto Tag: from images to tags."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io, ui

from ..tagger.errors import TaggerError
from ..tagger.merge import MERGINGS
from ..tagger.models import missing_tagger
from ..tagger.select import MCUTS, MODES, PLACES, select_tags
from ..tagger.session import Tagger
from ..tagger.tags import split_tags
from ..tagger.thresholds import Thresholds
from ..trainer.types import Dataset
from . import host
from .scores import with_scored_tags
from .taggers import choices, limits_of, place_of, providers_used, score_images, tagger_path, usual_choice
from .types import DatasetWire

_MAX_REPORTED = 20
_AS_SET, _OWN = "as set here", "the tagger's own"
_NO_SECOND = "none"
_ORDERS = {"by score": "score", "as the tagger lists them": "model"}


def _threshold(kind: str, tooltip: str, *, default: float, optional: bool = False) -> io.Float.Input:
    return io.Float.Input(
        f"{kind}_threshold",
        default=default,
        min=0.0,
        max=1.0,
        step=0.01,
        optional=optional,
        display_name=f"{kind} threshold",
        tooltip=f"{tooltip} Those with a higher score are taken. 1 takes none.",
    )


class AutoTag(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorAutoTag",
            display_name="Auto Tag",
            category="Athanor/dataset",
            description="Writes tags for each image with a tagger: WD14 (v2, v3), cl_tagger, PixAI, Camie, JoyTag, Z3D or DeepDanbooru, from a folder of models/wd_taggers.",
            search_aliases=["WD14", "tagger", "caption", "danbooru", "DeepDanbooru", "deepbooru"],
            inputs=[
                DatasetWire.Input("dataset", tooltip="The images to tag."),
                io.Combo.Input(
                    "tagger",
                    options=choices(),
                    default=usual_choice(),
                    tooltip="A folder of models/wd_taggers that holds a model and its tags, a known tagger that can be downloaded, or the miniature's tagger.",
                ),
                io.Float.Input(
                    "general_threshold",
                    default=0.35,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_name="general threshold",
                    tooltip="General tags with a higher score are taken. 1 takes none.",
                ),
                io.Float.Input(
                    "character_threshold",
                    default=0.85,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_name="character threshold",
                    tooltip="Character tags with a higher score are taken. 1 takes none.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="fill-empty",
                    tooltip="What happens to captions that are there: only empty ones are filled, all are overwritten, or the new tags go in front or behind.",
                ),
                io.String.Input("exclude", default="", tooltip="Tags never to write, between commas."),
                io.Boolean.Input(
                    "replace_underscores",
                    default=True,
                    display_name="spaces for underscores",
                    tooltip="long hair instead of long_hair; faces such as ^_^ stay.",
                ),
                io.Int.Input(
                    "batch_size", default=4, min=1, max=64, display_name="batch size", tooltip="Images at once, where the tagger allows it."
                ),
                _threshold("copyright", "Names of series and games, from taggers that know them.", default=1.0, optional=True),
                _threshold("artist", "Names of artists, from taggers that know them.", default=1.0, optional=True),
                _threshold(
                    "meta", "Tags about the file, such as highres, years and models, from taggers that know them.", default=1.0, optional=True
                ),
                io.Combo.Input(
                    "thresholds",
                    options=[_AS_SET, _OWN],
                    default=_AS_SET,
                    optional=True,
                    tooltip="The tagger's own: the thresholds that its makers recommend, for each kind of tag that is not left out with 1. Each of two taggers has its own.",
                ),
                io.Combo.Input(
                    "mcut",
                    options=list(MCUTS),
                    default="off",
                    optional=True,
                    display_name="MCut",
                    tooltip="Finds the threshold of each picture in the widest gap between its scores.",
                ),
                io.Combo.Input(
                    "rating",
                    options=list(PLACES),
                    default="off",
                    optional=True,
                    tooltip="Write the likeliest rating (general, sensitive, …) in front or at the end.",
                ),
                io.Combo.Input(
                    "quality",
                    options=list(PLACES),
                    default="off",
                    optional=True,
                    tooltip="Write the likeliest quality tag in front or at the end, from taggers that know them.",
                ),
                io.Int.Input(
                    "max_tags",
                    default=0,
                    min=0,
                    max=500,
                    optional=True,
                    display_name="max tags",
                    tooltip="Only the best ones of each picture. 0 takes all.",
                ),
                io.Combo.Input("order", options=list(_ORDERS), default="by score", optional=True, tooltip="In which order the tags are written."),
                io.Boolean.Input(
                    "expand_characters",
                    default=False,
                    optional=True,
                    display_name="expand characters",
                    tooltip="saber (fate) becomes saber, fate.",
                ),
                io.Boolean.Input(
                    "escape_parentheses",
                    default=False,
                    optional=True,
                    display_name="escape parentheses",
                    tooltip="saber \\(fate\\), as prompts want it. Training wants it plain.",
                ),
                io.Combo.Input(
                    "second_tagger",
                    options=[_NO_SECOND, *choices()],
                    default=_NO_SECOND,
                    optional=True,
                    display_name="second tagger",
                    tooltip="Looks at the same pictures; its scores are merged with those of the first.",
                ),
                io.Combo.Input(
                    "merging",
                    options=list(MERGINGS),
                    default="union",
                    optional=True,
                    tooltip="With a second tagger: tags of either (union), of both (intersection), or by the mean of their scores.",
                ),
                io.Boolean.Input(
                    "download",
                    default=False,
                    optional=True,
                    tooltip="Fetch a tagger that is marked as not downloaded from Hugging Face (DeepDanbooru: from GitHub), once, into models/wd_taggers.",
                ),
            ],
            outputs=[DatasetWire.Output("dataset", display_name="dataset"), io.String.Output("report", display_name="report")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, tagger: str = host.MINIATURE, second_tagger: str = _NO_SECOND, download: bool = False) -> bool | str:
        try:
            for name in (tagger, second_tagger):
                if name not in (host.MINIATURE, _NO_SECOND) and not (download and missing_tagger(name, host.tagger_roots())):
                    place_of(name)
        except TaggerError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        dataset: Dataset,
        tagger: str,
        general_threshold: float,
        character_threshold: float,
        mode: str,
        exclude: str,
        replace_underscores: bool,
        batch_size: int,
        copyright_threshold: float = 1.0,
        artist_threshold: float = 1.0,
        meta_threshold: float = 1.0,
        thresholds: str = _AS_SET,
        mcut: str = "off",
        rating: str = "off",
        quality: str = "off",
        max_tags: int = 0,
        order: str = "by score",
        expand_characters: bool = False,
        escape_parentheses: bool = False,
        second_tagger: str = _NO_SECOND,
        merging: str = "union",
        download: bool = False,
    ) -> io.NodeOutput:
        progress = host.Progress(cls.hidden.unique_id)
        # By number, not by path: Bucket makes several samples of one picture.
        numbers = [i for i, sample in enumerate(dataset.samples) if mode != "fill-empty" or not sample.tags]
        wanted = [dataset.samples[i] for i in numbers]
        excluded = split_tags(exclude)
        names = [name for name in (tagger, second_tagger) if name != _NO_SECOND]
        models = [Tagger(tagger_path(name, download, progress)) for name in names]
        chosen = Thresholds(general_threshold, character_threshold, copyright_threshold, artist_threshold, meta_threshold, meta_threshold)
        all_limits = [limits_of(model, chosen) if thresholds == _OWN else chosen for model in models]
        limits = all_limits[0]
        samples, problems, notes = list(dataset.samples), [], []
        num_tagged = 0
        try:
            labels, scored = score_images(models, all_limits, [Path(sample.path) for sample in wanted], merging, batch_size, progress)
            for i, sample, result in zip(numbers, wanted, scored, strict=True):
                if result.scores is None:
                    problems.append(f"{Path(sample.path).name}: {result.problem}")
                    continue
                new = select_tags(
                    result.scores,
                    labels,
                    general_threshold=limits.general,
                    character_threshold=limits.character,
                    copyright_threshold=limits.copyright,
                    artist_threshold=limits.artist,
                    meta_threshold=limits.meta,
                    model_threshold=limits.model,
                    mcut=mcut,
                    replace_underscores=replace_underscores,
                    exclude=excluded,
                    sort=_ORDERS[order],
                    expand_characters=expand_characters,
                    rating=rating,
                    quality=quality,
                    max_tags=max_tags or None,
                    escape_parentheses=escape_parentheses,
                )
                samples[i] = with_scored_tags(sample, new, mode)
                num_tagged += 1
            notes = [note for model in models for note in (*providers_used(model), *model.notes)]
        finally:
            for model in models:
                model.keep()
        head = f"{num_tagged} of {len(dataset.samples)} images were tagged by {' and '.join(names)}"
        if thresholds == _OWN:
            notes = [*(f"{model.name}: thresholds {each.told()}" for model, each in zip(models, all_limits, strict=True)), *notes]
        text = "\n".join([head, *notes, *problems[:_MAX_REPORTED]])
        return io.NodeOutput(dataset.with_samples(tuple(samples), *problems), text, ui=ui.PreviewText(text))
