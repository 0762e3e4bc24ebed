"""Taggers on disk: where their files are, and which tag each output stands for."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import TaggerError

GENERAL, CHARACTER, RATING = 0, 4, 9
"""Danbooru's category numbers, as `selected_tags.csv` has them; 9 is the WD taggers' own."""

MODEL_FILE, LABEL_FILE = "model.onnx", "selected_tags.csv"
_MAX_DEPTH = 4


@dataclass(frozen=True)
class TaggerFiles:
    """The two files of a tagger. `tagger_files` has seen both."""

    name: str
    model: Path
    labels: Path


@dataclass(frozen=True)
class Labels:
    """One tag for each output of a model, in the order of the outputs."""

    names: tuple[str, ...]
    """As the file has them, with underscores."""
    categories: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, category: int) -> tuple[int, ...]:
        """The outputs of one category, in ascending order. Files do not always keep categories in blocks."""
        return tuple(i for i, own in enumerate(self.categories) if own == category)


def find_taggers(roots: Sequence[Path]) -> dict[str, Path]:
    """All taggers below `roots` by name, sorted; of two with one name the one in the earlier root.

    A tagger is a folder with `model.onnx` and `selected_tags.csv` (the value is the folder), or two files `NAME.onnx` and
    `NAME.csv` (the value is the onnx file). The name is the path below its root, with `/`. Those that lack one of the two
    files are listed too: opening one says what is missing.
    """
    found: dict[str, Path] = {}
    for root in roots:
        for path in _taggers_below(root):
            name = (path if path.is_dir() else path.with_suffix("")).relative_to(root).as_posix()
            found.setdefault(root.name if name == "." else name, path)
    return dict(sorted(found.items(), key=lambda item: item[0].casefold()))


def _taggers_below(root: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(root, followlinks=True):
        path = Path(folder)
        deep = len(path.relative_to(root).parts) >= _MAX_DEPTH
        subfolders[:] = [] if deep else sorted(name for name in subfolders if not name.startswith("."))
        is_tagger = MODEL_FILE in files or LABEL_FILE in files
        if is_tagger:
            yield path
        for name in sorted(files):
            onnx = path / name
            if onnx.suffix.lower() == ".onnx" and not name.startswith(".") and (not is_tagger or f"{onnx.stem}.csv" in files):
                yield onnx


def pick_tagger(name: str, roots: Sequence[Path]) -> Path:
    """The tagger called `name`.

    Raises TaggerError that lists the known ones, or says where to put one when there is none.
    """
    taggers = find_taggers(roots)
    if name in taggers:
        return taggers[name]
    if taggers:
        raise TaggerError(f"There is no tagger {name!r}; choose one of: {', '.join(taggers)}.")
    folder = roots[0] if roots else Path("wd_taggers")
    raise TaggerError(
        f"There is no tagger {name!r} and no other one either. Put {MODEL_FILE} and {LABEL_FILE} of a WD tagger, for example of"
        f" SmilingWolf/wd-swinv2-tagger-v3 on Hugging Face, into {folder / 'wd-swinv2-tagger-v3'}."
    )


def tagger_files(path: Path) -> TaggerFiles:
    """The files of the tagger at `path`: a folder, or an onnx file with its csv beside it.

    Raises TaggerError that names every missing file and where to put it.
    """
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        files = TaggerFiles(path.stem, path, path.with_suffix(".csv"))
    else:
        files = TaggerFiles(path.name, path / MODEL_FILE, path / LABEL_FILE)
    missing = [file for file in (files.model, files.labels) if not file.is_file()]
    if missing:
        raise TaggerError(
            f"The tagger {files.name!r} is not complete: {' and '.join(file.name for file in missing)} is missing."
            f" Download it from where the model comes from and put it there: {', '.join(str(file) for file in missing)}"
        )
    return files


def load_labels(path: Path) -> Labels:
    """Labels of the tagger at `path`: its folder, its onnx file, or the csv itself.

    The csv has a header with at least `name` and `category`, one row for each output, in UTF-8.
    Raises TaggerError if it is missing or something else.
    """
    file = path if path.suffix.lower() == ".csv" and path.is_file() else tagger_files(path).labels
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines)
            if not {"name", "category"} <= set(rows.fieldnames or ()):
                raise TaggerError(
                    f"{file} is not the label file of a WD tagger: its first line should be tag_id,name,category,count"
                    f" but is {','.join(rows.fieldnames or ())[:80]!r}. Download it again from where the model comes from."
                )
            labels = [(row["name"], int(row["category"])) for row in rows]
    except OSError as error:
        raise TaggerError(f"Cannot read {file}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise TaggerError(f"{file} is not UTF-8 text (byte {error.start}). Download it again from where the model comes from.") from error
    except (ValueError, TypeError, csv.Error) as error:
        raise TaggerError(f"{file}, line {rows.line_num}: {error}. Every row needs a name and a number as its category.") from error
    if not labels:
        raise TaggerError(f"{file} has no tags below its header. Download it again from where the model comes from.")
    return Labels(tuple(name for name, _ in labels), tuple(category for _, category in labels))
