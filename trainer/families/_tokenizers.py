"""Tokenizers, found where they are: beside the model, in ComfyUI's own tree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AthanorError
from ..types import BaseModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenizerKind:
    title: str
    class_name: str
    """Of transformers."""
    folders: tuple[str, ...]
    """Of a diffusers folder."""
    comfyui_folders: tuple[str, ...]
    """In ComfyUI's `comfy` package."""
    files: tuple[tuple[str, ...], ...]
    """Sets of files, any of which is enough."""
    repository: str
    """On the Hugging Face hub; its copy in the hub's cache counts as well."""

    def complete(self, folder: Path) -> bool:
        return any(all((folder / name).is_file() for name in names) for names in self.files)


CLIP_TOKENIZER = TokenizerKind(
    "CLIP", "CLIPTokenizer", ("tokenizer",), ("sd1_tokenizer",), (("vocab.json", "merges.txt"),), "openai/clip-vit-large-patch14"
)
T5_TOKENIZER = TokenizerKind(
    "T5",
    "T5TokenizerFast",
    ("tokenizer_3", "tokenizer_2"),
    ("text_encoders/t5_tokenizer", "t5_tokenizer"),
    (("tokenizer.json",), ("spiece.model",)),
    "google/t5-v1_1-xxl",
)


def _places(base: BaseModel, kind: TokenizerKind) -> tuple[Path, ...]:
    path = Path(base.path)
    beside = path if path.is_dir() else path.parent
    known = [Path(folder) / name for folder in base.tokenizer_folders for name in kind.comfyui_folders]
    return (*(beside / name for name in kind.folders), *known, *map(Path, base.tokenizer_folders))


def find_tokenizer(base: BaseModel, kind: TokenizerKind) -> Path | None:
    """Beside the model, in ComfyUI, or in the cache of the Hugging Face hub."""
    return next((place for place in (*_places(base, kind), *_cached(kind)) if kind.complete(place)), None)


def known_tokens(base: BaseModel, words: Sequence[str]) -> set[str]:
    """Those of `words`, in small letters, that are one token of the base's CLIP; none where its tokenizer is not here."""
    folder = find_tokenizer(base, CLIP_TOKENIZER) if words else None
    if folder is None:
        return set()
    try:
        vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return {word for word in words if f"{word}</w>" in vocabulary}


def _cached(kind: TokenizerKind) -> tuple[Path, ...]:
    """The folder of the hub's cache that has the kind's files; none where they were never fetched."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(kind.repository, names[0]) for names in kind.files)
    return tuple(Path(path).parent for path in found if isinstance(path, str))


def _download(kind: TokenizerKind) -> Path:
    """Raises AthanorError where the hub cannot be reached, or has not what is wanted."""
    from huggingface_hub import snapshot_download

    wanted = [name for names in kind.files for name in names]
    try:
        folder = Path(snapshot_download(kind.repository, allow_patterns=wanted))
    except Exception as error:
        raise AthanorError(f"The {kind.title} tokenizer could not be fetched from {kind.repository}: {error}.") from None
    if not kind.complete(folder):
        raise AthanorError(f"{kind.repository} has no whole {kind.title} tokenizer any more.")
    return folder


def missing_tokenizer(base: BaseModel, kind: TokenizerKind) -> tuple[str, ...]:
    """A sentence, with every place that was searched, if there is no tokenizer of that kind."""
    if base.may_download or find_tokenizer(base, kind) is not None:
        return ()
    files = " or ".join(" and ".join(names) for names in kind.files)
    places = ", ".join(map(str, _places(base, kind)))
    return (
        f"No {kind.title} tokenizer ({files}) was found in {places}, nor in the cache of the Hugging Face hub; "
        f"put it into one of these folders (from {kind.repository}), or allow the download with --download on the command line.",
    )


def load_tokenizer(base: BaseModel, kind: TokenizerKind) -> PreTrainedTokenizerBase:
    import transformers

    folder = find_tokenizer(base, kind)
    if folder is None and base.may_download:
        folder = _download(kind)
    if folder is None:
        raise AthanorError(missing_tokenizer(base, kind)[0])
    return getattr(transformers, kind.class_name).from_pretrained(str(folder), local_files_only=True)
