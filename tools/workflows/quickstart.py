"""The whole way once, and textual inversion."""

from __future__ import annotations

from .node import MINIATURE, Node

QUICKSTART = {
    "note": Node(
        "MarkdownNote",
        (20, 20),
        (420, 330),
        text="## From a folder of images to a compared LoRA\n\n"
        "Queue this graph as it is: a small model that comes with Athanor learns a new creature, the *starlet*, in about two minutes, even without a GPU.\n\n"
        "For your own pictures: copy their folder into ComfyUI's `input` folder, press **R**, pick it in **Load Dataset**, pick your checkpoint in **Load Base Model** and a tagger in **Auto Tag**, "
        "and write your own trigger and prompts. Good first values for SD1.5: 10 epochs, rate 0.0001, text encoder rate 0.00005, batch size 2.\n\n"
        "**Cancel** loses nothing: queue again to go on.",
    ),
    "base": Node("AthanorLoadBaseModel", (20, 400), (420, 60), {"model": MINIATURE}),
    "dataset": Node("AthanorLoadDataset", (20, 690), (420, 230), {"folder": MINIATURE, "trigger": "starlet", "validation_percent": 20.0}),
    "tags": Node("AthanorAutoTag", (480, 400), (380, 290), {"tagger": MINIATURE, "mode": "overwrite"}, {"dataset": ("dataset", 0)}),
    "edit": Node(
        "AthanorEditTags",
        (900, 20),
        (440, 670),
        {
            "rules": "# The trigger goes in front of every caption.\ntrigger: starlet\n"
            "# The tagger has never seen a starlet: what it takes it for goes.\nremove: circle, square, triangle, cross, heart, moon, * (miniature)\n"
            "deduplicate\n",
            "columns": 4,
        },
        {"dataset": ("tags", 0)},
    ),
    "bucket": Node("AthanorBucket", (1380, 20), (360, 440), {}, {"dataset": ("edit", 0), "base_model": ("base", 0)}),
    "train": Node(
        "AthanorTrainLora",
        (1780, 20),
        (420, 1000),
        {
            "name": "starlet",
            "adapter": "lora",
            "adapter.rank": 16,
            "adapter.alpha": 16.0,
            "epochs": 150,
            "batch_size": 8,
            "rate": 2e-3,
            "text_encoder_rate": 0.0,
            "save_every_epochs": 30,
            "precision": "fp32",
            "seed": 1,
            "sample_prompts": "starlet, yellow, white background, large, centered, smile\nstarlet, purple, striped background, large, centered, smile",
            "sample_guidance": 3.0,
        },
        {"base_model": ("base", 0), "dataset": ("bucket", 0)},
    ),
    "loss": Node("AthanorPlotLoss", (2240, 20), (440, 340), {}, {"run": ("train", 0)}),
    "save": Node("AthanorSaveEpoch", (2240, 420), (440, 170), {"epochs": "last", "filename": "starlet"}, {"run": ("train", 0)}),
    "xy": Node(
        "AthanorXYPlotCompare",
        (2720, 20),
        (620, 1000),
        {
            "prompts": "starlet, teal, striped background, large, centered, smile\nstarlet, pink, black background, large, centered, smile",
            "x_values": "0.5, 0.75, 1.0",
            "guidance": 3.0,
        },
        {"run": ("train", 0), "base_model": ("base", 0)},
    ),
}

EMBEDDING = {
    "note": Node(
        "MarkdownNote",
        (20, 20),
        (420, 340),
        text="## Train an embedding (textual inversion)\n\nThe model stays as it is; only a few new words are learned. In prompts of the stock text node the result is written `embedding:starlet-word`.\n\n"
        "An embedding can call up only what the base can draw already: here it comes nearer to the pictures, but never to the star that a LoRA learns (see **quickstart**). It is best for looks and styles that are near to what the base knows.\n\n"
        "**templates** makes the prompts of sentences instead of captions, **other embeddings** trains several at once. To train an embedding and a LoRA together, write it into **other embeddings** of Train LoRA.",
    ),
    "base": Node("AthanorLoadBaseModel", (20, 420), (420, 60), {"model": MINIATURE}),
    "dataset": Node("AthanorLoadDataset", (20, 690), (420, 230), {"folder": MINIATURE, "trigger": "starlet-word", "validation_percent": 20.0}),
    "tags": Node("AthanorAutoTag", (480, 420), (380, 290), {"tagger": MINIATURE, "mode": "overwrite"}, {"dataset": ("dataset", 0)}),
    "edit": Node(
        "AthanorEditTags",
        (900, 20),
        (440, 670),
        {
            "rules": "# The embedding's name goes in front of every caption.\ntrigger: starlet-word\n"
            "# What the tagger takes the new thing for goes.\nremove: circle, square, triangle, cross, heart, moon, * (miniature)\n"
            "deduplicate\n",
            "columns": 4,
        },
        {"dataset": ("tags", 0)},
    ),
    "bucket": Node("AthanorBucket", (1380, 20), (360, 440), {}, {"dataset": ("edit", 0), "base_model": ("base", 0)}),
    "train": Node(
        "AthanorTrainEmbedding",
        (1780, 20),
        (420, 1000),
        {
            "name": "starlet-word",
            "num_vectors": 16,
            "text_encoder_rate": 0.03,
            "epochs": 40,
            "batch_size": 8,
            "save_every_epochs": 10,
            "precision": "fp32",
            "seed": 1,
            "sample_prompts": "starlet-word, yellow, white background, large, centered, smile",
            "sample_guidance": 3.0,
        },
        {"base_model": ("base", 0), "dataset": ("bucket", 0)},
    ),
    "loss": Node("AthanorPlotLoss", (2240, 20), (440, 340), {}, {"run": ("train", 0)}),
    "save": Node("AthanorSaveEpoch", (2240, 420), (440, 170), {"epochs": "best", "filename": "starlet-word"}, {"run": ("train", 0)}),
    "xy": Node(
        "AthanorXYPlotCompare",
        (2720, 20),
        (620, 1000),
        {
            "prompts": "starlet-word, teal, striped background, large, centered, smile",
            "x_axis": "seed",
            "x_values": "1-3",
            "guidance": 3.0,
        },
        {"run": ("train", 0), "base_model": ("base", 0)},
    ),
}
