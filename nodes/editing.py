"""Edit Tags: captions changed by rules."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from comfy_api.latest import io, ui

from ..tagger.edits import Trigger
from ..tagger.errors import TaggerError
from ..tagger.filter import filter_items, parse_filter
from ..tagger.lexicon import Lexicon, read_lexicon
from ..tagger.rules import Rule, apply_rules, parse_rules, report
from ..tagger.tokens import CountTokens, clip_counter
from ..trainer.dataset import contact_sheet
from ..trainer.types import Dataset, Sample
from . import host
from .images import to_comfy
from .scores import scores_by_key
from .types import DatasetWire

_NO_LEXICON = "none"
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
                    options=[_NO_LEXICON, *host.lexicon_files()],
                    default=_NO_LEXICON,
                    optional=True,
                    tooltip="A list of known tags from models/tag_lexicons, such as danbooru.csv: for `alias`, for names in `prune`, and to check the trigger.",
                ),
            ],
            outputs=[
                DatasetWire.Output("dataset", display_name="dataset"),
                io.Image.Output("contact_sheet", display_name="contact_sheet"),
                io.String.Output("report", display_name="report"),
            ],
        )

    @classmethod
    def validate_inputs(cls, rules: str = "", filter: str = "", lexicon: str = _NO_LEXICON) -> bool | str:
        try:
            parse_rules(rules or "", _lexicon(lexicon or _NO_LEXICON), _count_tokens)
            parse_filter(filter or "", _count_tokens)
        except TaggerError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, lexicon: str = _NO_LEXICON, **_: object) -> str:
        file = host.lexicon_files().get(lexicon)
        return f"{file.stat().st_mtime_ns} {file.stat().st_size}" if file else ""

    @classmethod
    def execute(cls, dataset: Dataset, rules: str, columns: int, max_images: int, filter: str = "", lexicon: str = _NO_LEXICON) -> io.NodeOutput:
        known = _lexicon(lexicon)
        parsed = parse_rules(rules, known, _count_tokens)
        chosen = _chosen(dataset.samples, filter)
        captions, counts = apply_rules(parsed, [dataset.samples[i].tags for i in chosen], [scores_by_key(dataset.samples[i]) for i in chosen])
        samples = list(dataset.samples)
        for i, tags in zip(chosen, captions, strict=True):
            samples[i] = _with_tags(samples[i], tags)
        shown = dataset.with_samples(tuple(samples[i] for i in chosen))
        sheet = to_comfy([contact_sheet(shown, columns=columns, max_images=max_images)])
        head = [f"filter {filter.strip()}: {len(chosen)} of {len(samples)} images"] if filter.strip() else []
        text = "\n".join(part for part in (*head, report(counts), *_trigger_warnings(parsed, known)) if part)
        return io.NodeOutput(dataset.with_samples(tuple(samples)), sheet, text, ui=ui.PreviewImage(sheet, cls=cls))


def _chosen(samples: tuple[Sample, ...], text: str) -> list[int]:
    test = parse_filter(text, _count_tokens)
    if test is None:
        return list(range(len(samples)))
    captions = [(sample.tags, sample.caption or "") for sample in samples]
    items = filter_items([sample.path for sample in samples], captions, [scores_by_key(sample) for sample in samples])
    return [i for i, item in enumerate(items) if test(item)]


def _with_tags(sample: Sample, tags: tuple[str, ...]) -> Sample:
    is_same = tags == sample.tags or (sample.caption is None and not tags)
    return sample if is_same else replace(sample, caption=", ".join(tags))


def _trigger_warnings(rules: tuple[Rule, ...], lexicon: Lexicon | None) -> list[str]:
    if lexicon is None:
        return []
    triggers = [tag for rule in rules if isinstance(rule.edit, Trigger) for tag in rule.edit.tags]
    return [warning for tag in triggers if (warning := lexicon.warning(tag))]


def _lexicon(name: str) -> Lexicon | None:
    """The lexicon of that name in models/tag_lexicons. Raises TaggerError if it is not there or cannot be read."""
    if name == _NO_LEXICON:
        return None
    files = host.lexicon_files()
    if name not in files:
        known = ", ".join(files) or "none yet"
        raise TaggerError(f"There is no lexicon {name!r} in models/tag_lexicons; choose one of: {known}.")
    state = files[name].stat()
    return _read(files[name], state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read(file: Path, mtime_ns: int, size_bytes: int) -> Lexicon:  # time and size: a changed file is read again
    return read_lexicon(file)


def _count_tokens(text: str) -> int:
    return _counter()(text)


@lru_cache(maxsize=1)
def _counter() -> CountTokens:
    return clip_counter(host.clip_tokenizer_folder())
