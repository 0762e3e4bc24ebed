"""A whole model taught one thing, with class images that keep the rest."""

from __future__ import annotations

from dataclasses import replace

from .node import Node
from .quickstart import QUICKSTART

DREAMBOOTH = {
    **{key: node for key, node in QUICKSTART.items() if key not in ("note", "train", "loss", "save", "xy")},
    "note": Node(
        "MarkdownNote",
        (20, 20),
        (420, 350),
        text="## DreamBooth with prior preservation\n\n"
        "**Train Checkpoint** teaches the model itself one thing. **Prior Settings** keeps the others of its kind: the base draws class images before the training, and they are trained with the pictures.\n\n"
        "In the comparison the first page should show the starlet, and the second still a circle, as the bare model draws it.\n\n"
        "For your own pictures: write what your subject is an example of into **class prompts** (*a photo of a dog*), as many class images as pictures, rate 0.000002, and 800 to 1500 steps. "
        "An epoch is a file as large as the model; **Save Epoch** puts it into `models/checkpoints`.",
    ),
    "prior": Node(
        "AthanorPriorSettings",
        (1380, 520),
        (360, 480),
        {
            "draw_class_images": "on",
            "draw_class_images.class_images": 12,
            "draw_class_images.class_prompts": "circle, yellow, white background, large, centered, smile\n"
            "square, purple, striped background, large, centered, smile\n"
            "cross, teal, black background, large, centered, smile",
            "draw_class_images.class_guidance": 3.0,
        },
    ),
    "train": Node(
        "AthanorTrainCheckpoint",
        (1780, 20),
        (420, 1000),
        {
            "name": "starlet-model",
            "rate": 5e-4,
            "epochs": 90,
            "batch_size": 8,
            "save_every_epochs": 30,
            "precision": "fp32",
            "seed": 1,
            "sample_prompts": "starlet, yellow, white background, large, centered, smile\ncircle, yellow, white background, large, centered, smile",
            "sample_guidance": 3.0,
        },
        {"base_model": ("base", 0), "dataset": ("bucket", 0), "settings": ("prior", 0)},
    ),
    "loss": QUICKSTART["loss"],
    "save": replace(QUICKSTART["save"], values={"epochs": "last", "filename": "starlet-model"}),
    "xy": replace(
        QUICKSTART["xy"],
        values={
            "prompts": "starlet, teal, striped background, large, centered, smile\ncircle, teal, striped background, large, centered, smile",
            "x_axis": "seed",
            "x_values": "1-3",
            "guidance": 3.0,
        },
    ),
}
