"""Embeddings: new rows of each token table; every other row is frozen by construction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .config import TrainJob
from .errors import AthanorError
from .families.base import TEXT_PARTS, Family, TextStack
from .formats.files import load_tensors
from .seeds import generator
from .settings import EmbeddingSettings
from .trainee import Group, Trainee

if TYPE_CHECKING:
    import torch
    from torch import nn


def embedding_trainee(job: TrainJob, family: Family, text: TextStack) -> Trainee:
    """New rows of each token table; every other row is frozen by construction.

    T5's vectors are hundreds of times as long as CLIP's, so that a rate that suits CLIP would hardly move them: they are
    trained in units of how much wider T5's table is spread.
    """
    settings, trained, units, spread = job.embedding, {}, {}, 0.0
    t5 = family.t5_part(job.base)
    placeholders = tuple(f"<{settings.token}_{i}>" for i in range(settings.num_vectors))
    for index, (key, holder, attribute) in enumerate(family.token_tables(text)):
        table, tokenizer, is_t5 = getattr(holder, attribute), text.tokenizers[index], TEXT_PARTS[index] == t5
        vectors = _initial_vectors(table.weight, tokenizer, settings, job.train.seed)
        spread = spread or float(table.weight.float().std())
        units[key] = float(table.weight.float().std()) / spread if is_t5 else 1.0
        first = len(tokenizer)
        extended = _extended_table(table, vectors, first, units[key])
        setattr(holder, attribute, extended)
        tokenizer.add_tokens(list(placeholders))
        # T5's table has some rows more than its tokenizer has tokens.
        fits = first <= table.weight.shape[0] if is_t5 else first == table.weight.shape[0]
        if tokenizer.convert_tokens_to_ids(placeholders[0]) != first or not fits:
            raise AthanorError(f"The tokenizer knows {first} tokens and the text encoder {table.weight.shape[0]}: they do not belong together.")
        trained[key] = extended.vectors
    group = Group("embedding", job.train.text_encoder_rate, trained, len(trained))

    def export() -> dict[str, torch.Tensor]:
        return {key: (vectors.detach().float() * units[key]).cpu().clone().contiguous() for key, vectors in trained.items()}

    def take(path: Path) -> None:
        import torch

        tensors = load_tensors(path)
        wrong = [key for key in trained if key not in tensors or tensors[key].shape != trained[key].shape]
        if wrong:
            raise AthanorError(f"{path.name} holds no {wrong[0]} of {len(trained[wrong[0]])} vectors; it is another embedding.")
        with torch.no_grad():
            for key, vectors in trained.items():
                vectors.copy_(tensors[key] / units[key])

    return Trainee(
        (group,),
        export,
        caption=lambda caption, draw: embedding_prompt(settings, placeholders, caption, draw),
        prompt=lambda prompt: whole_word(settings.token).sub(" ".join(placeholders), prompt),
        units=units,
        take=take,
    )


def _initial_vectors(table: torch.Tensor, tokenizer, settings: EmbeddingSettings, seed: int) -> torch.Tensor:
    """[num_vectors, D] in fp32: the initial words' own vectors in turn, or random ones as long as the table's."""
    import torch

    ids = tokenizer(settings.initial_words, add_special_tokens=False)["input_ids"] if settings.initial_words.strip() else []
    if ids:
        return torch.stack([table[ids[i % len(ids)]].detach().float() for i in range(settings.num_vectors)])
    drawn = torch.randn((settings.num_vectors, table.shape[1]), generator=generator(seed, "init", "embedding"))
    return drawn.to(table.device) * table.detach().float().std()


def _extended_table(table: nn.Embedding, vectors: torch.Tensor, first: int, unit: float) -> nn.Module:
    """The frozen table with trained rows, of which `unit` times is read: ids from `first` on are theirs."""
    import torch
    from torch import nn

    class ExtendedTable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = table.requires_grad_(False)
            self.vectors = nn.Parameter(vectors / unit)

        @property
        def weight(self) -> torch.Tensor:
            return self.table.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            known = self.table(ids.clamp(max=first - 1))
            new = (self.vectors[(ids - first).clamp(min=0)] * unit).to(known.dtype)
            return torch.where((ids >= first).unsqueeze(-1), new, known)

    return ExtendedTable()


# The sentences of the textual inversion paper's code (Gal et al. 2022), those without an adjective of quality.
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "subject": (
        "a photo of a {}",
        "a rendering of a {}",
        "a cropped photo of the {}",
        "the photo of a {}",
        "a photo of the {}",
        "a close-up photo of a {}",
        "a depiction of a {}",
        "a photo of one {}",
    ),
    "style": (
        "a painting in the style of {}",
        "a rendering in the style of {}",
        "a cropped painting in the style of {}",
        "the painting in the style of {}",
        "a picture in the style of {}",
        "a close-up painting in the style of {}",
        "a depiction in the style of {}",
    ),
}


def embedding_prompt(settings: EmbeddingSettings, placeholders: Sequence[str], caption: str, draw: int) -> str:
    """The training prompt: the caption, or a template's sentence, with the embedding's name written as its placeholders."""
    if settings.templates == "captions":
        named = caption if whole_word(settings.token).search(caption) else ", ".join(part for part in (settings.token, caption) if part)
    else:
        sentences = _TEMPLATES[settings.templates]
        named = sentences[draw % len(sentences)].format(settings.token)
    return whole_word(settings.token).sub(" ".join(placeholders), named)


def without_word(prompt: str, token: str) -> str:
    """A prompt without the embedding's name, for pictures of the base alone."""
    parts = [whole_word(token).sub("", part).strip() for part in prompt.split(",")]
    return ", ".join(" ".join(part.split()) for part in parts if part)


def whole_word(token: str) -> re.Pattern[str]:
    """Finds the name of an embedding in a prompt, with or without `embedding:` before it."""
    return re.compile(rf"(?<![\w-])(?:embedding:)?{re.escape(token)}(?![\w-])", re.IGNORECASE)
