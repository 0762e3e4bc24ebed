"""Tokenizers, found where they are: beside the model, in ComfyUI's own tree."""

from __future__ import annotations

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

    def complete(self, folder: Path) -> bool:
        return any(all((folder / name).is_file() for name in names) for names in self.files)


CLIP_TOKENIZER = TokenizerKind("CLIP", "CLIPTokenizer", ("tokenizer",), ("sd1_tokenizer",), (("vocab.json", "merges.txt"),))
T5_TOKENIZER = TokenizerKind(
    "T5", "T5TokenizerFast", ("tokenizer_3", "tokenizer_2"), ("text_encoders/t5_tokenizer", "t5_tokenizer"), (("tokenizer.json",), ("spiece.model",))
)


def _places(base: BaseModel, kind: TokenizerKind) -> tuple[Path, ...]:
    path = Path(base.path)
    beside = path if path.is_dir() else path.parent
    known = [Path(folder) / name for folder in base.tokenizer_folders for name in kind.comfyui_folders]
    return (*(beside / name for name in kind.folders), *known, *map(Path, base.tokenizer_folders))


def find_tokenizer(base: BaseModel, kind: TokenizerKind) -> Path | None:
    return next((place for place in _places(base, kind) if kind.complete(place)), None)


def missing_tokenizer(base: BaseModel, kind: TokenizerKind) -> tuple[str, ...]:
    """A sentence, with every place that was searched, if there is no tokenizer of that kind."""
    if find_tokenizer(base, kind) is not None:
        return ()
    files = " or ".join(" and ".join(names) for names in kind.files)
    return (f"No {kind.title} tokenizer ({files}) was found in {', '.join(map(str, _places(base, kind)))}; put it into one of these folders.",)


def load_tokenizer(base: BaseModel, kind: TokenizerKind) -> PreTrainedTokenizerBase:
    import transformers

    folder = find_tokenizer(base, kind)
    if folder is None:
        raise AthanorError(missing_tokenizer(base, kind)[0])
    return getattr(transformers, kind.class_name).from_pretrained(str(folder), local_files_only=True)
