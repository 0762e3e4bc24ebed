"""What is done with a run's epochs."""

from __future__ import annotations

from dataclasses import replace

from .node import MINIATURE, Node
from .quickstart import QUICKSTART

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


MERGE_EPOCHS = {
    **{key: node for key, node in QUICKSTART.items() if key not in ("note", "loss", "save", "xy")},
    "note": Node(
        "MarkdownNote",
        (20, 20),
        (420, 330),
        text="## Merge the best epochs\n\n"
        "The last epochs of a training go to and fro around what they learned. Their average is often calmer and holds a prompt better than each of them. **Merge Epochs** makes it, and **XY Plot Compare** shows it beside the bare model.\n\n"
        "**epochs**: `last 3`, `best`, or numbers with weights such as `90*0.3, 150*0.7`. **rank** 16 makes the result as small as one epoch; 0 keeps it exact.\n\n"
        "A second run can be mixed in at *other run*, also one of another trainer through **Load Run**.",
    ),
    "merge": Node("AthanorMergeEpochs", (2240, 20), (440, 520), {"epochs": "last 3", "rank": 16, "name": "starlet-average"}, {"run": ("train", 0)}),
    "save": Node("AthanorSaveEpoch", (2240, 620), (440, 170), {"epochs": "last", "filename": "starlet-average"}, {"run": ("merge", 0)}),
    "xy": replace(QUICKSTART["xy"], links={"run": ("merge", 0), "base_model": ("base", 0)}),
}


INTO_AND_OUT_OF_A_MODEL = {
    **{key: node for key, node in QUICKSTART.items() if key not in ("note", "loss", "save", "xy")},
    "note": Node(
        "MarkdownNote",
        (20, 20),
        (420, 340),
        text="## A LoRA into a model, and out again\n\n"
        "**Merge Into Checkpoint** writes a model with the LoRA in it for good, as a file that stock loaders take. **Extract LoRA** goes the other way: what one model has and another has not, as a LoRA of the rank you want.\n\n"
        "Here both are done in a row: what comes out is what went in, but for what a smaller rank leaves out. The report of **Extract LoRA** says how much of the difference it holds, and **XY Plot Compare** shows it.\n\n"
        "For your own: put **Load Base Model** with a checkpoint that somebody trained in the place of the merge, and leave out the training.",
    ),
    "merge": Node(
        "AthanorMergeIntoCheckpoint",
        (2240, 20),
        (440, 480),
        {"epochs": "last", "filename": "starlet-model"},
        {"run": ("train", 0), "base_model": ("base", 0)},
    ),
    "extract": Node(
        "AthanorExtractLora",
        (2720, 20),
        (440, 480),
        {"rank": 8, "conv_rank": 0, "precision": "fp32", "name": "starlet-extracted"},
        {"base_model": ("base", 0), "trained_model": ("merge", 0)},
    ),
    "save": Node("AthanorSaveEpoch", (2720, 620), (440, 170), {"epochs": "last", "filename": "starlet-extracted"}, {"run": ("extract", 0)}),
    "xy": replace(QUICKSTART["xy"], at=(3200, 20), links={"run": ("extract", 0), "base_model": ("base", 0)}),
}
