"""A list of the tags that a site knows, with their kinds, counts and other names: the one of the tagcomplete extension, or a WD tagger's.

Tagcomplete's csv has no header: `name,type,count,"alias,alias"`, the last two optional. The one of a tagger begins with
`tag_id,name,category,count`; other lists with a header are read by the names of their columns, too.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path

from .categories import category
from .errors import TaggerError
from .tags import match_key


@dataclass(frozen=True)
class Entry:
    """A tag of a lexicon."""

    name: str
    """As the file has it, mostly with underscores."""
    category: int
    """Danbooru's number (`categories`), or the site's own."""
    count: int
    """Of pictures on the site; 0 where the file does not say."""


@dataclass(frozen=True)
class Found:
    """A tag that a search has found, and the alias by which it did; empty if by its own name."""

    entry: Entry
    alias: str = ""


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Made by `read_lexicon`. Look-ups are blind to case, underscores and escaped parentheses."""

    name: str
    _tags: dict[str, Entry] = field(repr=False)
    _aliases: dict[str, tuple[Entry, ...]] = field(repr=False)

    @cached_property
    def _names_by_count(self) -> list[tuple[str, Entry]]:
        return sorted(self._tags.items(), key=lambda item: -item[1].count)

    @cached_property
    def _aliases_by_count(self) -> list[tuple[str, Entry]]:
        pairs = [(key, entry) for key, entries in self._aliases.items() for entry in entries]
        return sorted(pairs, key=lambda pair: -pair[1].count)

    def __len__(self) -> int:
        return len(self._tags)

    def tag(self, text: str) -> Entry | None:
        """The tag of that name; aliases do not count."""
        return self._tags.get(match_key(text))

    def meant_by(self, alias: str) -> tuple[Entry, ...]:
        """The tags that `alias` is another name of; none if it is a tag itself or unknown."""
        key = match_key(alias)
        return () if key in self._tags else self._aliases.get(key, ())

    def search(self, text: str, limit: int = 20) -> tuple[Found, ...]:
        """Tags whose name or alias has `text` somewhere in it, each once, at most `limit`.

        First the one of that very name, then those that begin with it, then those with a word that does, then the others; among
        equals the most used first.
        """
        wanted = match_key(text)
        if not wanted or limit < 1:
            return ()
        # By nearness, then names before aliases; each list begins with the most used.
        nearest: list[dict[str, Found]] = [{} for _ in range(2 * _NUM_DEGREES)]
        for is_alias, keys in enumerate((self._names_by_count, self._aliases_by_count)):
            for key, entry in keys:
                if wanted in key:
                    degree = _nearness(key, wanted)
                    found = nearest[2 * degree + is_alias]
                    if len(found) < 2 * limit:
                        found.setdefault(entry.name, Found(entry, key if is_alias else ""))
                    elif degree == 1:
                        break  # only the very name is nearer, and that is looked up
        if (exact := self._tags.get(wanted)) is not None:
            nearest[0][exact.name] = Found(exact)
        for entry in sorted(self._aliases.get(wanted, ()), key=lambda each: -each.count):
            nearest[1].setdefault(entry.name, Found(entry, wanted))
        result: dict[str, Found] = {}
        for found in nearest:
            for name, each in found.items():
                result.setdefault(name, each)
        return tuple(result.values())[:limit]

    def warning(self, trigger: str) -> str:
        """Why `trigger` is a bad one, as a sentence; empty if it is a word that the lexicon does not know."""
        entry, meant = self.tag(trigger), self.meant_by(trigger)
        if entry is None and not meant:
            return ""
        what = f"is a tag of {self.name}" if entry else f"is another name of {', '.join(each.name for each in meant)} in {self.name}"
        count = max(each.count for each in (*meant, *([entry] if entry else [])))
        known = f" ({count:,} pictures)" if count else ""
        return f"The trigger {trigger!r} {what}{known}: a model that knows it mixes both up. A word that nobody uses is better."


_NUM_DEGREES = 4


def _nearness(key: str, wanted: str) -> int:
    if key.startswith(wanted):
        return 0 if key == wanted else 1
    return 2 if f" {wanted}" in key or f"({wanted}" in key else 3


def read_lexicon(file: Path) -> Lexicon:
    """The lexicon in a csv of one of the two kinds, told apart by the first line.

    Raises TaggerError if it cannot be read, with the line that is wrong.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.reader(lines)
            try:
                first = next(rows, [])
                columns = [name.strip().casefold() for name in first]
                entries = _by_columns(columns, rows) if _is_header(columns) else _of_tagcomplete(chain([first], rows))
                return _lexicon(file.stem, entries)
            except (ValueError, IndexError, csv.Error) as error:
                if isinstance(error, UnicodeDecodeError):
                    raise
                raise TaggerError(
                    f'{file}, about line {rows.line_num}: {error}. Expected is name,type,count,"aliases" or, with that first line, tag_id,name,category,count.'
                ) from error
    except OSError as error:
        raise TaggerError(f"Cannot read {file}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise TaggerError(f"{file} is not UTF-8 text (byte {error.start}). Open it in an editor and save it as UTF-8.") from error


_Row = tuple[Entry, tuple[str, ...]]


_NAMES, _KINDS, _COUNTS, _ALIASES = ("name", "tag"), ("category", "type"), ("count", "post_count"), ("aliases", "alias")


def _column(columns: Sequence[str], names: Sequence[str]) -> int | None:
    return next((columns.index(name) for name in names if name in columns), None)


def _is_header(columns: Sequence[str]) -> bool:
    return _column(columns, _NAMES) is not None and _column(columns, _KINDS) is not None


def _by_columns(columns: Sequence[str], rows: Iterable[list[str]]) -> list[_Row]:
    name, kind, count, aliases = (_column(columns, names) for names in (_NAMES, _KINDS, _COUNTS, _ALIASES))
    assert name is not None and kind is not None, "told by `_is_header`"

    def number(row: list[str]) -> str:
        return row[count] if count is not None and count < len(row) else ""

    def others(row: list[str]) -> str:
        return row[aliases] if aliases is not None and aliases < len(row) else ""

    return [(Entry(row[name].strip(), _kind(row[kind]), _number(number(row))), _split(others(row))) for row in rows if row]


def _of_tagcomplete(rows: Iterable[list[str]]) -> list[_Row]:
    found: list[_Row] = []
    for row in rows:
        if not row or not row[0].strip():
            continue
        if len(row) < 2:
            raise ValueError(f"{row[0][:40]!r} has no type")
        aliases = _split(row[3]) if len(row) > 3 else ()
        found.append((Entry(row[0].strip(), _kind(row[1]), _number(row[2]) if len(row) > 2 else 0), aliases))
    return found


def _split(aliases: str) -> tuple[str, ...]:
    return tuple(alias.strip() for alias in aliases.split(",") if alias.strip())


def _kind(text: str) -> int:
    """A number, or a name such as character."""
    return category(text) if text.strip() else 0


def _number(text: str) -> int:
    """Extra files have a remark where the count belongs."""
    text = text.strip().removesuffix(".0")
    return int(text) if text.isdecimal() else 0


def _lexicon(name: str, rows: Sequence[_Row]) -> Lexicon:
    if not rows:
        raise ValueError("there is no tag in it")
    tags: dict[str, Entry] = {}
    aliases: dict[str, tuple[Entry, ...]] = {}
    for entry, others in rows:
        tags.setdefault(match_key(entry.name), entry)
        for other in others:
            known = aliases.get(key := match_key(other), ())
            aliases[key] = known if entry in known else (*known, entry)
    return Lexicon(name, tags, aliases)
