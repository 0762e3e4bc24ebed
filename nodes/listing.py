"""What Edit Tags leaves for its browser editor when it runs: the pictures with their captions after the rules.

Kept in files under a name that follows from their content, so that the page finds them again after a reload and a restart.
The page is told neither paths nor anything else that would lead to a file: it names a listing and the number of a picture in it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..tagger.hand_edits import picture_keys
from ..trainer.types import Sample
from . import host

_log = logging.getLogger(__name__)
_MAX_KEPT = 100
_NAME = re.compile(r"[0-9a-f]{32}")
_TAGGER_NODE = "AthanorAutoTag"


@dataclass(frozen=True)
class Picture:
    """One picture of a listing."""

    path: str
    """Absolute; never told to the page."""
    key: str
    """As hand edits call it: `hand_edits.picture_keys`."""
    width_px: int
    height_px: int
    role: str
    tags: tuple[str, ...]
    """After the rules, before the hand edits."""
    has_caption: bool
    scores: tuple[tuple[str, str, float], ...]
    """Tag, category by name, and score, of the tags that Auto Tag has written."""


@dataclass(frozen=True)
class Listing:
    pictures: tuple[Picture, ...]
    rules: str
    filter: str
    lexicon: str
    taggers: tuple[str, ...]
    """Of the Auto Tag nodes before this one, so that kept scores can be found."""


def make_listing(samples: Sequence[Sample], rules: str, filter: str, lexicon: str, taggers: Sequence[str]) -> Listing:
    keys = picture_keys([sample.path for sample in samples])
    pictures = tuple(
        Picture(
            sample.path,
            key,
            sample.width_px,
            sample.height_px,
            sample.role,
            sample.tags,
            sample.caption is not None,
            tuple((one.tag, one.category, one.score) for one in sample.tag_scores),
        )
        for sample, key in zip(samples, keys, strict=True)
    )
    return Listing(pictures, rules, filter, lexicon, tuple(taggers))


def keep_listing(listing: Listing) -> str:
    """Writes it and returns its name; empty if it cannot be written, which is no reason to stop a workflow. The latest hundred stay."""
    text = json.dumps(asdict(listing), ensure_ascii=False, separators=(",", ":"))
    name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    file = _folder() / f"{name}.json"
    temporary = file.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", errors="surrogatepass")
        temporary.replace(file)
    except OSError as error:
        _log.warning("The tag editor will not find these pictures: %s cannot be written (%s).", file, error)
        return ""
    _forget_old()
    return name


@lru_cache(maxsize=8)
def kept_listing(name: str) -> Listing:
    """The listing of that name. Raises KeyError if there is none."""
    if not _NAME.fullmatch(name):
        raise KeyError(name)
    try:
        data: dict[str, Any] = json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8", errors="surrogatepass"))
        pictures = tuple(
            Picture(**{**picture, "tags": tuple(picture["tags"]), "scores": tuple(map(tuple, picture["scores"]))}) for picture in data["pictures"]
        )
        return Listing(pictures, data["rules"], data["filter"], data["lexicon"], tuple(data["taggers"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise KeyError(name) from error


def upstream_taggers(prompt: Mapping[str, Any], node_id: str | None) -> tuple[str, ...]:
    """Names of the taggers in the Auto Tag nodes that node `node_id` of `prompt` gets its pictures from, the nearest first."""
    found: list[str] = []
    waiting, seen = [node_id], set()
    while waiting:
        current = waiting.pop(0)
        node = prompt.get(current) if current is not None else None
        if current in seen or not node:
            continue
        seen.add(current)
        inputs = node.get("inputs", {})
        if node.get("class_type") == _TAGGER_NODE:
            found += [name for key in ("tagger", "second_tagger") if isinstance(name := inputs.get(key), str) and name != "none"]
        waiting += [str(value[0]) for value in inputs.values() if isinstance(value, list) and len(value) == 2]
    return tuple(dict.fromkeys(found))


def _folder() -> Path:
    return host.cache_folder() / "editor"


def _forget_old() -> None:
    try:
        files = sorted(_folder().glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        for file in files[_MAX_KEPT:]:
            file.unlink(missing_ok=True)
    except OSError:
        return  # another server with the same output folder is cleaning up
