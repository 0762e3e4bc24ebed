"""The words that embeddings are called by: which ones a training makes, and where they stand in a text. No torch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..files import file_sha256
from ..settings import EmbeddingSettings
from ..types import BaseModel

if TYPE_CHECKING:
    from ..families.base import Family, Part

_USUAL_VECTORS = 4


@dataclass(frozen=True)
class Word:
    """An embedding before it is trained."""

    name: str
    num_vectors: int = _USUAL_VECTORS
    initial_words: str = ""
    start_file: str = ""
    """An embedding to go on from; its vectors count instead of the two above."""


def words_of(kind: str, settings: EmbeddingSettings) -> tuple[Word, ...]:
    """All embeddings of a training of that kind ("lora" or "embedding"), the main one first; none where a LoRA is trained alone.

    Raises AthanorError for a line that is not understood.
    """
    others = read_words(settings.other_embeddings) if kind in ("lora", "embedding") else ()
    if kind != "embedding":
        return others
    return (Word(settings.token, settings.num_vectors, settings.initial_words, settings.start_embedding), *others)


def read_words(text: str) -> tuple[Word, ...]:
    """From lines such as `my-dog: vectors=2; words=brown dog; file=my-dog.safetensors`. Raises AthanorError naming the line."""
    return tuple(_read_word(line) for raw in text.splitlines() if (line := raw.strip()) and not line.startswith("#"))


def _read_word(line: str) -> Word:
    name, _, rest = line.partition(":")
    word = Word(name.strip())
    for part in (piece.strip() for piece in rest.split(";")):
        key, separator, value = (piece.strip() for piece in part.partition("="))
        if not part:
            continue
        if key == "vectors" and re.fullmatch(r"\d{1,4}", value):
            word = dataclasses.replace(word, num_vectors=int(value))
        elif key == "words" and separator:
            word = dataclasses.replace(word, initial_words=value)
        elif key == "file" and value:
            word = dataclasses.replace(word, start_file=value)
        else:
            raise AthanorError(
                f"Embedding: {part!r} in the line {line!r} is not understood; write a line as my-dog: vectors=2; words=brown dog; file=my-dog.safetensors"
            )
    return word


def write_words(words: Sequence[Word]) -> str:
    """What `read_words` reads."""
    return "\n".join(
        f"{word.name}: "
        + "; ".join([f"vectors={word.num_vectors}", *([f"words={word.initial_words}"] * bool(word.initial_words)), *([f"file={word.start_file}"] * bool(word.start_file))])
        for word in words
    )  # fmt: skip


def learning_parts(encoders: str, family: Family, base: BaseModel) -> tuple[Part, ...]:
    """The text encoders that get vectors by the setting of that name; none where the base has not what it names."""
    clips, t5 = family.text_parts, family.t5_part(base)
    chosen: dict[str, tuple[Part | None, ...]] = {"all": (*clips, t5), "clip": clips, "clip_l": clips[:1], "clip_g": clips[1:], "t5": (t5,)}
    return tuple(part for part in chosen[encoders] if part is not None)


def with_files(settings: EmbeddingSettings, located: Callable[[str], str]) -> EmbeddingSettings:
    """The settings with the files to go on from as `located` names them, and their content's hashes in them."""
    others = tuple(
        dataclasses.replace(word, start_file=located(word.start_file)) if word.start_file else word for word in read_words(settings.other_embeddings)
    )
    if any(word.start_file for word in others):
        settings = dataclasses.replace(settings, other_embeddings=write_words(others))
    if settings.start_embedding:
        settings = dataclasses.replace(settings, start_embedding=located(settings.start_embedding))
    files = [Path(file) for file in (settings.start_embedding, *(word.start_file for word in others)) if file]
    return dataclasses.replace(settings, embedding_sha256=" ".join(file_sha256(file) for file in files if file.is_file()))


def whole_word(name: str) -> re.Pattern[str]:
    """Finds the name of an embedding in a prompt, with or without `embedding:` before it."""
    return any_word((name,))


def any_word(names: Sequence[str]) -> re.Pattern[str]:
    """Finds any of the names; of two that begin alike the longer one."""
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:embedding:)?({either})(?![\w-])", re.IGNORECASE)


def named_in(text: str, names: Sequence[str]) -> list[str]:
    """Those of `names` that stand in the text, in their own order."""
    if not names:
        return []
    found = {match[1].casefold() for match in any_word(names).finditer(text)}
    return [name for name in names if name.casefold() in found]


def without_word(prompt: str, name: str) -> str:
    """A prompt without the embedding's name, for pictures of the base alone."""
    parts = [whole_word(name).sub("", part).strip() for part in prompt.split(",")]
    return ", ".join(" ".join(part.split()) for part in parts if part)


def without_words(prompt: str, names: Sequence[str]) -> str:
    for name in names:
        prompt = without_word(prompt, name)
    return prompt
