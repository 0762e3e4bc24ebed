"""Edit Tags: captions changed by rules."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io, ui

from ..tagger.rules import apply_rules, parse_rules, report
from ..trainer.dataset import contact_sheet
from ..trainer.types import Dataset
from .images import to_comfy
from .types import DatasetWire

_DEFAULT_RULES = """# One rule a line, from top to bottom.
deduplicate
"""


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
