"""Embeddings: new rows of each token table; every other row is frozen by construction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .config import TrainJob
from .errors import AthanorError
from .families.base import Family, TextStack
from .seeds import generator
from .settings import EmbeddingSettings
from .trainee import Group, Trainee

if TYPE_CHECKING:
    import torch
    from torch import nn


def embedding_trainee(job: TrainJob, family: Family, text: TextStack) -> Trainee:
    """New rows of each token table; every other row is frozen by construction."""
    settings, trained, keys = job.embedding, {}, []
    placeholders = tuple(f"<{settings.token}_{i}>" for i in range(settings.num_vectors))
    for index, (key, holder, attribute) in enumerate(family.token_tables(text)):
        table, tokenizer = getattr(holder, attribute), text.tokenizers[index]
        vectors = _initial_vectors(table.weight, tokenizer, settings, job.train.seed)
        extended = _extended_table(table, vectors)
        setattr(holder, attribute, extended)
        first = len(tokenizer)
        tokenizer.add_tokens(list(placeholders))
        if tokenizer.convert_tokens_to_ids(placeholders[0]) != first or first != table.weight.shape[0]:
            raise AthanorError(f"The tokenizer knows {first} tokens and the text encoder {table.weight.shape[0]}: they do not belong together.")
        trained[key] = extended.vectors
        keys.append(key)
    group = Group("embedding", job.train.text_encoder_rate, trained, len(trained))

    def export() -> dict[str, torch.Tensor]:
        return {key: trained[key].detach().float().cpu().clone().contiguous() for key in keys}

    return Trainee(
        (group,),
        export,
        caption=lambda caption, draw: embedding_prompt(settings, placeholders, caption, draw),
        prompt=lambda prompt: whole_word(settings.token).sub(" ".join(placeholders), prompt),
    )


def _initial_vectors(table: torch.Tensor, tokenizer, settings: EmbeddingSettings, seed: int) -> torch.Tensor:
    """[num_vectors, D] in fp32: the initial words' own vectors in turn, or random ones as long as the table's."""
    import torch

    ids = tokenizer(settings.initial_words, add_special_tokens=False)["input_ids"] if settings.initial_words.strip() else []
    if ids:
        return torch.stack([table[ids[i % len(ids)]].detach().float() for i in range(settings.num_vectors)])
    drawn = torch.randn((settings.num_vectors, table.shape[1]), generator=generator(seed, "init", "embedding"))
    return drawn.to(table.device) * table.detach().float().std()


def _extended_table(table: nn.Embedding, vectors: torch.Tensor) -> nn.Module:
    """The frozen table followed by trained rows: ids from its length on read those."""
    import torch
    from torch import nn

    class ExtendedTable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = table.requires_grad_(False)
            self.vectors = nn.Parameter(vectors.clone())

        @property
        def weight(self) -> torch.Tensor:
            return self.table.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            num_rows = self.table.weight.shape[0]
            known = self.table(ids.clamp(max=num_rows - 1))
            new = self.vectors[(ids - num_rows).clamp(min=0)].to(known.dtype)
            return torch.where((ids >= num_rows).unsqueeze(-1), new, known)

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
