"""Writes example_workflows/*.json: `python tools/make_workflows.py http://127.0.0.1:8188` with a ComfyUI running.

A saved workflow keeps widget values by position; written by hand they go wrong with the first new widget. Here they are
written by name, and the positions come from the running server's /object_info.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workflow_api import DYNAMIC_COMBO
from workflows.bases import FLUX_LORA, MERGE, SDXL
from workflows.dataset import CHARACTER_DATASET
from workflows.dreambooth import DREAMBOOTH
from workflows.node import Node
from workflows.quickstart import EMBEDDING, QUICKSTART
from workflows.results import COMPARE_EPOCHS, INTO_AND_OUT_OF_A_MODEL, MERGE_EPOCHS, TWO_RUNS

FOLDER = Path(__file__).resolve().parent.parent / "example_workflows"
WORKFLOWS = {
    "quickstart": QUICKSTART,
    "embedding": EMBEDDING,
    "prepare_a_character_dataset": CHARACTER_DATASET,
    "compare_the_epochs_of_a_run": COMPARE_EPOCHS,
    "a_b_two_runs": TWO_RUNS,
    "merge_the_best_epochs": MERGE_EPOCHS,
    "a_lora_into_a_model_and_out_again": INTO_AND_OUT_OF_A_MODEL,
    "dreambooth_with_prior_preservation": DREAMBOOTH,
    "train_an_sdxl_lora": SDXL,
    "train_a_flux_lora_on_16_gb": FLUX_LORA,
    "train_on_a_merge": MERGE,
}
_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


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
    for name, nodes in WORKFLOWS.items():
        text = json.dumps(build(nodes, info), indent=1, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
