"""The conversion of saved workflows, on small graphs; tests/browser compares it with the page itself."""

from __future__ import annotations

from typing import Any

import pytest
from workflow_api import WorkflowError, to_api

NODES: dict[str, Any] = {
    "Load": {
        "display_name": "Load It",
        "input": {"required": {"image": [["a.png", "b.png"], {"image_upload": True}]}, "optional": {"size": ["INT", {}]}},
    },
    "Blur": {"display_name": "Blur", "input": {"required": {"image": ["IMAGE"], "radius": ["INT", {"default": 3}]}}},
    "Sample": {
        "display_name": "Sample",
        "input": {
            "required": {"model": ["MODEL"], "steps": ["INT", {"default": 20}], "seed": ["INT", {"control_after_generate": True}]},
            "optional": {
                "name": ["COMBO", {"options": ["euler", "heun"]}],
                "text": ["STRING", {"forceInput": True}],
                "cfg": ["FLOAT", {"default": 7.0}],
            },
        },
        "input_order": {"required": ["model", "seed", "steps"], "optional": ["name", "text", "cfg"]},
    },
    "Train": {
        "display_name": "Train",
        "input": {
            "required": {
                "kind": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "lora", "inputs": {"required": {"rank": ["INT", {"default": 16}], "alpha": ["FLOAT", {"default": 16.0}]}}},
                            {"key": "ia3", "inputs": {"required": {}}},
                            {"key": "lokr", "inputs": {"required": {"factor": ["INT", {"default": 8}]}, "optional": {"both": ["BOOLEAN", {}]}}},
                        ]
                    },
                ],
                "epochs": ["INT", {"default": 10}],
            }
        },
    },
    "Show": {"display_name": "Show", "input": {"required": {"images": ["IMAGE", {}]}}},
}


def node(node_id: int, kind: str, values: Any = None, inputs: list | None = None, outputs: list | None = None, **more: Any) -> dict[str, Any]:
    return {"id": node_id, "type": kind, "widgets_values": values, "inputs": inputs or [], "outputs": outputs or [{"type": "IMAGE"}], **more}


def slot(name: str, link: int | None, kind: str = "IMAGE", widget: bool = False) -> dict[str, Any]:
    return {"name": name, "link": link, "type": kind, **({"widget": {"name": name}} if widget else {})}


def convert(nodes: list[dict[str, Any]], links: list) -> dict[str, Any]:
    return {node_id: each["inputs"] for node_id, each in to_api({"nodes": nodes, "links": links}, NODES).items()}


def test_values_follow_the_order_of_the_inputs_and_skip_the_control():
    prompt = convert([node(1, "Sample", [42, "randomize", 30, "heun", 5.5])], [])
    assert prompt == {"1": {"seed": 42, "steps": 30, "name": "heun", "cfg": 5.5}}


def test_a_dynamic_list_has_the_widgets_of_its_option_behind_it():
    assert convert([node(1, "Train", ["lora", 4, 2.0, 7])], [])["1"] == {"kind": "lora", "kind.rank": 4, "kind.alpha": 2.0, "epochs": 7}
    assert convert([node(1, "Train", ["ia3", 7])], [])["1"] == {"kind": "ia3", "epochs": 7}
    assert convert([node(1, "Train", ["lokr", 4, True, 7])], [])["1"] == {"kind": "lokr", "kind.factor": 4, "kind.both": True, "epochs": 7}
    assert convert([node(1, "Train", [])], [])["1"] == {"kind": "lora", "kind.rank": 16, "kind.alpha": 16.0, "epochs": 10}
    assert convert([node(1, "Train", {"kind": "lokr", "kind.factor": 3})], [])["1"] == {
        "kind": "lokr",
        "kind.factor": 3,
        "kind.both": False,
        "epochs": 10,
    }


def test_a_workflow_saved_before_a_widget_was_added_takes_its_default():
    assert convert([node(1, "Sample", [42, "fixed", 30])], [])["1"] == {"seed": 42, "steps": 30, "name": "euler", "cfg": 7.0}


def test_the_upload_button_has_a_saved_value_of_its_own():
    assert convert([node(1, "Load", ["b.png", "image", 640])], [])["1"] == {"image": "b.png", "size": 640}


def test_links_replace_widgets_and_keep_the_places_of_the_others():
    nodes = [
        node(1, "Load", ["a.png", "image", 0]),
        node(2, "Sample", [1, "fixed", 2, "euler", 3.0], [slot("model", 9, "MODEL"), slot("steps", 8, "INT", widget=True)]),
    ]
    prompt = convert(nodes, [[9, 1, 0, 2, 0, "MODEL"], {"id": 8, "origin_id": 1, "origin_slot": 1, "target_id": 2, "target_slot": 1, "type": "INT"}])
    assert prompt["2"] == {"model": ["1", 0], "seed": 1, "steps": ["1", 1], "name": "euler", "cfg": 3.0}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_bypassed_nodes_and_reroutes_are_passed_through(order):
    nodes = [
        node(1, "Load", ["a.png", "image", 0]),
        node(2, "Blur", [5], [slot("image", 1)], mode=4),
        node(3, "Reroute", None, [slot("", 2, "*")]),
        node(4, "Show", [], [slot("images", 3)]),
    ]
    prompt = convert([nodes[i] for i in order], [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "*"], [3, 3, 0, 4, 0, "IMAGE"]])
    assert prompt == {"1": {"image": "a.png", "size": 0}, "4": {"images": ["1", 0]}}


def test_what_hangs_on_a_muted_node_is_left_open():
    nodes = [node(1, "Load", ["a.png", "image", 0], mode=2), node(4, "Show", [], [slot("images", 1)])]
    assert convert(nodes, [[1, 1, 0, 4, 0, "IMAGE"]]) == {"4": {}}


def test_a_primitive_gives_its_value():
    nodes = [node(1, "PrimitiveNode", [12, "fixed"]), node(2, "Blur", [5], [slot("image", None), slot("radius", 1, "INT", widget=True)])]
    assert convert(nodes, [[1, 1, 0, 2, 1, "INT"]]) == {"2": {"radius": 12}}


def test_titles_are_kept():
    prompt = to_api({"nodes": [node(1, "Show", [], title="Mine"), node(2, "Show", [])], "links": []}, NODES)
    assert [each["_meta"]["title"] for each in prompt.values()] == ["Mine", "Show"]


def test_unknown_nodes_api_files_and_subgraphs_are_told():
    with pytest.raises(WorkflowError, match=r"node 3 of type 'Gone'"):
        convert([node(3, "Gone")], [])
    with pytest.raises(WorkflowError, match=r"no list of nodes"):
        to_api({"1": {"class_type": "Show", "inputs": {}}}, NODES)
    with pytest.raises(WorkflowError, match=r"Node 1 is a subgraph"):
        to_api({"nodes": [node(1, "abc")], "definitions": {"subgraphs": [{"id": "abc"}]}}, NODES)


def test_circles_of_reroutes_end():
    nodes = [node(1, "Reroute", None, [slot("", 2)]), node(2, "Reroute", None, [slot("", 1)]), node(3, "Show", [], [slot("images", 2)])]
    assert convert(nodes, [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 1, 0, "*"], [2, 2, 0, 3, 0, "*"]]) == {"3": {}}
