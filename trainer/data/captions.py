"""What an image is trained with each time: its caption as the settings change it. Order and meaning are those of sd-scripts.

No torch: a caption and a draw give a prompt.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..config import TrainJob
from ..optimizing.steps import steps_of
from ..prior.class_words import with_class_word
from ..seeds import stable_seed
from ..settings import CaptionSettings
from ..types import Sample
from .batches import batches_per_epoch
from .remembered_t5 import remembers_t5

_MAX_VARIANTS, _MIN_VARIANTS, _NUM_ENCODINGS = 32, 4, 1024
_WILDCARD = re.compile(r"\{([^}]+)\}")


def varied_caption(caption: str, settings: CaptionSettings, draw: random.Random, progress: float = 1.0) -> str:
    """`caption` as it is trained this time; `progress` is the share of the tag warm-up that is over, from 0 to 1.

    In turn: prefix and suffix; one of the lines and of each {a|b}; the tags that are kept, and of the others first as many as
    the warm-up allows, then shuffled, then some left out; joined by ", "; the secondary separator becomes the separator.
    """
    whole = " ".join(part for part in (settings.prefix, caption, settings.suffix) if part)
    text = _resolved(whole, settings.wildcards, draw.choice)
    has_separator = bool(settings.keep_tokens_separator) and settings.keep_tokens_separator in text
    if settings.is_flexible or has_separator:
        first, others, last = _split(text, settings, has_separator)
        if settings.tag_warmup > 0 and progress < 1:
            others = others[: math.floor(progress * (len(others) - settings.tag_warmup_start)) + settings.tag_warmup_start]
        if settings.shuffle:
            draw.shuffle(others)
        if settings.tag_dropout > 0:
            others = [tag for tag in others if draw.random() >= settings.tag_dropout]
        text = ", ".join((*first, *others, *last))
    return text.replace(settings.secondary_separator, settings.separator) if settings.secondary_separator else text


def longest_captions(caption: str, settings: CaptionSettings) -> list[str]:
    """For each line of `caption` the one with the longest choices: what no variant is longer than."""
    whole = " ".join(part for part in (settings.prefix, caption, settings.suffix) if part)
    lines = whole.split("\n") if settings.wildcards else [whole.split("\n")[0]]
    return [_resolved(line, settings.wildcards, lambda choices: max(choices, key=len)) for line in lines]


def _resolved(text: str, has_wildcards: bool, choose) -> str:
    if not has_wildcards:
        return text.split("\n")[0]
    if "\n" in text:
        text = choose(text.split("\n"))
    opening, closing = "⦅", "⦆"
    while opening in text or closing in text:
        opening, closing = opening + "⦅", closing + "⦆"
    text = text.replace("{{", opening).replace("}}", closing)
    text = _WILDCARD.sub(lambda match: choose(match[1].split("|")), text)
    return text.replace(opening, "{").replace(closing, "}")


def _split(text: str, settings: CaptionSettings, has_separator: bool) -> tuple[list[str], list[str], list[str]]:
    """The tags that stay at the start, those that may move, and those that stay at the end."""

    def tags(part: str) -> list[str]:
        return [tag for piece in part.split(settings.separator) if (tag := piece.strip())]

    if has_separator:
        first, _, rest = text.partition(settings.keep_tokens_separator)
        others, _, last = rest.partition(settings.keep_tokens_separator)
        return tags(first), tags(others), tags(last)
    everything = tags(text)
    return everything[: settings.keep_tokens], everything[settings.keep_tokens :], []


@dataclass(frozen=True)
class Captioner:
    """Chooses the prompt of each image in each batch, by counter. With `num_variants` only such as `every_prompt` names."""

    settings: CaptionSettings
    trigger: str
    seed: int
    total_batches: int
    batches_per_step: int = 1
    num_variants: int | None = None
    """None where the text encoders are at hand and every variant is new."""
    class_word: str = ""
    """What takes the trigger's place in `class_prompt`; empty where nobody asks for it."""

    def prompt(self, sample: Sample, epoch: int, batch: int, row: int) -> str:
        """Of `sample` in that row of that batch of the run, in that epoch (the first is 1)."""
        settings = self._of(sample)
        if self._is_dropped(settings, epoch, batch, row):
            return ""
        caption, progress = self._caption(sample), self._warmup_progress(settings, batch)
        if self.num_variants is None:
            draw = random.Random(stable_seed(self.seed, "caption", batch, row))
            return varied_caption(caption, settings, draw, progress)
        if progress < 1:
            return self._variant(caption, settings, "warm-up", math.floor(progress * self.num_variants))
        return self._variant(caption, settings, "variant", stable_seed(self.seed, "caption", batch, row) % self.num_variants)

    def class_prompt(self, sample: Sample, prompt: str) -> str | None:
        """`prompt` of a training image with the class word instead of the trigger; None where there is no trigger in it to replace.

        None for regularization images too, and for a dropped caption: what is trained with it cannot be held to the base.
        """
        if not self.class_word or sample.role == "regularization":
            return None
        changed = with_class_word(prompt, self.trigger, self.class_word)
        return changed if changed != prompt else None

    def plain(self, sample: Sample) -> str:
        """For measuring: nothing is moved or left out, and of {a|b} the first one counts."""
        settings = self._of(sample)
        still = CaptionSettings(
            wildcards=settings.wildcards,
            prefix=settings.prefix,
            suffix=settings.suffix,
            keep_tokens_separator=settings.keep_tokens_separator,
            secondary_separator=settings.secondary_separator,
            separator=settings.separator,
        )
        return varied_caption(self._caption(sample), still, _First())

    def every_prompt(self, samples: Sequence[Sample]) -> list[str]:
        """All that `prompt` can give for `samples`, where it chooses among variants."""
        assert self.num_variants is not None
        prompts: dict[str, None] = {}
        for sample in samples:
            settings, caption = self._of(sample), self._caption(sample)
            numbers = range(self.num_variants) if settings.is_random else (0,)
            kinds = ("variant", "warm-up") if settings.tag_warmup > 0 else ("variant",)
            varied = [self._variant(caption, settings, kind, number) for kind in kinds for number in numbers]
            of_class = [changed for each in varied if (changed := self.class_prompt(sample, each)) is not None]
            prompts |= dict.fromkeys((*varied, *of_class))
            if settings.dropout > 0 or settings.dropout_every_epochs > 0:
                prompts[""] = None
        return list(prompts)

    def longest(self, samples: Sequence[Sample]) -> list[str]:
        """Captions that no prompt of `samples` is longer than."""
        found: dict[str, None] = {}
        for sample in samples:
            longest = longest_captions(self._caption(sample), self._of(sample))
            of_class = [changed for each in longest if (changed := self.class_prompt(sample, each)) is not None]
            found |= dict.fromkeys((*longest, *of_class))
        return list(found)

    def _of(self, sample: Sample) -> CaptionSettings:
        return sample.captioning.applied_to(self.settings) if sample.captioning else self.settings

    def _caption(self, sample: Sample) -> str:
        # Regularization images show the class without what the trigger stands for.
        return sample.prompt("" if sample.role == "regularization" else self.trigger)

    def _is_dropped(self, settings: CaptionSettings, epoch: int, batch: int, row: int) -> bool:
        if settings.dropout_every_epochs > 0 and epoch % settings.dropout_every_epochs == 0:
            return True
        return settings.dropout > 0 and random.Random(stable_seed(self.seed, "caption dropout", batch, row)).random() < settings.dropout

    def _warmup_progress(self, settings: CaptionSettings, batch: int) -> float:
        if settings.tag_warmup <= 0:
            return 1.0
        num_batches = (
            settings.tag_warmup * self.batches_per_step if settings.tag_warmup >= 1 else math.floor(settings.tag_warmup * self.total_batches)
        )
        return min(1.0, batch / num_batches) if num_batches else 1.0

    def _variant(self, caption: str, settings: CaptionSettings, kind: str, number: int) -> str:
        """Settled by the caption alone, so that runs share what is encoded."""
        if not settings.is_random:
            number = 0
        progress = number / self.num_variants if kind == "warm-up" and self.num_variants else 1.0
        return varied_caption(caption, settings, random.Random(stable_seed(kind, caption, number)), progress)


def captioner_of(job: TrainJob) -> Captioner:
    """Of a job whose images have their buckets. Where a text encoder reads each caption once, variants are chosen among a few."""
    samples = job.dataset.trained
    epochs = steps_of(job).epochs
    num_batches = batches_per_epoch(samples, job.train.batch_size) * epochs
    num_variants = None
    if not job.trains_text or remembers_t5(job):
        num_variants = found_variants(job.captions, samples, epochs)
    class_word = job.prior.class_word if job.prior.hold_weight > 0 else ""
    return Captioner(job.captions, job.dataset.trigger, job.train.seed, num_batches, job.optimizer.accumulation, num_variants, class_word)


class _First(random.Random):
    """Always takes the first choice."""

    def choice(self, seq):
        return seq[0]


def found_variants(settings: CaptionSettings, samples: Sequence[Sample], epochs: int) -> int:
    """How many variants of a caption are worth encoding: the number set, or one for each time that an image is drawn.

    The latter are at least 4 and at most 32, and about 1024 for all captions together.
    """
    if settings.variants:
        return settings.variants
    num_captions = len({sample.caption for sample in samples}) or 1
    most_draws = max((sample.repeats for sample in samples), default=1) * epochs
    return min(most_draws, max(_MIN_VARIANTS, min(_MAX_VARIANTS, _NUM_ENCODINGS // num_captions)))
