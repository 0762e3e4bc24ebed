"""Auto Tag and Edit Tags: from images to captions worth training on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from comfy_api.latest import io, ui

from ..tagger.models import find_taggers, pick_tagger
from ..tagger.rules import apply_rules, parse_rules, report
from ..tagger.scores import tag_images
from ..tagger.select import MODES, combine, select_tags
from ..tagger.session import Tagger
from ..trainer.dataset import contact_sheet
from ..trainer.types import Dataset
from . import host
from .images import to_comfy
from .types import DatasetWire

_DEFAULT_RULES = """# One rule a line, from top to bottom.
deduplicate
"""
_MAX_REPORTED = 20


def _tagger_path(name: str) -> Path:
    return host.PACK / "tagger" / "miniature" if name == host.MINIATURE else pick_tagger(name, host.tagger_roots())


class AutoTag(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorAutoTag",
            display_name="Auto Tag",
            category="Athanor/dataset",
            description="Writes tags for each image with a WD14-style tagger (model.onnx and selected_tags.csv in a folder of models/wd_taggers).",
            search_aliases=["WD14", "tagger", "caption", "danbooru"],
            inputs=[
                DatasetWire.Input("dataset", tooltip="The images to tag."),
                io.Combo.Input(
                    "tagger",
                    options=[*find_taggers(host.tagger_roots()), host.MINIATURE],
                    tooltip="A folder of models/wd_taggers that holds model.onnx and selected_tags.csv, or the miniature's tagger.",
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
            ],
            outputs=[DatasetWire.Output("dataset", display_name="dataset"), io.String.Output("report", display_name="report")],
            hidden=[io.Hidden.unique_id],
        )

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
    ) -> io.NodeOutput:
        progress = host.Progress(cls.hidden.unique_id)
        wanted = [sample for sample in dataset.samples if mode != "fill-empty" or not sample.tags]
        excluded = tuple(part.strip() for part in exclude.split(",") if part.strip())
        model = Tagger(_tagger_path(tagger))
        tagged, problems = {}, []
        try:
            scored = tag_images(
                model,
                [Path(sample.path) for sample in wanted],
                batch_size=batch_size,
                cache_folder=host.cache_folder() / "tags",
                on_progress=progress.show,
            )
            for sample, result in zip(wanted, scored, strict=True):
                if result.scores is None:
                    problems.append(f"{Path(sample.path).name}: {result.problem}")
                    continue
                new = select_tags(
                    result.scores,
                    model.labels,
                    general_threshold=general_threshold,
                    character_threshold=character_threshold,
                    replace_underscores=replace_underscores,
                    exclude=excluded,
                )
                tagged[sample.path] = sample.with_tags(combine(sample.tags, new, mode))
        finally:
            model.close()
        samples = tuple(tagged.get(sample.path, sample) for sample in dataset.samples)
        head = f"{len(tagged)} of {len(dataset.samples)} images were tagged by {tagger}"
        text = "\n".join([head, *model.notes, *problems[:_MAX_REPORTED]])
        return io.NodeOutput(dataset.with_samples(samples, *problems), text, ui=ui.PreviewText(text))


class EditTags(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorEditTags",
            display_name="Edit Tags",
            category="Athanor/dataset",
            description="Changes the captions of all images by rules, one a line, and shows the result as a contact sheet. Nothing is written to disk.",
            search_aliases=["caption", "prune", "trigger"],
            inputs=[
                DatasetWire.Input("dataset", tooltip="The images whose captions are edited."),
                io.String.Input(
                    "rules",
                    default=_DEFAULT_RULES,
                    multiline=True,
                    tooltip="trigger: my_word · remove: a, *_hair · keep: a, b · replace: old -> new · regex: pattern -> text · deduplicate · first: a, b · prepend: a · append: a · sort: frequency · max: 30 · prune: character",
                ),
                io.Int.Input("columns", default=5, min=1, max=12, tooltip="Pictures in a row of the contact sheet."),
                io.Int.Input(
                    "max_images", default=40, min=1, max=400, display_name="max images", tooltip="How many pictures the contact sheet shows."
                ),
            ],
            outputs=[
                DatasetWire.Output("dataset", display_name="dataset"),
                io.Image.Output("contact_sheet", display_name="contact_sheet"),
                io.String.Output("report", display_name="report"),
            ],
        )

    @classmethod
    def validate_inputs(cls, rules: str = "") -> bool | str:
        from ..tagger.errors import RuleError

        try:
            parse_rules(rules)
        except RuleError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, dataset: Dataset, rules: str, columns: int, max_images: int) -> io.NodeOutput:
        captions, counts = apply_rules(parse_rules(rules), [sample.tags for sample in dataset.samples])
        samples = tuple(
            sample if sample.caption is None and not tags else replace(sample, caption=", ".join(tags)) if tags != sample.tags else sample
            for sample, tags in zip(dataset.samples, captions, strict=True)
        )
        edited = dataset.with_samples(samples)
        sheet = to_comfy([contact_sheet(edited, columns=columns, max_images=max_images)])
        text = report(counts)
        return io.NodeOutput(edited, sheet, text, ui=ui.PreviewImage(sheet, cls=cls))
