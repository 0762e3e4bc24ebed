"""What an image is trained with when embeddings are learned: its caption, a sentence around the name, or both. No torch.

A template is a text file with a sentence a line, in A1111's form: [name] stands for the embedding and [filewords] for the
image's caption. The sentences of `templates/` are those of the textual inversion paper's code (Gal et al. 2022) without an
adjective of quality.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import AthanorError
from ..settings import EmbeddingSettings
from .words import named_in, without_words

NAME, CAPTION = "[name]", "[filewords]"
OWN = "own sentences"
_FOLDER = Path(__file__).with_name("templates")
_FILES = {"subject": "subject", "style": "style", "subject + captions": "subject_filewords", "style + captions": "style_filewords"}
_MAX_BYTES = 1_000_000


def lines_of_template(path: Path) -> tuple[str, ...]:
    """The sentences of a template file. Raises AthanorError if it is none."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise AthanorError(f"{path.name} is no template: it has more than {_MAX_BYTES} bytes. Choose a text file with a sentence a line.")
        lines = sentences_in(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise AthanorError(f"The template {path.name} cannot be read as text: {error}.") from None
    if not lines:
        raise AthanorError(f"The template {path.name} holds no sentence; write one a line, for example: a photo of {NAME}")
    return lines


def sentences_in(text: str) -> tuple[str, ...]:
    return tuple(line for raw in text.splitlines() if (line := raw.strip()) and not line.startswith("#"))


@functools.cache
def _built_in(templates: str) -> tuple[str, ...]:
    return lines_of_template(_FOLDER / f"{_FILES[templates]}.txt")


def sentences_of(settings: EmbeddingSettings) -> tuple[str, ...]:
    """The sentences to draw from; none where the captions alone are trained."""
    if settings.templates == "captions":
        return ()
    return sentences_in(settings.sentences) if settings.templates == OWN else _built_in(settings.templates)


def reads_captions(settings: EmbeddingSettings) -> bool:
    """Whether anything of a caption but the names in it is seen."""
    return settings.templates == "captions" or any(CAPTION in sentence for sentence in sentences_of(settings))


def prompt_of(settings: EmbeddingSettings, names: Sequence[str], caption: str, draw: int) -> str:
    """The training prompt of an image, with the embeddings' names in it.

    Of several embeddings those that the caption names count. A single one is put in front of a caption that lacks it.
    """
    found = named_in(caption, names)
    sentences = sentences_of(settings)
    if not sentences:
        return caption if found or len(names) > 1 else _joined(names[0], caption)
    name = ", ".join(found or names[:1])
    return _filled(sentences[draw % len(sentences)], name, without_words(caption, found))


def _filled(sentence: str, name: str, caption: str) -> str:
    values = {NAME: name, CAPTION: caption}
    text = re.sub(r"\[name\]|\[filewords\]", lambda found: values[found[0]], sentence)
    # Where there is no caption its comma would stand alone.
    return text if caption else re.sub(r"^[,\s]+|(?:,\s*)+(?=,|$)", "", text).strip()


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def template_problems(settings: EmbeddingSettings) -> list[str]:
    """A sentence for each thing about the sentences that is wrong or does nothing."""
    if settings.templates != OWN:
        if not settings.sentences.strip():
            return []
        return [f"Embedding: sentences does nothing with the templates {settings.templates}; choose {OWN}, or take the sentences out."]
    sentences = sentences_in(settings.sentences)
    if not sentences:
        return [f"Embedding: the templates are {OWN}, but no sentence is written; write one a line, for example: a photo of {NAME}, {CAPTION}"]
    nameless = [sentence for sentence in sentences if NAME not in sentence]
    return [
        f"Embedding: the sentence {each!r} has no {NAME}, so that it would teach nothing; write {NAME} where the embedding stands."
        for each in nameless[:1]
    ]
