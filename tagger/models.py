"""Taggers on disk: where their files are, and of which kind each is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .deepdanbooru import read_torch_labels
from .errors import TaggerError
from .formats import CAMIE_V1, CAMIE_V2, CL, DEEPDANBOORU, DEEPGHS_OUTPUTS, JOYTAG, WD, TaggerFormat
from .known import DEEPDANBOORU_MODEL, KNOWN_TAGGERS, KnownTagger, known_tagger
from .labels import CAMIE_LABELS, CL_LABELS, JOYTAG_LABELS, WD_LABELS, Z3D_LABELS, Labels, read_labels
from .stages import PREPROCESS_FILE, read_preprocessing
from .thresholds import Thresholds, read_thresholds

MODEL_FILE, LABEL_FILE = "model.onnx", WD_LABELS
_LABEL_FILES = (CL_LABELS, JOYTAG_LABELS, Z3D_LABELS, WD_LABELS)
"""In the order in which they are looked for; Camie's, which has no fixed name, comes first."""
_OPTIMIZED = "model_optimized.onnx"
_MAX_DEPTH = 4
_NOT_DOWNLOADED = " (not downloaded)"


@dataclass(frozen=True)
class TaggerFiles:
    """The two files of a tagger, or twice the one that DeepDanbooru is. `tagger_files` has seen both."""

    name: str
    model: Path
    labels: Path


def find_taggers(roots: Sequence[Path]) -> dict[str, Path]:
    """All taggers below `roots` by name, sorted; of two with one name the one in the earlier root.

    A tagger is a folder with `model.onnx` or a label file that we know (the value is the folder), or two files such as `NAME.onnx`
    and `NAME.csv` (the value is the onnx file), or A1111's file of DeepDanbooru, alone or in a folder. The name is the path below its root, with `/`. Those that lack one of the two
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
        models = [name for name in sorted(files) if name.lower().endswith(".onnx") and not name.startswith(".")]
        is_tagger = MODEL_FILE in files or any(name in files for name in _LABEL_FILES) or _lone_camie(models, files)
        if is_tagger:
            yield path
        for name in models:
            if not is_tagger or f"{Path(name).stem}.csv" in files:
                yield path / name
        if DEEPDANBOORU_MODEL in files and not is_tagger:
            yield path / DEEPDANBOORU_MODEL if path == root else path


def _lone_camie(models: Sequence[str], files: Sequence[str]) -> bool:
    """A folder that holds `camie-tagger-v2.onnx` and its metadata and no other model."""
    return len(models) == 1 and [name for name in files if name.endswith(CAMIE_LABELS)] == [f"{Path(models[0]).stem}-{CAMIE_LABELS}"]


def tagger_choices(roots: Sequence[Path]) -> tuple[str, ...]:
    """For a drop-down: the taggers that are on this machine, then the known ones that are not, marked so."""
    taggers = find_taggers(roots)
    here = {known.name for name in taggers if (known := known_tagger(name))}
    return (*taggers, *(f"{known.name}{_NOT_DOWNLOADED}" for known in KNOWN_TAGGERS if known.name not in here))


def pick_tagger(name: str, roots: Sequence[Path]) -> Path:
    """The tagger called `name`, which is one of `tagger_choices`, with or without its mark, or another name of a known one.

    Raises TaggerError that lists the ones there are, or says which files to put where.
    """
    taggers, name = find_taggers(roots), name.removesuffix(_NOT_DOWNLOADED)
    if name in taggers:
        return taggers[name]
    folder = roots[0] if roots else Path("wd_taggers")
    if known := known_tagger(name):
        same = next((path for other, path in taggers.items() if known_tagger(other) is known), None)
        if same:
            return same
        raise TaggerError(f"The tagger {name!r} is not on this machine. {how_to_get(known, folder)}")
    if taggers:
        raise TaggerError(f"There is no tagger {name!r}; choose one of: {', '.join(taggers)}.")
    raise TaggerError(
        f"There is no tagger {name!r} and no other one either. Put {MODEL_FILE} and {LABEL_FILE} of a WD tagger, for example of"
        f" SmilingWolf/wd-swinv2-tagger-v3 on Hugging Face, into {folder / 'wd-swinv2-tagger-v3'}."
    )


def missing_tagger(name: str, roots: Sequence[Path]) -> KnownTagger | None:
    """The known tagger called `name` (as in `pick_tagger`) if it is not here, or not whole; None for all others."""
    known = known_tagger(name.removesuffix(_NOT_DOWNLOADED))
    if known is None:
        return None
    try:
        tagger_files(pick_tagger(name, roots))
    except TaggerError:
        return known
    return None


def how_to_get(known: KnownTagger, folder: Path) -> str:
    """Sentences on which file of which repository goes where, for an error. `folder` is the one for all taggers."""
    places = ", ".join(f"{file.path} as {folder / known.name / file.name}" for file in known.files)
    return f"Its files come from {known.source}: put {places}."


def tagger_files(path: Path) -> TaggerFiles:
    """The files of the tagger at `path`: a folder, or an onnx file with its labels beside it.

    Raises TaggerError that names every missing file and where to put it.
    """
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        files = TaggerFiles(path.stem, path, _flat_labels(path))
    elif path.suffix.lower() == ".pt" and not path.is_dir():
        files = TaggerFiles(path.stem, path, path)
    else:
        files = TaggerFiles(path.name, _model_in(path), _labels_in(path))
    missing = [file for file in dict.fromkeys((files.model, files.labels)) if not file.is_file()]
    if missing:
        known = known_tagger(files.name)
        source = f"from {known.source}" if known else "from where the model comes from"
        raise TaggerError(
            f"The tagger {files.name!r} is not complete: {' and '.join(file.name for file in missing)} is missing."
            f" Download it {source} and put it there: {', '.join(str(file) for file in missing)}"
        )
    return files


def _flat_labels(model: Path) -> Path:
    """Of `NAME.onnx`: `NAME.csv`, or a label file whose name starts with `NAME_` or `NAME-`."""
    usual = model.with_suffix(".csv")
    others = [model.with_name(f"{model.stem}{joint}{name}") for name in (*_LABEL_FILES, CAMIE_LABELS) for joint in "_-"]
    return next((file for file in (usual, *others) if file.is_file()), usual)


def _model_in(folder: Path) -> Path:
    usual = folder / MODEL_FILE
    if usual.is_file():
        return usual
    if (folder / _OPTIMIZED).is_file():
        return folder / _OPTIMIZED
    if _is_deepdanbooru(folder):
        return folder / DEEPDANBOORU_MODEL
    others = sorted(folder.glob("*.onnx"))
    return others[0] if len(others) == 1 else usual


def _is_deepdanbooru(folder: Path) -> bool:
    known = known_tagger(folder.name)
    return (folder / DEEPDANBOORU_MODEL).is_file() or (known is not None and known.format == DEEPDANBOORU)


def _labels_in(folder: Path) -> Path:
    if not (folder / MODEL_FILE).is_file() and not (folder / _OPTIMIZED).is_file() and _is_deepdanbooru(folder):
        return folder / DEEPDANBOORU_MODEL
    camie = sorted(folder.glob(f"*{CAMIE_LABELS}"))
    candidates = [*(folder / name for name in _LABEL_FILES), *camie]
    known = known_tagger(folder.name)
    usual = next((name for name in _LABEL_FILES if known and name in [file.name for file in known.files]), LABEL_FILE)
    return next((file for file in candidates if file.is_file()), folder / usual)


def load_labels(path: Path) -> Labels:
    """Labels of the tagger at `path`: its folder, its onnx file, or the label file itself. Raises TaggerError."""
    is_label_file = path.suffix.lower() in (".csv", ".json", ".txt") and path.is_file()
    file = path if is_label_file else tagger_files(path).labels
    return read_torch_labels(file) if file.suffix.lower() == ".pt" else read_labels(file)


def tagger_format(files: TaggerFiles) -> TaggerFormat:
    """What the model wants and gives: told by the files beside it, else by its name, else as the WD taggers. Raises TaggerError."""
    stages = files.labels.with_name(PREPROCESS_FILE)
    if stages.is_file():
        return TaggerFormat(stages.name, read_preprocessing(stages), "probabilities", DEEPGHS_OUTPUTS)
    name = files.labels.name.lower()
    if name.endswith(".pt"):
        return DEEPDANBOORU
    if name.endswith(CL_LABELS):
        return CL
    if name.endswith(JOYTAG_LABELS):
        return JOYTAG
    if name.endswith(".json"):
        return CAMIE_V2 if _is_second_camie(files.labels) else CAMIE_V1
    known = known_tagger(files.name)
    return known.format if known else WD


def own_thresholds(files: TaggerFiles) -> Thresholds | None:
    """What the makers of the model take tags from on; None if nobody says. Raises TaggerError for a broken file."""
    known = known_tagger(files.name)
    fallback = known.own_thresholds if known else Thresholds()
    found = read_thresholds(files.labels.parent, fallback)
    return found if known or found != fallback else None


def _is_second_camie(labels: Path) -> bool:
    try:
        return "dataset_info" in json.loads(labels.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise TaggerError(f"{labels} cannot be read: {error}. Download it again from where the model comes from.") from error
