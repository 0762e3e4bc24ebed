"""Models that describe pictures in sentences: which ones people know, where they are on this machine, of which kind each is.

They are folders as transformers saves them. Nothing here loads one: that is the worker's work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import TaggerError

CaptionerKind = Literal["blip", "florence2", "florence2-original"]
"""The last one is the layout of microsoft/Florence-2-* and of the PromptGen variants, made for code of its own, which is not run."""

CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_ONE_OF = ((CONFIG,), ("preprocessor_config.json", "processor_config.json"), ("tokenizer.json", "vocab.txt", "vocab.json"), _WEIGHTS)
"""What a folder needs: of each of these at least one."""

_NOT_DOWNLOADED = " (not downloaded)"
_MAX_DEPTH = 3
_PROMPTGEN = "promptgen"


@dataclass(frozen=True)
class KnownCaptioner:
    name: str
    """Of its folder in models/captioners."""
    repository: str
    """On Hugging Face."""
    size_text: str
    """About, for people."""


def _known(repository: str, size_text: str) -> KnownCaptioner:
    return KnownCaptioner(repository.rsplit("/", 1)[-1], repository, size_text)


KNOWN_CAPTIONERS: tuple[KnownCaptioner, ...] = (
    _known("florence-community/Florence-2-base", "0.5 GB"),
    _known("florence-community/Florence-2-large", "1.6 GB"),
    _known("florence-community/Florence-2-base-ft", "0.5 GB"),
    _known("florence-community/Florence-2-large-ft", "1.6 GB"),
    _known("MiaoshouAI/Florence-2-base-PromptGen-v2.0", "1.1 GB"),
    _known("MiaoshouAI/Florence-2-large-PromptGen-v2.0", "3.3 GB"),
    _known("Salesforce/blip-image-captioning-base", "1 GB"),
    _known("Salesforce/blip-image-captioning-large", "1.9 GB"),
)
"""The best choice for most people first."""


def find_captioners(roots: Sequence[Path]) -> dict[str, Path]:
    """Folders with a BLIP or a Florence-2 below `roots` by name, sorted; of two with one name the one in the earlier root.

    The name is the path below its root, with `/`. Those that lack a file or whose config.json is broken are listed too: opening one says
    what is wrong. Other models are not.
    """
    found: dict[str, Path] = {}
    for root in roots:
        for folder in _with_config(root):
            if folder != root and _model_type(folder) in ("blip", "florence2", None):
                found.setdefault(folder.relative_to(root).as_posix(), folder)
    return dict(sorted(found.items(), key=lambda item: item[0].casefold()))


def _with_config(root: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(root, followlinks=True):
        path = Path(folder)
        deep = len(path.relative_to(root).parts) >= _MAX_DEPTH
        subfolders[:] = [] if deep or (CONFIG in files and path != root) else sorted(name for name in subfolders if not name.startswith("."))
        if CONFIG in files:
            yield path


def captioner_choices(roots: Sequence[Path]) -> tuple[str, ...]:
    """For a drop-down: the captioners that are on this machine, then the known ones that are not, marked so."""
    here = find_captioners(roots)
    names = {name.rsplit("/", 1)[-1].casefold() for name in here}
    more = [known for known in KNOWN_CAPTIONERS if known.name.casefold() not in names]
    return (*here, *(known.name if in_hub_cache(known) else f"{known.name}{_NOT_DOWNLOADED}" for known in more))


def plain_name(name: str) -> str:
    """One of `captioner_choices` without its mark."""
    return name.removesuffix(_NOT_DOWNLOADED)


def known_captioner(name: str) -> KnownCaptioner | None:
    """The known captioner called `name`, with or without its mark or its repository's owner, blind to case."""
    last = plain_name(name).replace("\\", "/").rsplit("/", 1)[-1].casefold()
    return next((known for known in KNOWN_CAPTIONERS if known.name.casefold() == last), None)


def pick_captioner(name: str, roots: Sequence[Path]) -> Path:
    """The folder of the captioner called `name`, one of `captioner_choices`, with or without its mark; below `roots` or in the Hub's cache.

    Raises TaggerError that lists the ones there are, or says which files to put where.
    """
    here, plain = find_captioners(roots), plain_name(name)
    if plain in here:
        return here[plain]
    known = known_captioner(plain)
    same = next((path for other, path in here.items() if known and known_captioner(other) is known), None)
    if same or (known and (same := in_hub_cache(known))):
        return same
    folder = roots[0] if roots else Path("captioners")
    if known:
        raise TaggerError(f"The captioner {plain!r} is not on this machine. {how_to_get(known, folder)}")
    raise TaggerError(
        f"There is no captioner {plain!r}; choose one of: {', '.join((*here, *(each.name for each in KNOWN_CAPTIONERS)))}. A BLIP or Florence-2"
        f" of your own goes into a folder of {folder}, with all its files."
    )


def missing_captioner(name: str, roots: Sequence[Path]) -> KnownCaptioner | None:
    """The known captioner called `name` if it is not here, or not whole; None for all others."""
    known = known_captioner(name)
    if known is None:
        return None
    try:
        captioner_kind(pick_captioner(name, roots))
    except TaggerError:
        return known
    return None


def how_to_get(known: KnownCaptioner, folder: Path) -> str:
    """A sentence on which files of which repository go where, for an error."""
    return (
        f"Its files ({known.size_text}) come from {known.repository} on Hugging Face: put config.json, preprocessor_config.json, the files of its"
        f" tokenizer and model.safetensors (or pytorch_model.bin) into {folder / known.name}."
    )


def captioner_kind(folder: Path) -> CaptionerKind:
    """Of which kind the model in `folder` is. Raises TaggerError in one sentence: a file is missing or broken, or it is another model."""
    missing = [names[0] for names in _ONE_OF if not any((folder / name).is_file() for name in names)]
    if missing:
        known = known_captioner(folder.name)
        source = f"{known.repository} on Hugging Face" if known else "where the model comes from"
        raise TaggerError(f"The captioner {folder.name!r} is not complete: {folder} lacks {', '.join(missing)}. Download it from {source}.")
    config = _config(folder)
    if config is None:
        raise TaggerError(f"The captioner {folder.name!r} cannot be used: {folder / CONFIG} is not whole JSON. Download it again.")
    model_type = config.get("model_type")
    if model_type == "blip":
        if "BlipForConditionalGeneration" in config.get("architectures", ["BlipForConditionalGeneration"]):
            return "blip"
        raise TaggerError(
            f"{folder} is a BLIP that does not write captions ({config['architectures'][0]}); take Salesforce/blip-image-captioning-base."
        )
    if model_type == "florence2":
        text, vision = config.get("text_config") or {}, config.get("vision_config") or {}
        return "florence2-original" if text.get("model_type") == "florence2_language" or "dim_embed" in vision else "florence2"
    raise TaggerError(f"{folder} holds a model of the kind {model_type!r}; captions are written by BLIP and Florence-2 only.")


def is_promptgen(folder: Path) -> bool:
    """Whether it is one of the variants that write tags, too: only its name tells."""
    names = (folder.name, folder.parent.parent.name)  # the latter in the Hub's cache
    return any(_PROMPTGEN in name.casefold().replace("-", "").replace("_", "") for name in names)


def in_hub_cache(known: KnownCaptioner) -> Path | None:
    """The newest snapshot in the cache of huggingface_hub, if it is whole. Asks no network."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(known.repository, CONFIG)
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    return folder if all(any((folder / name).is_file() for name in names) for names in _ONE_OF) else None


def _model_type(folder: Path) -> str | None:
    """None where the file is broken."""
    config = _config(folder)
    return None if config is None else str(config.get("model_type"))


def _config(folder: Path) -> dict | None:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None
