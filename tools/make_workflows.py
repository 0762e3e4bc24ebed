"""Writes example_workflows/*.json: `python tools/make_workflows.py http://127.0.0.1:8188` with a ComfyUI running.

A saved workflow keeps widget values by position; written by hand they go wrong with the first new widget. Here they are
written by name, and the positions come from the running server's /object_info.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow_api import DYNAMIC_COMBO

FOLDER = Path(__file__).resolve().parent.parent / "example_workflows"
MINIATURE = "Athanor miniature (built in)"
_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")

Link = tuple[str, int]
"""A node's key and the number of its output."""


@dataclass
class Node:
    type: str
    at: tuple[int, int]
    size: tuple[int, int]
    values: dict[str, Any] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    text: str = ""
    """Of a note."""


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
    "dataset": Node("AthanorLoadDataset", (20, 520), (420, 230), {"folder": MINIATURE, "trigger": "starlet", "validation_percent": 20.0}),
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

_BELOW = 1120
"""Where the row of results begins, below the training."""


COMPARE_EPOCHS = {
    **{key: node for key, node in QUICKSTART.items() if key not in ("note", "loss", "save", "xy")},
    "note": Node(
        "MarkdownNote",
        (20, 20),
        (420, 350),
        text="## Compare the epochs of a run\n\n"
        "Which epoch is the good one? **XY Plot Compare** shows each at three strengths beside the bare model, **Score Epochs** measures them on pictures that were held out, "
        "**Plot Loss** tells how the training went, and **Save Epoch** keeps the one that scores best.\n\n"
        "It runs as it is. For a run that is there already, also one of another trainer, put **Load Run** in the place of everything to the left of the results.\n\n"
        "Few pictures are held out here, so the scores may well say *no decisive winner*: then your eyes decide. Write the number of your choice into **Save Epoch**.",
    ),
    "scores": Node(
        "AthanorScoreEpochs",
        (20, _BELOW),
        (620, 900),
        {"tagger": MINIATURE, "guidance": 3.0},
        {"run": ("train", 0), "base_model": ("base", 0)},
    ),
    "table": Node("PreviewAny", (680, _BELOW), (660, 400), {}, {"source": ("scores", 2)}),
    "save": Node("AthanorSaveEpoch", (680, _BELOW + 460), (420, 170), {"epochs": "best by likeness", "filename": "starlet"}, {"run": ("scores", 0)}),
    "loss": Node("AthanorPlotLoss", (1380, _BELOW), (560, 440), {}, {"run": ("train", 0)}),
    "xy": Node(
        "AthanorXYPlotCompare",
        (1980, _BELOW),
        (720, 1100),
        {
            "prompts": "starlet, teal, striped background, large, centered, smile",
            "x_values": "0.5, 0.75, 1.0",
            "guidance": 3.0,
        },
        {"run": ("train", 0), "base_model": ("base", 0)},
    ),
}


def _rank(node: Node, name: str, rank: int, at: tuple[int, int]) -> Node:
    values = {**node.values, "name": name, "adapter.rank": rank, "adapter.alpha": float(rank), "epochs": 90}
    return Node(node.type, at, node.size, values, node.links)


TWO_RUNS = {
    **{key: node for key, node in QUICKSTART.items() if key not in ("note", "train", "loss", "save", "xy")},
    "note": Node(
        "MarkdownNote",
        (20, 20),
        (420, 330),
        text="## A/B: two runs side by side\n\n"
        "Two trainings that differ in one thing, here the rank, are drawn with the same prompt and seed: columns are runs, rows are epochs. **Plot Loss** draws both into one picture.\n\n"
        "Change **one** thing between the two trainings, and leave the held-out pictures the same: then the losses can be compared too.\n\n"
        "For runs that are there already, or those of another trainer, put two **Load Run** in the place of the trainings. More than two: write their names into the X values, one a line.",
    ),
    "train a": _rank(QUICKSTART["train"], "starlet rank 4", 4, (1780, 20)),
    "train b": _rank(QUICKSTART["train"], "starlet rank 16", 16, (2240, 20)),
    "loss": Node("AthanorPlotLoss", (1780, _BELOW), (880, 900), {}, {"run": ("train a", 0), "run_2": ("train b", 0)}),
    "xy": Node(
        "AthanorXYPlotCompare",
        (2720, 20),
        (720, 1100),
        {
            "prompts": "starlet, teal, striped background, large, centered, smile",
            "x_axis": "run",
            "x_values": "",
            "y_axis": "epoch",
            "y_values": "all",
            "baseline": False,
            "guidance": 3.0,
        },
        {"run": ("train a", 0), "run_2": ("train b", 0), "base_model": ("base", 0)},
    ),
}

EMBEDDING = {
    "note": Node(
        "MarkdownNote",
        (20, 20),
        (420, 260),
        text="## Textual inversion\n\nThe model stays as it is; only a few new words are learned. In prompts of the stock text node the result is written `embedding:name`.\n\n"
        "An embedding can call up only what the base can draw already, so it is best for looks and styles that are near to what the base knows.",
    ),
    "base": Node("AthanorLoadBaseModel", (20, 330), (420, 60), {"model": MINIATURE}),
    "dataset": Node("AthanorLoadDataset", (20, 450), (420, 230), {"folder": MINIATURE, "trigger": "starlet-word", "validation_percent": 20.0}),
    "bucket": Node("AthanorBucket", (480, 330), (360, 440), {}, {"dataset": ("dataset", 0), "base_model": ("base", 0)}),
    "train": Node(
        "AthanorTrainEmbedding",
        (880, 20),
        (420, 900),
        {
            "name": "starlet-word",
            "num_vectors": 4,
            "initial_words": "yellow cross smile",
            "epochs": 20,
            "batch_size": 8,
            "save_every_epochs": 5,
            "precision": "fp32",
            "sample_prompts": "starlet-word, white background",
            "sample_guidance": 3.0,
        },
        {"base_model": ("base", 0), "dataset": ("bucket", 0)},
    ),
    "loss": Node("AthanorPlotLoss", (1340, 20), (440, 340), {}, {"run": ("train", 0)}),
    "save": Node("AthanorSaveEpoch", (1340, 420), (440, 170), {"epochs": "best", "filename": "starlet-word"}, {"run": ("train", 0)}),
}


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


FLUX_LORA = {
    "note": Node(
        "MarkdownNote",
        (20, 20),
        (460, 560),
        text="## Train a FLUX LoRA on 16 GB\n\n"
        "The small model that comes with Athanor is chosen, so that this opens on every machine. **Choose your own first**, in **Load Base Model**:\n\n"
        "- **model**: `flux1-dev.safetensors` (or its fp8 file) from `models/diffusion_models`, or an all-in-one checkpoint\n"
        "- **text encoders**: `clip_l.safetensors` and `t5xxl_fp16.safetensors` (or fp8) from `models/text_encoders`\n"
        "- **vae**: `ae.safetensors` from `models/vae`\n\n"
        "An all-in-one checkpoint has these inside. Then pick your folder in **Load Dataset**, write your trigger, and describe the pictures in whole sentences: FLUX reads sentences, not tags.\n\n"
        "**Why it fits**: pictures of 512 px, one at a time; the text encoders and the VAE leave the memory before the transformer comes; the text encoder is not trained. "
        "15 to 30 pictures and 1,000 to 2,000 steps are usual; the epochs here suit 20 pictures.\n\n"
        "The guidance of sample pictures is FLUX's own, 3.5 is usual; the negative prompt is not seen.",
    ),
    "base": Node("AthanorLoadBaseModel", (20, 640), (460, 60), {"model": MINIATURE}),
    "dataset": Node("AthanorLoadDataset", (540, 20), (420, 420), {"folder": MINIATURE, "trigger": "starlet", "validation_percent": 10.0}),
    "bucket": Node("AthanorBucket", (1020, 20), (420, 700), {"resolution": 512}, {"dataset": ("dataset", 0), "base_model": ("base", 0)}),
    "train": Node(
        "AthanorTrainLora",
        (1500, 20),
        (420, 1000),
        {
            "name": "my-flux-lora",
            "adapter": "lora",
            "adapter.rank": 16,
            "adapter.alpha": 16.0,
            "epochs": 80,
            "batch_size": 1,
            "rate": 1e-4,
            "text_encoder_rate": 0.0,
            "save_every_epochs": 10,
            "precision": "bf16",
            "seed": 1,
            "sample_prompts": "starlet, a portrait in soft morning light",
            "sample_guidance": 3.5,
        },
        {"base_model": ("base", 0), "dataset": ("bucket", 0)},
    ),
    "loss": Node("AthanorPlotLoss", (1980, 20), (440, 340), {}, {"run": ("train", 0)}),
    "save": Node("AthanorSaveEpoch", (1980, 420), (440, 170), {"epochs": "last", "filename": "my-flux-lora"}, {"run": ("train", 0)}),
}


def _training(base: dict[str, Node], name: str, batch_size: int, size: str) -> dict[str, Node]:
    """From `base`, whose node "base" gives the base model, to a saved LoRA."""
    return {
        **base,
        "dataset": Node("AthanorLoadDataset", (20, 900), (420, 230), {"folder": MINIATURE, "trigger": "starlet", "validation_percent": 10.0}),
        "bucket": Node("AthanorBucket", (480, 900), (360, 520), {}, {"dataset": ("dataset", 0), "base_model": ("base", 0)}),
        "train": Node(
            "AthanorTrainLora",
            (880, 20),
            (440, 1060),
            {
                "name": name,
                "adapter": "lora",
                "adapter.rank": 16,
                "adapter.alpha": 16.0,
                "epochs": 10,
                "batch_size": batch_size,
                "rate": 1e-4,
                "text_encoder_rate": 0.0,
                "sample_prompts": f"starlet, {size}",
            },
            {"base_model": ("base", 0), "dataset": ("bucket", 0)},
        ),
        "loss": Node("AthanorPlotLoss", (1360, 20), (440, 340), {}, {"run": ("train", 0)}),
        "save": Node("AthanorSaveEpoch", (1360, 420), (440, 170), {"epochs": "best", "filename": name}, {"run": ("train", 0)}),
        "xy": Node(
            "AthanorXYPlotCompare",
            (1360, 650),
            (520, 760),
            {"prompts": f"starlet, {size}"},
            {"run": ("train", 0), "base_model": ("base", 0)},
        ),
    }


SDXL = _training(
    {
        "note": Node(
            "MarkdownNote",
            (20, 20),
            (420, 470),
            text="## Train an SDXL LoRA\n\n"
            "1. Pick your SDXL checkpoint in **Load Base Model** (Illustrious, Pony, NoobAI and other relatives too; v prediction is recognised from the file).\n"
            "2. Copy a folder of images with captions into ComfyUI's `input` folder, press **R**, pick it in **Load Dataset**, and write your own trigger.\n"
            "3. Write the trigger into the sample prompts of **Train LoRA** and into **XY Plot Compare**, then queue.\n\n"
            "**Bucket** takes the model's own size, 1024 px. With 12 GB use batch size 1; with less set **base precision** to fp8. "
            "Good first values: rank 16, rate 0.0001, 10 epochs of 100 to 200 images counted with repeats. The text encoders rest (rate 0), as most SDXL LoRAs have it.\n\n"
            "As it stands the graph runs on the small built-in model, so that you can try it at once.",
        ),
        "base": Node("AthanorLoadBaseModel", (20, 540), (420, 220), {"model": MINIATURE}),
    },
    "my-sdxl-lora",
    1,
    "portrait",
)
MERGE = _training(
    {
        "note": Node(
            "MarkdownNote",
            (20, 20),
            (420, 250),
            text="## Train on a merge made in the graph\n\n"
            "Two checkpoints are merged by stock nodes, and **Base Model From Wires** takes the merge as the base to train upon. It is written once into `output/athanor/.bases`; "
            "queued again, the same merge is found there.\n\n"
            "Every MODEL, CLIP and VAE works: other loaders, block merges, LoRAs worked in.",
        ),
        "first": Node("CheckpointLoaderSimple", (20, 320), (420, 100), {"ckpt_name": None}),
        "second": Node("CheckpointLoaderSimple", (20, 470), (420, 100), {"ckpt_name": None}),
        "merge": Node("ModelMergeSimple", (480, 320), (360, 80), {"ratio": 0.5}, {"model1": ("first", 0), "model2": ("second", 0)}),
        "clips": Node("CLIPMergeSimple", (480, 450), (360, 80), {"ratio": 0.5}, {"clip1": ("first", 1), "clip2": ("second", 1)}),
        "base": Node("AthanorBaseModelFromWires", (480, 580), (360, 90), {}, {"model": ("merge", 0), "clip": ("clips", 0), "vae": ("first", 2)}),
    },
    "on-a-merge",
    2,
    "portrait",
)
BASES = (("train_an_sdxl_lora", SDXL), ("train_on_a_merge", MERGE))


def build(nodes: dict[str, Node], info: dict[str, Any]) -> dict[str, Any]:
    """The workflow as the page saves it (version 0.4)."""
    ids = {key: i for i, key in enumerate(nodes, start=1)}
    links: list[list[Any]] = []
    built = [_build_node(ids[key], node, info, ids, nodes, links, order) for order, (key, node) in enumerate(nodes.items())]
    for node in built:
        for slot, output in enumerate(node["outputs"]):
            output["links"] = [link[0] for link in links if link[1] == node["id"] and link[2] == slot]
    return {
        "last_node_id": len(ids),
        "last_link_id": len(links),
        "nodes": built,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {"ds": {"scale": 0.45, "offset": [140, 180]}},
        "version": 0.4,
    }


def _build_node(
    number: int, node: Node, info: dict[str, Any], ids: dict[str, int], nodes: dict[str, Node], links: list[list[Any]], order: int
) -> dict[str, Any]:
    shared = {
        "id": number,
        "type": node.type,
        "pos": list(node.at),
        "size": list(node.size),
        "flags": {},
        "order": order,
        "mode": 0,
        "properties": {"Node name for S&R": node.type},
    }
    if node.type == "MarkdownNote":
        return {**shared, "inputs": [], "outputs": [], "properties": {}, "widgets_values": [node.text], "color": "#432", "bgcolor": "#653"}
    spec = info[node.type]
    inputs, values, known = [], [], set()
    for name, kind, options in _inputs(spec["input"], node.values):
        known.add(name)
        if kind == DYNAMIC_COMBO:
            values.append(node.values.get(name, options["options"][0]["key"]))
            continue
        if isinstance(kind, list) or kind in _WIDGETS:
            values.append(node.values.get(name, options.get("default", (options.get("options") or [None])[0])))
            continue
        link = None
        if name in node.links:
            source, output = node.links[name]
            link = len(links) + 1
            links.append([link, ids[source], output, number, len(inputs), info[nodes[source].type]["output"][output]])
        inputs.append({"name": name, "type": kind, "link": link})
    unknown = [name for name in (*node.values, *node.links) if name not in known]
    if unknown:
        raise SystemExit(f"{node.type} has no input {unknown[0]!r}.")
    outputs = [
        {"name": name, "type": kind, "links": [], "slot_index": i}
        for i, (name, kind) in enumerate(zip(spec["output_name"], spec["output"], strict=True))
    ]
    return {**shared, "inputs": inputs, "outputs": outputs, "widgets_values": values}


def _inputs(described: dict[str, Any], chosen: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Name, type and options of each input; those of a dynamic list's chosen option come behind it."""
    for name, definition in {**described.get("required", {}), **described.get("optional", {})}.items():
        kind, options = definition[0], definition[1] if len(definition) > 1 else {}
        yield prefix + name, kind, options
        if kind == DYNAMIC_COMBO:
            key = chosen.get(prefix + name, options["options"][0]["key"])
            yield from _inputs(next(option["inputs"] for option in options["options"] if option["key"] == key), chosen, f"{prefix}{name}.")


def main() -> None:
    with urllib.request.urlopen(sys.argv[1].rstrip("/") + "/object_info") as answer:
        info = json.load(answer)
    for name, nodes in (
        ("quickstart", QUICKSTART),
        ("compare_the_epochs_of_a_run", COMPARE_EPOCHS),
        ("a_b_two_runs", TWO_RUNS),
        ("embedding", EMBEDDING),
        ("prepare_a_character_dataset", CHARACTER_DATASET),
        ("train_a_flux_lora_on_16_gb", FLUX_LORA),
        *BASES,
    ):
        text = json.dumps(build(nodes, info), indent=1, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
