"""What a dataset file of sd-scripts (`--dataset_config`, TOML or JSON) says, each level inheriting from the one above."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import AthanorError, raise_problems
from ..settings import CaptionOverrides, CaptionSettings, DataOverrides, DataSettings, range_problems
from ..settings.data import RESIZE_WORDS
from .captions import caption_extension
from .found import MAX_REPEATS
from .metadata import read_text
from .notes import value_told

_TEXT, _NUMBER, _FLAG, _SHARE, _PAIR, _TABLE = "text", "a whole number", "true or false", "a number", "a number or a pair of numbers", "a table"

Overrides = TypeVar("Overrides")

# What the Dataset carries.
_APPLIED = {
    "num_repeats": _NUMBER,
    "class_tokens": _TEXT,
    "caption_extension": _TEXT,
    "caption_prefix": _TEXT,
    "caption_suffix": _TEXT,
    "alpha_mask": _FLAG,
    "validation_split": _SHARE,
}
_APPLIED_TO_SUBSETS = {"image_dir": _TEXT, "is_reg": _FLAG, "metadata_file": _TEXT, "conditioning_data_dir": _TEXT}
# What other nodes decide.
_OF_BUCKET = {
    "resolution": _PAIR,
    "enable_bucket": _FLAG,
    "min_bucket_reso": _NUMBER,
    "max_bucket_reso": _NUMBER,
    "bucket_reso_steps": _NUMBER,
    "bucket_no_upscale": _FLAG,
}
_OF_TRAINING = {"batch_size": _NUMBER, "network_multiplier": _SHARE}
# What changes nothing here: a cache, and a seed of the drawing that our choice by name does without.
_WITHOUT_EFFECT = {"cache_info": _FLAG, "validation_seed": _NUMBER}
# What the Dataset carries to the training, by the names of CaptionOverrides and DataOverrides.
_OF_CAPTIONS = {
    "shuffle_caption": (_FLAG, "shuffle"),
    "keep_tokens": (_NUMBER, "keep_tokens"),
    "keep_tokens_separator": (_TEXT, "keep_tokens_separator"),
    "secondary_separator": (_TEXT, "secondary_separator"),
    "caption_separator": (_TEXT, "separator"),
    "enable_wildcard": (_FLAG, "wildcards"),
    "caption_dropout_rate": (_SHARE, "dropout"),
    "caption_dropout_every_n_epochs": (_NUMBER, "dropout_every_epochs"),
    "caption_tag_dropout_rate": (_SHARE, "tag_dropout"),
    "token_warmup_min": (_NUMBER, "tag_warmup_start"),
    "token_warmup_step": (_SHARE, "tag_warmup"),
}
_OF_VIEWS = {
    "color_aug": (_FLAG, "colors"),
    "flip_aug": (_FLAG, "mirror"),
    "random_crop": (_FLAG, "random_crop"),
    "resize_interpolation": (_TEXT, "resize"),
}
# What would train something else if it were left out: refused, unless it is empty.
_REFUSED = {
    "face_crop_aug_range": (_PAIR, "images are not cut around faces at random; take it out, and let the Bucket node cut to faces instead."),
    "custom_attributes": (_TABLE, "it is not known here what they do; take them out."),
}
_CARRIED = {key: kind for key, (kind, _) in {**_OF_CAPTIONS, **_OF_VIEWS}.items()}
_INHERITED = {**_APPLIED, **_CARRIED, **_OF_BUCKET, **_OF_TRAINING, **_WITHOUT_EFFECT, **{key: kind for key, (kind, _) in _REFUSED.items()}}
_IN_SUBSETS = {key: kind for key, kind in _INHERITED.items() if key not in _OF_BUCKET and key not in _OF_TRAINING} | _APPLIED_TO_SUBSETS


@dataclass(frozen=True)
class Subset:
    """One folder of a dataset file, with everything that it inherits."""

    where: str
    """For messages: "dataset 1, subset 2"."""
    group: int
    """Subsets of one `[[datasets]]` are counted together where regularization images are repeated."""
    image_dir: Path | None
    metadata_file: Path | None
    mask_dir: Path | None
    alpha_mask: bool
    num_repeats: int
    is_reg: bool
    class_tokens: str
    caption_extension: str | None
    """None where the file says nothing of it."""
    caption_prefix: str
    caption_suffix: str
    validation_percent: float | None
    captioning: CaptionOverrides | None
    viewing: DataOverrides | None
    """Both None where the file says nothing of what they hold."""


@dataclass(frozen=True)
class Definition:
    subsets: tuple[Subset, ...]
    notes: tuple[str, ...]

    @property
    def places(self) -> tuple[Path, ...]:
        """All folders and lists that are read."""
        named = [path for subset in self.subsets for path in (subset.image_dir, subset.mask_dir, subset.metadata_file) if path is not None]
        return tuple(dict.fromkeys(named))


def read_definition(file: Path) -> Definition:
    """Reads a dataset file; nothing but it is opened. Relative folders are taken from where the file lies.

    Keys that are set in other nodes are named in the notes.
    Raises InvalidJobError with all that is wrong at once: unknown keys and those that cannot be honoured, wrong types, a subset without a folder.
    """
    data = _parsed(file)
    problems = [f"{file.name}: unknown section {name!r}; known are general and datasets." for name in data if name not in ("general", "datasets")]
    general = _table(data.get("general", {}), f"{file.name}, general", _INHERITED, problems)
    subsets = []
    for number, entry in enumerate(_list(data.get("datasets"), f"{file.name}: datasets", problems), 1):
        where = f"dataset {number}"
        dataset = _table(entry, f"{file.name}, {where}", {**_INHERITED, "subsets": "a list"}, problems)
        for count, each in enumerate(_list(dataset.pop("subsets", None), f"{file.name}, {where}: subsets", problems), 1):
            subset = _table(each, f"{file.name}, {where}, subset {count}", _IN_SUBSETS, problems)
            subsets.append(_subset({**general, **dataset, **subset}, f"{where}, subset {count}", number, file, problems))
    raise_problems(problems)
    return Definition(tuple(subsets), tuple(_notes(file, data)))


def is_definition(file: Path) -> bool:
    """Whether a .json file is a dataset file of sd-scripts rather than metadata; a .toml file always is."""
    if file.suffix.lower() == ".toml":
        return True
    if file.suffix.lower() != ".json":
        return False
    data = _json(file)
    return isinstance(data, dict) and isinstance(data.get("datasets"), list)


def _parsed(file: Path) -> dict[str, Any]:
    data = _toml(file) if file.suffix.lower() == ".toml" else _json(file)
    if not isinstance(data, dict):
        raise AthanorError(f"{file} is no dataset file: it holds no sections.")
    return data


def _toml(file: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        try:
            import tomli as tomllib  # type: ignore[no-redef]
        except ImportError:
            raise AthanorError(
                f"{file.name} cannot be read: Python 3.10 knows no TOML. Install tomli (pip install tomli), or save the same settings as JSON."
            ) from None
    try:
        return tomllib.loads(read_text(file).replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        advice = r" Windows paths need 'single quotes' or /." if "escape" in str(error).lower() or "hex" in str(error).lower() else ""
        advice = " Text needs quotes, and true and false are written small." if "invalid value" in str(error).lower() else advice
        raise AthanorError(f"{file.name} is not valid TOML: {error}.{advice}") from None


def _json(file: Path) -> Any:
    try:
        return json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise AthanorError(f"{file.name} is not valid JSON: {error}.") from None


def _list(value: Any, where: str, problems: list[str]) -> list[Any]:
    if not isinstance(value, list) or not value:
        problems.append(f"{where} is missing or empty; at least one [[datasets]] with one [[datasets.subsets]] is needed.")
        return []
    return value


def _table(value: Any, where: str, known: dict[str, str], problems: list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        problems.append(f"{where} must be a table of settings, not {value_told(value)}.")
        return {}
    for key, each in value.items():
        if key not in known:
            level = " It belongs into [[datasets.subsets]]." if key in _APPLIED_TO_SUBSETS else ""
            level = level or (" It belongs into [[datasets]] or [general]." if key in _INHERITED else "")
            problems.append(f"{where}: unknown setting {key!r}.{level}")
        elif key != "subsets" and not _fits(each, known[key]):
            problems.append(f"{where}: {key} must be {known[key]}, not {value_told(each)}.")
        elif key in _REFUSED and each not in ({}, []):
            problems.append(f"{where}: {key} is set, but {_REFUSED[key][1]}")
    return {key: each for key, each in value.items() if key in known and (key == "subsets" or _fits(each, known[key]))}


def _fits(value: Any, kind: str) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == _PAIR:
        return is_number or (isinstance(value, list) and len(value) == 2 and all(_fits(each, _SHARE) for each in value))
    if kind == _SHARE:
        return is_number
    if kind == _NUMBER:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {_TEXT: str, _FLAG: bool, _TABLE: dict}[kind])


def _subset(settings: dict[str, Any], where: str, group: int, file: Path, problems: list[str]) -> Subset:
    def path(key: str) -> Path | None:
        text = settings.get(key, "").strip().replace("\\", "/")
        return file.parent / text if text else None

    repeats, split, extension = settings.get("num_repeats", 1), settings.get("validation_split"), settings.get("caption_extension")
    if path("image_dir") is None and path("metadata_file") is None:
        problems.append(f"{file.name}, {where}: image_dir is missing; give the folder of the images.")
    for key in ("image_dir", "metadata_file", "conditioning_data_dir"):
        if any("\0" < char < " " for char in settings.get(key, "").strip()):
            advice = r"a \ in double quotes begins a special character. Write Windows paths in 'single quotes', or with /."
            problems.append(f"{file.name}, {where}: {key} is {settings[key]!r}: {advice}")
    if not 1 <= repeats <= MAX_REPEATS:
        problems.append(f"{file.name}, {where}: num_repeats is {repeats}; it must be from 1 to {MAX_REPEATS:,}.")
    if split is not None and not 0 <= split <= 1:
        problems.append(f"{file.name}, {where}: validation_split is {split}; it must be from 0 to 1.")
    if extension is not None:
        try:
            extension = caption_extension(extension)
        except AthanorError as error:
            problems.append(f"{file.name}, {where}: {error}")
    return Subset(
        where,
        group,
        path("image_dir"),
        path("metadata_file"),
        path("conditioning_data_dir"),
        settings.get("alpha_mask", False),
        repeats,
        settings.get("is_reg", False),
        settings.get("class_tokens", "").strip(),
        extension,
        settings.get("caption_prefix", "").strip(),
        settings.get("caption_suffix", "").strip(),
        None if split is None else 100 * split,
        _overrides(CaptionOverrides, CaptionSettings, _OF_CAPTIONS, settings, f"{file.name}, {where}", problems),
        _overrides(DataOverrides, DataSettings, _OF_VIEWS, settings, f"{file.name}, {where}", problems),
    )


def _overrides(
    kind: type[Overrides], limits: type, keys: dict[str, tuple[str, str]], settings: dict[str, Any], where: str, problems: list[str]
) -> Overrides | None:
    """What `settings` says of `keys`, checked against the ranges of the settings class `limits`."""
    said = {name: float(settings[key]) if type_ == _SHARE else settings[key] for key, (type_, name) in keys.items() if key in settings}
    if "resize" in said:
        word = said["resize"].lower() or "auto"
        said["resize"] = RESIZE_WORDS.get(word, word)
    if not said:
        return None
    problems += range_problems(limits(**said), where)
    return kind(**said)


def _notes(file: Path, data: dict[str, Any]) -> Iterable[str]:
    """On the settings that do nothing here."""
    datasets = data["datasets"]
    tables = [data.get("general", {}), *datasets, *(subset for dataset in datasets for subset in dataset["subsets"])]
    used = {key for table in tables for key in table}
    if of_bucket := [key for key in _OF_BUCKET if key in used]:
        yield f"{file.name} has sizes that are set in the Bucket node instead: {', '.join(of_bucket)}."
    if of_training := [key for key in _OF_TRAINING if key in used]:
        yield f"{file.name} has settings that are made in the training node instead: {', '.join(of_training)}."
