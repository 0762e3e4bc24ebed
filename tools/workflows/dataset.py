"""From raw pictures to a dataset."""

from __future__ import annotations

from .node import MINIATURE, Node

CHARACTER_DATASET = {
    "note": Node(
        "MarkdownNote",
        (20, 20),
        (420, 400),
        text="## Prepare a character dataset\n\n"
        "From a folder of raw images to one that can be trained: load, tag, edit the tags, sort into sizes, and save. Queue it as it is: the images and the small tagger come with Athanor.\n\n"
        "**For your own character**: copy the folder into ComfyUI's `input`, press **R**, pick it in **Load Dataset**, pick a tagger such as `wd-swinv2-tagger-v3` in **Auto Tag**, and write your trigger.\n\n"
        "**preset: character** takes out what the character always looks like, so that the trigger learns it. The report says what went, and why.\n\n"
        "Nothing is written to your folder. To keep the result, turn **write** on in **Save Captions**.",
    ),
    "dataset": Node(
        "AthanorLoadDataset",
        (20, 470),
        (420, 420),
        {"folder": MINIATURE, "trigger": "starlet", "validation_percent": 20.0, "near_duplicates": True},
    ),
    "tags": Node("AthanorAutoTag", (490, 20), (400, 640), {"tagger": MINIATURE, "mode": "overwrite"}, {"dataset": ("dataset", 0)}),
    "edit": Node(
        "AthanorEditTags",
        (940, 20),
        (480, 870),
        {
            "rules": "preset: character\n"
            "# What this small tagger takes the creature for, and what it always does.\n"
            "remove: circle, square, triangle, cross, heart, moon, smile\n"
            "trigger: starlet\n",
            "columns": 4,
            "max_images": 12,
        },
        {"dataset": ("tags", 0)},
    ),
    "edit report": Node("PreviewAny", (490, 710), (400, 180), {}, {"source": ("edit", 2)}),
    "bucket": Node(
        "AthanorBucket",
        (1470, 20),
        (420, 870),
        {"resolution": 64, "fixed_width": 48, "fixed_height": 64, "step": 8, "crop": "edges"},
        {"dataset": ("edit", 0)},
    ),
    "sheet": Node("PreviewImage", (1940, 20), (620, 400), {}, {"images": ("bucket", 3)}),
    "save": Node(
        "AthanorSaveCaptions",
        (1940, 470),
        (620, 280),
        {"folder": "starlet-prepared", "pictures": "as trained"},
        {"dataset": ("bucket", 0)},
    ),
}
