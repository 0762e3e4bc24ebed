"""Captions of many images in one file: kohya's metadata JSON, and JSON lines as Hugging Face datasets have them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import AthanorError
from .encoding import decode_text
from .found import Found, class_tokens_of, natural_key
from .header import IMAGE_EXTENSIONS
from .notes import capped, listed, value_told

_NAME_KEYS = ("file_name", "image", "file", "path", "image_path", "filename", "img_path")
_CAPTION_KEYS = ("caption", "text", "prompt", "captions")
_MAX_BYTES = 512 << 20


def read_metadata(file: Path, *, keep_lines: bool = False, separator: str = ",") -> dict[str, str | None]:
    """The caption of each image that `file` names, None where it names the image only.

    Three forms are understood: an object of objects by image (kohya: {"a.png": {"caption": …, "tags": …}}, with full paths
    or names, with or without ending); a list of objects; and an object a line. In the latter two the image stands under
    "file_name" or "image", the caption under "text" or "caption". Tags follow the caption behind `separator`, as in
    kohya's trainers. `keep_lines` leaves the lines of a caption apart, for wildcards that choose among them, with the tags behind each.
    Of a list of captions the first is taken, or with `keep_lines` each as a line.
    Raises AthanorError, with the line, for a file that is none of these.
    """
    text = read_text(file)
    if file.suffix.lower() == ".jsonl":
        lines = [(f"{file.name}, line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        return _from_objects([(where, _parsed(line, where)) for where, line in lines], keep_lines, separator)
    data = _parsed(text, file.name)
    if isinstance(data, list):
        return _from_objects([(f"{file.name}, entry {number}", entry) for number, entry in enumerate(data, 1)], keep_lines, separator)
    if not isinstance(data, dict):
        raise AthanorError(f"{file.name} holds neither an object of images nor a list of them, so it is no metadata file.")
    return {name: _caption(entry, f"{file.name}, {name!r}", keep_lines, separator) for name, entry in data.items()}


def find_images(
    captions: dict[str, str | None], folder: Path, file_name: str, *, repeats: int = 1, is_allowed: Callable[[Path], bool] = lambda _: False
) -> tuple[list[Found], list[str]]:
    """The image files that `captions` names, in natural order, and notes on those that are not there.

    A name is a path below `folder`, with or without ending, or a full path. What lies outside `folder`, links resolved,
    counts where `is_allowed` says so; a full path of another computer is looked for by as many of its last parts as lead to an image.
    """
    finder = _Finder(folder, is_allowed)
    found: dict[Path, Found] = {}
    absent, twice = [], []
    for name, caption in captions.items():
        path = finder.find(name)
        if path is None:
            absent.append(name)
        elif path in found:
            twice.append(name)
        else:
            relative = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
            found[path] = Found(path, relative, repeats, path.parent.name, class_tokens_of(path.parent), caption=caption)
    notes = capped(
        [f"{file_name} names {name}, but there is no such image in {folder}." for name in absent], f"names in {file_name} without image", absent
    )
    if twice:
        notes.append(f"{file_name} names some images twice, and the first caption is used: {listed(twice)}.")
    if unnamed := [name for name in finder.images_in(folder) if folder / name not in found]:
        notes.append(f"{file_name} does not name every image in {folder.name}; left out: {listed(unnamed)}.")
    return sorted(found.values(), key=lambda each: natural_key(each.name)), notes


def read_text(file: Path) -> str:
    """Raises AthanorError for a file that is missing, too large or no text."""
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise AthanorError(f"{file} has more than {_MAX_BYTES >> 20} MiB, too much for a list of captions; split it.")
        return decode_text(file.read_bytes())[0]
    except OSError as error:
        raise AthanorError(f"{file} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise AthanorError(f"{file} cannot be read: {error}. Save it as UTF-8 text.") from None


class _Finder:
    """Looks for images by name, lists each folder only once, and none that may not be read."""

    def __init__(self, folder: Path, is_allowed: Callable[[Path], bool]):
        self._folder, self._real, self._is_allowed = folder, folder.resolve(), is_allowed
        self._listings: dict[Path, dict[str, str]] = {}

    def find(self, name: str) -> Path | None:
        given = Path(name.replace("\\", "/"))
        tails = (Path(*given.parts[start:]) for start in range(1, len(given.parts)))
        for path in dict.fromkeys(_shortened(self._folder / each) for each in (given, *tails)):
            names = self._names(path.parent)
            known = names.get(path.name) or names.get(_plain_name(path.name))
            file = path.with_name(known) if known else None
            if file is not None and (not file.is_symlink() or self._may_read(file)):
                return file
        return None

    def images_in(self, folder: Path) -> list[str]:
        return sorted(set(self._names(folder).values()), key=natural_key)

    def _names(self, folder: Path) -> dict[str, str]:
        """The images of a folder by name, by name without ending, and by both as `_plain_name` has them."""
        if folder not in self._listings:
            try:
                files = sorted(path.name for path in folder.iterdir()) if self._may_read(folder) else []
            except OSError:
                files = []
            names = [name for name in files if Path(name).suffix.lower() in IMAGE_EXTENSIONS and not name.startswith(".")]
            known = {name: name for name in names}
            for key in (
                lambda name: name.removesuffix(Path(name).suffix),
                _plain_name,
                lambda name: _plain_name(name.removesuffix(Path(name).suffix)),
            ):
                for name in names:
                    known.setdefault(key(name), name)
            self._listings[folder] = known
        return self._listings[folder]

    def _may_read(self, path: Path) -> bool:
        real = path.resolve()
        return real.is_relative_to(self._real) or self._is_allowed(real)


def _plain_name(name: str) -> str:
    """In small letters, which Windows takes too, and with accents as Windows and not macOS writes them."""
    return unicodedata.normalize("NFC", name).casefold()


def _shortened(path: Path) -> Path:
    """Without its `..`, which would only make two names of one file."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and len(parts) > 1:
            parts.pop()
        else:
            parts.append(part)
    return Path(*parts)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AthanorError(f"{where} is not valid JSON: {error}.") from None


def _from_objects(entries: list[tuple[str, Any]], keep_lines: bool, separator: str) -> dict[str, str | None]:
    captions: dict[str, str | None] = {}
    for where, entry in entries:
        name = next((entry[key] for key in _NAME_KEYS if isinstance(entry.get(key), str)), None) if isinstance(entry, dict) else None
        if name is None:
            raise AthanorError(f'{where} names no image: an object with "file_name" (or "image") is needed, and "text" (or "caption").')
        captions.setdefault(name, _caption(entry, where, keep_lines, separator))
    return captions


def _caption(entry: Any, where: str, keep_lines: bool, separator: str) -> str | None:
    if isinstance(entry, str):
        return _in_lines(entry, "", keep_lines, separator)
    if not isinstance(entry, dict):
        raise AthanorError(f'{where} is {value_told(entry)}; an object with "caption" or "tags" is needed.')
    caption = next((entry[key] for key in _CAPTION_KEYS if entry.get(key) is not None), None)
    if isinstance(caption, list) and all(isinstance(each, str) for each in caption):
        caption = "\n".join(caption if keep_lines else caption[:1])
    tags = entry.get("tags")
    if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
        tags = ", ".join(tags)
    for key, value in (("caption", caption), ("tags", tags)):
        if value is not None and not isinstance(value, str):
            raise AthanorError(f"{where}: the {key} must be text, not {value_told(value)}.")
    return _in_lines(caption or "", tags or "", keep_lines, separator) if caption is not None or tags is not None else None


def _in_lines(caption: str, tags: str, keep_lines: bool, separator: str) -> str:
    """The tags behind the caption; with `keep_lines` behind each of its lines, as sd-scripts does."""
    lines = [text for line in caption.splitlines() if (text := _plain(line))] if keep_lines else [_plain(caption)]
    return "\n".join(f"{separator} ".join(filter(None, (line, _plain(tags)))) for line in lines or [""])


def _plain(text: str) -> str:
    """In one line, and without halves of characters, which JSON can hold and no file."""
    return " ".join(text.encode("utf-8", "replace").decode().split()).strip(", ")
