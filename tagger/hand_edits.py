"""Edits that were made by hand, picture by picture, kept as text and replayed on whatever captions come in.

An edit is kept as what it did (tags that went, tags that came, and the order if it was changed), not as the caption that was
left. So, when a rule or a threshold before it is changed later, new tags still arrive in pictures that were edited by hand,
and what was corrected stays corrected; a finished caption would freeze them as they were on that day. On the captions for
which the edit was made both give the same.

The text is JSON: `{"version": 1, "pictures": {"folder/name.png": {"remove": [], "add": [], "order": []}}}`. A picture is named
by its path from the folder above the one that holds them all, so that the dataset may lie anywhere.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from unicodedata import normalize

from .errors import TaggerError
from .tags import match_key, without_duplicates

Caption = tuple[str, ...]

VERSION = 1
MAX_CHARS = 16_000_000
_PARTS = ("remove", "add", "order")
_MAX_NAMED = 5


@dataclass(frozen=True)
class HandEdit:
    """What was done to one picture. Tags are compared by `match_key`."""

    remove: Caption = ()
    add: Caption = ()
    """Spelled as given; one that is there already is not added again."""
    order: Caption = ()
    """The whole caption in its new order; empty where added tags are simply at the end."""

    def replayed(self, tags: Caption) -> Caption:
        """`tags` without the removed and with the added ones, each tag once.

        With an `order`, the tags in it stand as it says, and one that it does not know behind the tag that it follows in `tags`,
        or in front if it follows none.
        """
        removed = {match_key(tag) for tag in self.remove}
        kept = [tag for tag in without_duplicates(tags) if match_key(tag) not in removed]
        all_tags = without_duplicates((*kept, *self.add))
        if not self.order:
            return all_tags
        rank = {match_key(tag): place for place, tag in enumerate(without_duplicates(self.order))}
        placed = sorted((tag for tag in all_tags if match_key(tag) in rank), key=lambda tag: rank[match_key(tag)])
        for i, tag in enumerate(all_tags):
            if match_key(tag) not in rank:
                placed.insert(placed.index(all_tags[i - 1]) + 1 if i else 0, tag)
        return tuple(placed)


HandEdits = Mapping[str, HandEdit]
"""By the path that `picture_keys` gives."""


def parse_hand_edits(text: str) -> HandEdits:
    """The edits in `text`; none if it is blank. Raises TaggerError that says what is wrong with it."""
    if not text.strip():
        return {}
    if len(text) > MAX_CHARS:
        raise TaggerError(
            f"The hand edits are {len(text):,} characters long; at most {MAX_CHARS:,} are read. Save Captions keeps finished ones in files."
        )
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or not isinstance(data.get("pictures"), dict):
            raise ValueError("there are no `pictures` in it")
        if data.get("version") != VERSION:
            raise ValueError(f"it has version {data.get('version')!r} instead of {VERSION}")
        return {key: _edit(key, value) for key, value in data["pictures"].items()}
    except (ValueError, RecursionError) as error:
        raise TaggerError(f"The hand edits cannot be read: {error}. Undo the last change to them, or empty the widget to start anew.") from error


def _edit(key: str, value: object) -> HandEdit:
    if not isinstance(value, dict) or not set(value) <= set(_PARTS):
        raise ValueError(f"for {key!r} stands something else than {', '.join(_PARTS)}")
    for part, tags in value.items():
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise ValueError(f"{part!r} of {key!r} is not a list of tags")
    remove, add, order = (tuple(tag.strip() for tag in value.get(part, ()) if tag.strip()) for part in _PARTS)
    return HandEdit(remove, add, order)


def picture_keys(paths: Sequence[str]) -> tuple[str, ...]:
    """How the pictures of a dataset, given by their full paths, are called in its hand edits: `folder/name.png`."""
    above = PurePath(_common_folder(paths)).parent
    return tuple(_from(path, above) or "/".join(PurePath(path).parts[-2:]) for path in paths)


def apply_hand_edits(edits: HandEdits, paths: Sequence[str], captions: Sequence[Caption]) -> tuple[tuple[Caption, ...], tuple[str, ...]]:
    """The captions with the edits of their pictures, and sentences for a report where there is something to say."""
    if not edits:
        return tuple(captions), ()
    places = find_pictures(edits, paths)
    edited = list(captions)
    for key, found in places.items():
        for i in found:
            edited[i] = edits[key].replayed(captions[i])
    lost = [key for key, found in places.items() if not found]
    num_changed = sum(new != old for new, old in zip(edited, captions, strict=True))
    notes = [f"hand edits: {num_changed} of {len(paths)} captions changed"]
    if lost:
        named = ", ".join(lost[:_MAX_NAMED]) + (f" and {len(lost) - _MAX_NAMED} more" if len(lost) > _MAX_NAMED else "")
        notes.append(f"hand edits not used, because no picture here, or more than one, has that path: {named}")
    return tuple(edited), tuple(notes)


def find_pictures(edits: HandEdits, paths: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """For each edit the places in `paths` of its picture: one, several if the same file is there several times, or none.

    A picture is found by the whole path of its edit; if there is none, without the first part, which is another one where the
    dataset's folder was renamed. An edit that fits no picture, or different ones, has no place.
    """
    find = _Finder(paths)
    return {key: tuple(find(key)) for key in edits}


class _Finder:
    """Which pictures an edit is for: all places of one path, or none. macOS takes letters with accents apart, which makes no other name."""

    def __init__(self, paths: Sequence[str]):
        paths = [normalize("NFC", path) for path in paths]
        root = PurePath(_common_folder(paths))
        self._keys = picture_keys(paths)
        self._parts = [PurePath(path).parts for path in paths]
        self._below = [_from(path, root) for path in paths]
        self._by_name: dict[str, list[int]] = defaultdict(list)
        for i, parts in enumerate(self._parts):
            self._by_name[parts[-1]].append(i)

    def __call__(self, key: str) -> list[int]:
        key = normalize("NFC", key)
        parts = tuple(key.split("/"))
        same_name = self._by_name.get(parts[-1], [])
        exact = [i for i in same_name if self._keys[i] == key]
        whole = [i for i in same_name if self._parts[i][-len(parts) :] == parts]
        tail = parts[1:]
        if len(tail) == 1:
            shorter = [i for i in same_name if self._below[i] == tail[0]]
        else:
            shorter = [i for i in same_name if tail and self._parts[i][-len(tail) :] == tail]
        found = exact or whole or shorter
        return found if len({self._parts[i] for i in found}) == 1 else []


def _common_folder(paths: Sequence[str]) -> str:
    try:
        return os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    except ValueError:  # none at all, or on several drives
        return ""


def _from(path: str, folder: PurePath) -> str:
    try:
        return PurePath(path).relative_to(folder).as_posix()
    except ValueError:
        return ""
