"""The tags of the miniature's world as a WD tagger knows them: names with underscores, and Danbooru's categories."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from . import world

GENERAL, CHARACTER, RATING = 0, 4, 9
RATINGS = ("general", "sensitive", "questionable", "explicit")
CHARACTERS = {
    "smiley_(miniature)": ("circle", "yellow"),
    "sweetheart_(miniature)": ("heart", "pink"),
}
"""Shape and colour of those who have a name; without a smile they are nobody."""

_GENERAL_TAGS = (*world.SHAPES, *world.COLOURS, *world.BACKGROUNDS, *world.SIZES, *world.POSITIONS, world.FACE_TAG)
LABELS = (
    *((name, RATING) for name in RATINGS),
    *((tag.replace(" ", "_"), GENERAL) for tag in _GENERAL_TAGS),
    *((name, CHARACTER) for name in CHARACTERS),
)
"""Name and category of each output of the tagger."""
ATTRIBUTES = {
    "rating": frozenset(RATINGS),
    "shape": frozenset(world.SHAPES),
    "colour": frozenset(world.COLOURS),
    "background": frozenset(tag.replace(" ", "_") for tag in world.BACKGROUNDS),
    "size": frozenset(world.SIZES),
    "position": frozenset(tag.replace(" ", "_") for tag in world.POSITIONS),
    "smile": frozenset({world.FACE_TAG}),
    "character": frozenset(CHARACTERS),
}
"""The labels by what they speak of."""


def characters(scene: world.Scene) -> tuple[str, ...]:
    return tuple(name for name, looks in CHARACTERS.items() if scene.face and (scene.shape, scene.colour) == looks)


def labels_of(scene: world.Scene) -> frozenset[str]:
    """All labels that are true of a scene; a shape that the tagger does not know has none."""
    names = {name for name, _ in LABELS}
    return frozenset({RATINGS[0], *characters(scene), *(tag.replace(" ", "_") for tag in scene.tags())} & names)


def write_labels(file: Path, scenes: Sequence[world.Scene]) -> None:
    """`selected_tags.csv`; the counts are those of the pictures that the tagger has learned from."""
    shown = [labels_of(scene) for scene in scenes]
    with file.open("w", encoding="utf-8", newline="") as lines:
        rows = csv.writer(lines, lineterminator="\n")
        rows.writerow(("tag_id", "name", "category", "count"))
        for tag_id, (name, category) in enumerate(LABELS):
            rows.writerow((tag_id, name, category, sum(name in labels for labels in shown)))
