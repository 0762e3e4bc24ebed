"""Edit Tags: captions changed by rules."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io, ui

from ..tagger.edits import Trigger
from ..tagger.errors import TaggerError
from ..tagger.filter import filter_items, parse_filter
from ..tagger.hand_edits import apply_hand_edits, parse_hand_edits
from ..tagger.lexicon import Lexicon
from ..tagger.rule_language import parse_rules
from ..tagger.rules import Rule, apply_rules, report
from ..tagger.tags import match_key
from ..trainer.dataset import contact_sheet
from ..trainer.types import Dataset, Sample
from . import host
from .images import to_comfy
from .lexicons import NO_LEXICON, count_tokens, lexicon_named
from .listing import keep_listing, make_listing, upstream_taggers
from .scores import scores_by_key
from .types import DatasetWire

_DEFAULT_RULES = """# One rule a line, from top to bottom.
# To begin with: preset: character (or style, outfit, concept)
deduplicate
"""


class EditTags(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorEditTags",
            display_name="Edit Tags",
            category="Athanor/dataset",
            description="Changes the captions of images by rules, one a line, and shows the result as a contact sheet. Nothing is written to disk.",
            search_aliases=["caption", "prune", "trigger"],
            inputs=[
                DatasetWire.Input("dataset", tooltip="The images whose captions are edited."),
                io.String.Input(
                    "rules",
                    default=_DEFAULT_RULES,
                    multiline=True,
                    tooltip="preset: character, style, outfit or concept · trigger: my_word · remove: a, *_hair · keep: a, b · replace: old -> new · regex: pattern -> text · deduplicate · first: a, b · prepend: a · append: a · sort: frequency · max: 30 · max tokens: 75 · shuffle: 1 · consolidate · prune: character, style, outfit or concept · alias",
                ),
                io.Int.Input("columns", default=5, min=1, max=12, tooltip="Pictures in a row of the contact sheet."),
                io.Int.Input(
                    "max_images", default=40, min=1, max=400, display_name="max images", tooltip="How many pictures the contact sheet shows."
                ),
                io.String.Input(
                    "filter",
                    default="",
                    optional=True,
                    tooltip='Only these pictures are edited and shown: tag:hat · caption:"long hair" · name:IMG_* · path:night/ · tags:>5 · chars:<200 · tokens:>75 · score:<0.4 · score:hat>0.8 · NOT, AND, OR, ( ). Empty: all.',
                ),
                io.Combo.Input(
                    "lexicon",
                    options=[NO_LEXICON, *host.lexicon_files()],
                    default=NO_LEXICON,
                    optional=True,
                    tooltip="A list of known tags from models/tag_lexicons, such as danbooru.csv: for `alias`, for names in `prune`, and to check the trigger.",
                ),
                io.String.Input(
                    "hand_edits",
                    default="",
                    optional=True,
                    socketless=True,
                    display_name="hand edits",
                    tooltip="What was changed in the tag editor, replayed after the rules. It is filled by the button Edit tags.",
                    extra_dict={"hidden": True},
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            is_output_node=True,
            outputs=[
                DatasetWire.Output("dataset", display_name="dataset"),
                io.Image.Output("contact_sheet", display_name="contact_sheet"),
                io.String.Output("report", display_name="report"),
            ],
        )

    @classmethod
    def validate_inputs(cls, rules: str = "", filter: str = "", lexicon: str = NO_LEXICON, hand_edits: str = "") -> bool | str:
        try:
            parse_rules(rules or "", lexicon_named(lexicon or NO_LEXICON), count_tokens)
            parse_filter(filter or "", count_tokens)
            parse_hand_edits(hand_edits or "")
        except TaggerError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, lexicon: str = NO_LEXICON, **_: object) -> str:
        file = host.lexicon_files().get(lexicon)
        return f"{file.stat().st_mtime_ns} {file.stat().st_size}" if file else ""

    @classmethod
    def execute(
        cls,
        dataset: Dataset,
        rules: str,
        columns: int,
        max_images: int,
        filter: str = "",
        lexicon: str = NO_LEXICON,
        hand_edits: str = "",
    ) -> io.NodeOutput:
        known = lexicon_named(lexicon)
        parsed = parse_rules(rules, known, count_tokens)
        by_hand = parse_hand_edits(hand_edits)
        chosen = _chosen(dataset.samples, filter)
        captions, counts = apply_rules(parsed, [dataset.samples[i].tags for i in chosen], [scores_by_key(dataset.samples[i]) for i in chosen])
        samples = list(dataset.samples)
        triggers = frozenset[str]().union(*(rule.edit.keys for rule in parsed if isinstance(rule.edit, Trigger)))
        for i, tags in zip(chosen, captions, strict=True):
            samples[i] = _with_tags(samples[i], _without_triggers(tags, triggers) if samples[i].role == "regularization" else tags)
        taggers = upstream_taggers(cls.hidden.prompt or {}, cls.hidden.unique_id)
        listing = keep_listing(make_listing(samples, rules, filter, lexicon, taggers))
        edited, told = apply_hand_edits(by_hand, [sample.path for sample in samples], [sample.tags for sample in samples])
        samples = [_with_tags(sample, tags) for sample, tags in zip(samples, edited, strict=True)]
        shown = dataset.with_samples(tuple(samples[i] for i in chosen))
        sheet = to_comfy([contact_sheet(shown, columns=columns, max_images=max_images)])
        head = [f"filter {filter.strip()}: {len(chosen)} of {len(samples)} images"] if filter.strip() else []
        text = "\n".join(part for part in (*head, report(counts), *told, *_trigger_warnings(parsed, known)) if part)
        preview = {**ui.PreviewImage(sheet, cls=cls).as_dict(), "athanor_listing": (listing,)}
        return io.NodeOutput(dataset.with_samples(tuple(samples)), sheet, text, ui=preview)


def _chosen(samples: tuple[Sample, ...], text: str) -> list[int]:
    test = parse_filter(text, count_tokens)
    if test is None:
        return list(range(len(samples)))
    captions = [(sample.tags, sample.caption or "") for sample in samples]
    items = filter_items([sample.path for sample in samples], captions, [scores_by_key(sample) for sample in samples])
    return [i for i, item in enumerate(items) if test(item)]


def _without_triggers(tags: tuple[str, ...], triggers: frozenset[str]) -> tuple[str, ...]:
    """Regularization images show the class without what the trigger stands for."""
    return tuple(tag for tag in tags if match_key(tag) not in triggers)


def _with_tags(sample: Sample, tags: tuple[str, ...]) -> Sample:
    is_same = tags == sample.tags or (sample.caption is None and not tags)
    return sample if is_same else replace(sample, caption=", ".join(tags))


def _trigger_warnings(rules: tuple[Rule, ...], lexicon: Lexicon | None) -> list[str]:
    if lexicon is None:
        return []
    triggers = [tag for rule in rules if isinstance(rule.edit, Trigger) for tag in rule.edit.tags]
    return [warning for tag in triggers if (warning := lexicon.warning(tag))]
