"""Caption files beside the images: read in whatever encoding they have, written in UTF-8 with a backup."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from ..errors import AthanorError
from ..files import replace_atomically
from .encoding import decode_text
from .header import IMAGE_EXTENSIONS
from .notes import ending

DEFAULT_EXTENSIONS = (".txt", ".caption")
_MAX_BYTES = 1 << 20
_CUT_AROUND_A_FACE = re.compile(r"(.+)(?:_\d{4}){4}")
"""Names that sd-scripts' detect_face_rotate.py gives: where the face is, and its size."""
_SENTENCE_ENDS = (".", "!", "?", "。", "！", "？", ",", "，")


def caption_extension(text: str) -> str:
    """`text` as the ending of caption files, with its dot: "txt" and ".txt" are the same.

    Raises AthanorError if it cannot be one.
    """
    extension = "." + text.strip().lstrip(".")
    if not re.fullmatch(r"\.[^\s./\\:*?\"<>|]+", extension):
        raise AthanorError(f"{text!r} cannot be the ending of caption files; give one like .txt or .caption.")
    if extension.lower() in IMAGE_EXTENSIONS:
        raise AthanorError(f"Captions cannot be kept in {extension} files, which are pictures; give an ending like .txt or .caption.")
    return extension


def read_caption(
    image: Path, extensions: tuple[str, ...] = DEFAULT_EXTENSIONS, *, listed: frozenset[str] | None = None, keep_lines: bool = False
) -> tuple[str | None, tuple[str, ...]]:
    """The caption of `image` and what the reader should be told about its file.

    The first of `extensions` for which there is a file counts; without any, an image that sd-scripts has cut around a face
    (`a_0120_0080_0064_0064.png`) has that of the whole one (`a.txt`), as there. None where there is no such file, "" where it is empty.
    Byte-order marks, blanks and commas at the ends are taken off. Several lines become one: a line that ends a sentence
    or in a comma is followed by a blank, any other by a comma, so that one tag a line works as well as prose does.
    `keep_lines` leaves them apart instead, for wildcards that choose among them.
    `listed`: the names of all files in the folder, where they are known; saves asking for each in large datasets.
    """
    files = _listed_files(image, extensions, listed) if listed is not None else [f for each in extensions if (f := _caption_file(image, each))]
    if not files:
        whole = _CUT_AROUND_A_FACE.fullmatch(image.name.removesuffix(image.suffix))
        return read_caption(image.with_name(whole[1] + image.suffix), extensions, listed=listed, keep_lines=keep_lines) if whole else (None, ())
    file, notes = files[0], []
    if len(files) > 1:
        notes.append(f"{image.name} has more than one caption file; {file.name} is used, {_listed(other.name for other in files[1:])} is not.")
    try:
        content = _content(file)
        text, encoding = decode_text(content)
    except ValueError as error:
        return None, (*notes, f"{file.name} cannot be read as a caption: {error}. Save the caption again as UTF-8 text.")
    except OSError as error:
        return None, (*notes, f"{file.name} cannot be read: {error.strerror or error}.")
    if content.startswith(codecs.BOM_UTF8):
        notes.append(f"{file.name} begins with a byte-order mark, which is no part of the caption.")
    if encoding:
        notes.append(f"{file.name} is not UTF-8; it was read as {encoding}. Look whether that is right, and save it as UTF-8.")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if keep_lines:
        return "\n".join(lines), tuple(notes)
    if len(lines) > 1:
        notes.append(f"{file.name} has {len(lines)} lines, which were joined into one caption.")
    return _joined(lines).strip(", \t\u3000"), tuple(notes)


def write_caption(image: Path, caption: str, extension: str = ".txt", backup: bool = True) -> Path:
    """Writes the caption file of `image` in UTF-8 and returns its path. A file that says the same already is left alone.

    With `backup` the file that was there stays as `name.txt.bak1`; later ones count up, none is ever overwritten.
    Raises AthanorError if the folder cannot be written; the old file is whole then.
    """
    file = caption_file(image, caption_extension(extension))
    old = written_before(file)
    if old is not None and _same(old, caption):
        return file
    if old is not None and backup:
        _keep(file, old)
    replace_atomically(file, lambda temporary: _write(temporary, caption.encode()))
    return file


def caption_file(image: Path, extension: str) -> Path:
    """Of `image`: the one that is there, as `a.TXT`, else the one that would be written."""
    return _caption_file(image, extension) or image.with_name(f"{image.name.removesuffix(image.suffix)}{extension}")


def written_before(file: Path) -> bytes | None:
    """What a caption file holds; None where there is none. Raises AthanorError for one that cannot be read."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AthanorError(f"Cannot read the caption file {file} that is to be replaced: {error.strerror or error}.") from error


def _caption_file(image: Path, extension: str) -> Path | None:
    stem = image.name.removesuffix(image.suffix)
    return next((file for each in _spellings(extension) if (file := image.with_name(stem + each)).is_file()), None)


def _listed_files(image: Path, extensions: tuple[str, ...], listed: frozenset[str]) -> list[Path]:
    name = image.name
    stem = name[: len(name) - len(ending(name))]
    found = [next((stem + each for each in _spellings(extension) if stem + each in listed), "") for extension in extensions]
    return [image.with_name(name) for name in found if name]


@lru_cache
def _spellings(extension: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((extension, extension.lower(), extension.upper())))


def _joined(lines: list[str]) -> str:
    text = ""
    for line in lines:
        text += ("" if not text else " " if text.endswith(_SENTENCE_ENDS) else ", ") + line
    return text


def _content(file: Path) -> bytes:
    """Raises ValueError for more than a caption can be, such as a log beside the images."""
    with open(file, "rb", buffering=0) as opened:  # noqa: PTH123 – ten thousands of files
        content = opened.read(_MAX_BYTES + 1) or b""
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES >> 20} MiB")
    return content


def _same(old: bytes, caption: str) -> bool:
    try:
        return old.decode("utf-8").strip() == caption.strip()
    except UnicodeDecodeError:
        return False


def _keep(file: Path, content: bytes) -> None:
    num = 1
    try:
        while (backup := file.with_name(f"{file.name}.bak{num}")).exists():
            num += 1
    except OSError as error:
        raise AthanorError(
            f"Cannot keep what {file} holds as a backup: {error.strerror or error}. Shorten the name of its picture, or turn backup off."
        ) from error
    replace_atomically(backup, lambda temporary: _write(temporary, content))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names)
