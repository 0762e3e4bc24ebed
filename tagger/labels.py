"""Which tag each output of a tagger stands for, read from the file beside its model, whichever of the usual ones it is."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .categories import GENERAL, category
from .errors import TaggerError

WD_LABELS, Z3D_LABELS, CL_LABELS, JOYTAG_LABELS, CAMIE_LABELS = (
    "selected_tags.csv",
    "tags-selected.csv",
    "tag_mapping.json",
    "top_tags.txt",
    "metadata.json",
)
"""How the file is called. Camie's has something before that name."""

_AGAIN = "Download it again from where the model comes from."


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


def read_labels(file: Path) -> Labels:
    """The labels in `file`: a csv with the columns `name` and `category`, a JSON as cl_tagger or Camie have it, or a text with a tag in each line.

    Raises TaggerError if it is missing, empty or something else.
    """
    try:
        if file.suffix.lower() == ".csv":
            labels = _from_csv(file)
        elif file.suffix.lower() == ".json":
            labels = _from_json(file)
        else:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
            labels = [(name, GENERAL) for line in lines if (name := line.strip())]
    except OSError as error:
        raise TaggerError(f"Cannot read {file}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise TaggerError(f"{file} is not UTF-8 text (byte {error.start}). {_AGAIN}") from error
    if not labels:
        raise TaggerError(f"{file} has no tags{' below its header' if file.suffix.lower() == '.csv' else ''}. {_AGAIN}")
    return Labels(tuple(name for name, _ in labels), tuple(number for _, number in labels))


def _from_csv(file: Path) -> list[tuple[str, int]]:
    is_e621 = file.name.lower().endswith(Z3D_LABELS)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines)
        first = rows.fieldnames or ()
        rows.fieldnames = [column.strip().casefold() for column in first]
        if not {"name", "category"} <= set(rows.fieldnames):
            raise TaggerError(
                f"{file} is not the label file of a WD tagger: its first line should be tag_id,name,category,count"
                f" but is {','.join(first)[:80]!r}. {_AGAIN}"
            )
        try:
            return [((row["name"] or "").strip(), category(row["category"] or "nothing", is_e621=is_e621)) for row in rows]
        except UnicodeDecodeError:
            raise
        except (ValueError, AttributeError, csv.Error) as error:
            raise TaggerError(f"{file}, line {rows.line_num}: {error}. Every row needs a name and a category.") from error


def _from_json(file: Path) -> list[tuple[str, int]]:
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise TaggerError(f"{file} is not whole JSON: {error}. {_AGAIN}") from error
    try:
        return _camie_labels(data) or _cl_labels(data)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise TaggerError(
            f"{file} is not the label file of a tagger ({type(error).__name__}: {error}): expected is a number for each tag with its `tag` and"
            f" `category`, as cl_tagger has it, or `idx_to_tag` and `tag_to_category`, as Camie has it. {_AGAIN}"
        ) from error


def _cl_labels(data: Mapping[str, Mapping[str, str]]) -> list[tuple[str, int]]:
    """From {"0": {"tag": …, "category": "General"}, …}."""
    return _in_order({int(number): (entry["tag"], category(str(entry["category"]))) for number, entry in data.items()})


def _camie_labels(data: Mapping) -> list[tuple[str, int]]:
    """From `idx_to_tag` and `tag_to_category`, at the top (v1) or in dataset_info.tag_mapping (v2); none if they are not there."""
    mapping = data["dataset_info"]["tag_mapping"] if "dataset_info" in data else data
    if "idx_to_tag" not in mapping:
        return []
    categories = mapping["tag_to_category"]
    return _in_order({int(number): (tag, category(str(categories.get(tag, "general")))) for number, tag in mapping["idx_to_tag"].items()})


def _in_order(labels: Mapping[int, tuple[str, int]]) -> list[tuple[str, int]]:
    if sorted(labels) != list(range(len(labels))):
        raise ValueError(f"the numbers of its {len(labels)} tags have gaps")
    return [labels[number] for number in range(len(labels))]
