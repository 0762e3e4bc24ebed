"""Embeddings: new rows of each token table; every other row is frozen by construction."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import TrainJob
from ..errors import AthanorError
from ..families.base import TEXT_PARTS, Family, TextStack
from ..formats.embedding import fitting_vectors, read_vectors, vectors_for
from ..seeds import generator
from ..types import BaseModel
from .templates import prompt_of
from .trainee import Group, Trainee
from .words import Word, any_word, learning_parts, words_of

if TYPE_CHECKING:
    import torch
    from torch import nn

Vectors = dict[str, "torch.Tensor"]
"""By encoder, under the family's key, [num_vectors, D]."""
_USUAL_NORMS = (0.05, 0.95)
"""Between which quantiles of the norms of real tokens those of trained vectors are kept."""


@dataclass(frozen=True)
class NewWords:
    """Embeddings with their places in the text encoders' tables. An encoder may have another number of vectors than the others."""

    words: tuple[Word, ...]
    rows: Mapping[str, Vectors]
    """By name, in the units below, in every encoder."""
    learning: tuple[str, ...]
    """The encoders whose rows are parameters; those of the others stay."""
    counts: dict[str, dict[str, int]]
    """By encoder and name how many of the rows are read; `put` changes them."""
    units: Mapping[str, float]
    """By how much an encoder's parameters are multiplied to become vectors."""
    norms: Mapping[str, tuple[float, float]]
    """By encoder, between which lengths most real tokens' vectors are."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(word.name for word in self.words)

    @property
    def trained(self) -> dict[str, Vectors]:
        """The parameters by name."""
        return {name: {key: rows[key] for key in self.learning} for name, rows in self.rows.items()}

    def prompt(self, text: str) -> str:
        """With each name as a mark, which every encoder's tokenizer spells as its own tokens."""
        marks = {name.casefold(): _mark(name) for name in self.names}
        return any_word(self.names).sub(lambda found: marks[found[1].casefold()], text)

    def vectors(self, name: str) -> Vectors:
        """As a file holds them: fp32, on the CPU."""
        return {
            key: (rows[: self.counts[key][name]].detach().float() * self.units[key]).cpu().clone().contiguous()
            for key, rows in self.rows[name].items()
        }

    def put(self, name: str, path: Path) -> None:
        """The vectors of a file into the place of what was trained so far; they may be fewer. Raises AthanorError if they have another form."""
        import torch

        rows = self.rows[name]
        held = vectors_for({key: each.shape[1] for key, each in rows.items()}, read_vectors(path), path.name)
        wrong = [key for key in rows if len(held[key]) > len(rows[key])]
        if wrong:
            key = wrong[0]
            raise AthanorError(f"{path.name} holds {len(held[key])} vectors {key} instead of {len(rows[key])}; it is another embedding.")
        with torch.no_grad():
            for key, each in rows.items():
                self.counts[key][name] = len(held[key])
                each[: len(held[key])] = (held[key] / self.units[key]).to(each)

    def keep_norms(self) -> None:
        """Vectors that became longer or shorter than nearly all real tokens' are brought back, their direction kept."""
        import torch

        with torch.no_grad():
            for vectors in self.trained.values():
                for key, parameter in vectors.items():
                    low, high = (norm / self.units[key] for norm in self.norms[key])
                    lengths = parameter.norm(dim=1, keepdim=True).clamp(min=1e-12)
                    parameter.mul_(lengths.clamp(low, high) / lengths)

    def group(self, rate: float, until: float = 1.0, weight_decay: float | None = None) -> Group:
        """The first embedding's parameters under the encoders' keys, the others' with their name in front."""
        parameters = {
            (key if index == 0 else f"{name}/{key}"): parameter
            for index, name in enumerate(self.names)
            for key, parameter in self.trained[name].items()
        }
        return Group("embedding", rate, parameters, len(parameters), until, weight_decay)


def new_words(words: Sequence[Word], family: Family, base: BaseModel, text: TextStack, seed: int, encoders: str = "all") -> NewWords:
    """Extends the tokenizers and the token tables of `text`.

    An encoder that `encoders` leaves out reads the initial words' own vectors, each once, or those of the file to go on from.
    T5's vectors are hundreds of times as long as CLIP's, so that a rate that suits CLIP would hardly move them: they are
    trained in units of how much wider T5's table is spread. Raises AthanorError for a file to go on from of another family.
    """
    from tokenizers import AddedToken

    t5, tables = family.t5_part(base), family.token_tables(text)
    parts = learning_parts(encoders, family, base)
    learning = tuple(key for index, (key, _, _) in enumerate(tables) if TEXT_PARTS[index] in parts)
    widths = {key: getattr(holder, attribute).weight.shape[1] for key, holder, attribute in tables}
    given = {word.name: _given(word, widths, learning) for word in words if word.start_file}
    rows: dict[str, Vectors] = {word.name: {} for word in words}
    counts: dict[str, dict[str, int]] = {}
    units, norms, spread, tokenizers = {}, {}, 0.0, list(text.tokenizers)
    for index, (key, holder, attribute) in enumerate(tables):
        table, tokenizer, is_t5 = getattr(holder, attribute), text.tokenizers[index], TEXT_PARTS[index] == t5
        spread = spread or float(table.weight.float().std())
        units[key] = float(table.weight.float().std()) / spread if is_t5 and key in learning else 1.0
        norms[key] = _usual_norms(table.weight)
        first = len(tokenizer)
        starts = [
            given[word.name][key].to(table.weight.device)
            if key in given.get(word.name, {})
            else _initial_vectors(table.weight, tokenizer, word, seed, i)
            if key in learning
            else _vectors_of(table.weight, tokenizer, word.initial_words)
            for i, word in enumerate(words)
        ]
        extended = _extended_table(table, starts, first, units[key], key in learning)
        setattr(holder, attribute, extended)
        placeholders = [token for word, start in zip(words, starts, strict=True) for token in _placeholders(word.name, len(start))]
        # Blanks before them are theirs: by themselves, older transformers makes a token of such a blank for T5, which ComfyUI's text node does not.
        tokenizer.add_tokens([AddedToken(token, lstrip=True) for token in placeholders])
        # T5's table has some rows more than its tokenizer has tokens.
        fits = first <= table.weight.shape[0] if is_t5 else first == table.weight.shape[0]
        if tokenizer.convert_tokens_to_ids(placeholders) != list(range(first, first + len(placeholders))) or not fits:
            raise AthanorError(f"The tokenizer knows {first} tokens and the text encoder {table.weight.shape[0]}: they do not belong together.")
        counts[key] = {word.name: len(start) for word, start in zip(words, starts, strict=True)}
        tokenizers[index] = _Spelling(tokenizer, counts[key])
        for word, parameter in zip(words, extended.vectors, strict=True):
            rows[word.name][key] = parameter
    text.tokenizers = tuple(tokenizers)
    return NewWords(tuple(words), rows, learning, counts, units, norms)


class _Spelling:
    """A tokenizer that spells the mark of each embedding as that many tokens of its own; all else is the given one's."""

    def __init__(self, tokenizer: Any, counts: Mapping[str, int]):
        self._tokenizer, self._counts = tokenizer, counts

    def __call__(self, text: str, **options: Any) -> Any:
        for name, count in self._counts.items():
            spelt = " ".join(_placeholders(name, count))
            # With nothing in its place the blank before it goes too: at a text's end older transformers makes a token of it for T5.
            text = text.replace(_mark(name), spelt) if count else re.sub(rf"\s*{re.escape(_mark(name))}", "", text)
        return self._tokenizer(text, **options)

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return getattr(self._tokenizer, attribute)


def _given(word: Word, widths: Mapping[str, int], learning: Sequence[str]) -> Vectors:
    """Of the file to go on from. Raises AthanorError where an encoder that learns is not in it."""
    path = Path(word.start_file)
    held = read_vectors(path)
    vectors_for({key: widths[key] for key in learning}, held, path.name)
    return fitting_vectors(widths, held)


def embedding_trainee(job: TrainJob, family: Family, text: TextStack) -> Trainee:
    """New rows of each token table, for each of the job's embeddings; everything else is frozen."""
    new = new_words(words_of("embedding", job.embedding), family, job.base, text, job.train.seed, job.embedding.encoders)
    first = new.names[0]
    return Trainee(
        (new.group(job.train.text_encoder_rate),),
        lambda: new.vectors(first),
        caption=lambda caption, draw: new.prompt(prompt_of(job.embedding, new.names, caption, draw)),
        prompt=new.prompt,
        take=lambda path: new.put(first, path),
        words=lambda: {name: new.vectors(name) for name in new.names[1:]},
        take_words=_taking(new),
        **_limits(job, new),
    )


def with_words(trainee: Trainee, new: NewWords, job: TrainJob) -> Trainee:
    """A LoRA's trainee that learns embeddings along (pivotal tuning)."""
    group = new.group(job.embedding.embedding_rate, job.embedding.embedding_percent / 100, weight_decay=0.0)
    lora_step, limits = trainee.after_step, _limits(job, new)

    def after_step() -> None:
        lora_step()
        if "after_step" in limits:
            limits["after_step"]()

    return dataclasses.replace(
        trainee,
        groups=(*trainee.groups, group),
        caption=lambda caption, draw: new.prompt(caption),
        prompt=new.prompt,
        after_step=after_step,
        words=lambda: {name: new.vectors(name) for name in new.names},
        take_words=_taking(new),
    )


def _taking(new: NewWords) -> Callable[[Mapping[str, Path]], None]:
    def take(files: Mapping[str, Path]) -> None:
        for name, path in files.items():
            new.put(name, path)

    return take


def _limits(job: TrainJob, new: NewWords) -> dict[str, Callable[[], None]]:
    return {"after_step": new.keep_norms} if job.embedding.keep_norm else {}


def _placeholders(name: str, num_vectors: int) -> list[str]:
    return [f"<{name}_{i}>" for i in range(num_vectors)]


def _mark(name: str) -> str:
    return f"<{name}_*>"


def _usual_norms(table: torch.Tensor) -> tuple[float, float]:
    import torch

    lengths = table.detach().float().norm(dim=1)
    # Rows of nothing, as T5's table has some at its end, are no tokens.
    lengths = lengths[lengths > 0]
    low, high = torch.quantile(lengths, torch.tensor(_USUAL_NORMS, device=lengths.device)).tolist()
    return low, high


def _initial_vectors(table: torch.Tensor, tokenizer, word: Word, seed: int, index: int) -> torch.Tensor:
    """[num_vectors, D] in fp32: the initial words' own vectors in turn, or random ones as long as the table's."""
    import torch

    known = _vectors_of(table, tokenizer, word.initial_words)
    if len(known):
        return torch.stack([known[i % len(known)] for i in range(word.num_vectors)])
    purpose = "embedding" if index == 0 else f"embedding {word.name}"
    drawn = torch.randn((word.num_vectors, table.shape[1]), generator=generator(seed, "init", purpose))
    return drawn.to(table.device) * table.detach().float().std()


def _vectors_of(table: torch.Tensor, tokenizer, words: str) -> torch.Tensor:
    """[number of tokens, D] in fp32: what the table has for the words; of no words no vector."""
    ids = tokenizer(words, add_special_tokens=False)["input_ids"] if words.strip() else []
    return table.detach()[ids].float()


def _extended_table(table: nn.Embedding, starts: Sequence[torch.Tensor], first: int, unit: float, learns: bool) -> nn.Module:
    """The frozen table with rows behind it, trained where it `learns`, of which `unit` times is read: ids from `first` on are theirs, one embedding after the other."""
    import torch
    from torch import nn

    class ExtendedTable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = table.requires_grad_(False)
            self.vectors = nn.ParameterList([nn.Parameter(start / unit, requires_grad=learns) for start in starts])

        @property
        def weight(self) -> torch.Tensor:
            return self.table.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            known = self.table(ids.clamp(max=first - 1))
            rows = torch.cat(list(self.vectors))
            if not len(rows):
                return known
            new = (rows[(ids - first).clamp(min=0)] * unit).to(known.dtype)
            return torch.where((ids >= first).unsqueeze(-1), new, known)

    return ExtendedTable()
