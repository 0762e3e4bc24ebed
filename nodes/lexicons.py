"""The lexicons in models/tag_lexicons, read once, and CLIP's way of counting: what the rules and the filter of Edit Tags need."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ..tagger.errors import TaggerError
from ..tagger.lexicon import Lexicon, read_lexicon
from ..tagger.tokens import CountTokens, clip_counter
from . import host

NO_LEXICON = "none"


def lexicon_named(name: str) -> Lexicon | None:
    """The lexicon of that name; None for "none". Raises TaggerError if it is not there or cannot be read."""
    if name == NO_LEXICON:
        return None
    files = host.lexicon_files()
    if name not in files:
        known = ", ".join(files) or "none yet"
        raise TaggerError(f"There is no lexicon {name!r} in models/tag_lexicons; choose one of: {known}.")
    state = files[name].stat()
    return _read(files[name], state.st_mtime_ns, state.st_size)


def lexicon_for_look_ups(name: str) -> Lexicon | None:
    """The lexicon of that name; for "none" the first one that is there, since suggestions harm nobody. None if there is none to be read."""
    files = host.lexicon_files()
    try:
        return lexicon_named(name if name in files else next(iter(files), NO_LEXICON))
    except (TaggerError, OSError):
        return None


@lru_cache(maxsize=2)
def _read(file: Path, mtime_ns: int, size_bytes: int) -> Lexicon:  # time and size: a changed file is read again
    return read_lexicon(file)


def count_tokens(text: str) -> int:
    return _counter()(text)


@lru_cache(maxsize=1)
def _counter() -> CountTokens:
    return clip_counter(host.clip_tokenizer_folder())
