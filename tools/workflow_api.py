"""From a workflow as the page saves it to the prompt that POST /prompt takes, as the page itself does when queueing.

What a widget is and in which order the saved values come is known from GET /object_info. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR")
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
_PAGE_ONLY_TYPES = ("Note", "MarkdownNote", "Reroute", "PrimitiveNode")
_MUTED, _BYPASSED = 2, 4
_CONTROL_VALUES = ("fixed", "increment", "increment-wrap", "decrement", "randomize")
_SEED_NAMES = ("seed", "noise_seed")
_UPLOAD_OPTIONS = ("image_upload", "video_upload", "animated_image_upload")


class WorkflowError(Exception):
    """The workflow cannot be queued; the message says why."""


def to_api(workflow: Mapping[str, Any], object_info: Mapping[str, Any]) -> dict[str, Any]:
    """The prompt of a saved workflow: {node id: {"class_type", "inputs", "_meta"}}.

    Muted and bypassed nodes, notes, reroutes and primitives are resolved away. Raises WorkflowError for a node type that
    the server does not know and for subgraphs, which are not supported here.
    """
    graph = _Graph.read(workflow)
    prompt: dict[str, Any] = {}
    for node_id, node in graph.nodes.items():
        if node["type"] in _PAGE_ONLY_TYPES or node.get("mode", 0) in (_MUTED, _BYPASSED):
            continue
        if node["type"] not in object_info:
            raise WorkflowError(f"The workflow has a node {node_id} of type {node['type']!r}, which this ComfyUI does not know.")
        info = object_info[node["type"]]
        inputs = _widget_values(node, info)
        for slot in node.get("inputs") or []:
            if slot.get("link") is None:
                continue
            source = graph.source(slot["link"])
            if source is not None:
                inputs[slot["name"]] = source
            elif "widget" not in slot:
                inputs.pop(slot["name"], None)
        prompt[node_id] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": node.get("title") or info["display_name"]}}
    return prompt


@dataclass(frozen=True)
class _Graph:
    nodes: Mapping[str, Mapping[str, Any]]
    links: Mapping[int, tuple[str, int]]
    """Link id to the node and the output it comes from."""

    @classmethod
    def read(cls, workflow: Mapping[str, Any]) -> _Graph:
        if "nodes" not in workflow:
            raise WorkflowError("This is not a saved workflow: it has no list of nodes. (A file in API format is queued as it is.)")
        subgraphs = {each["id"] for each in ((workflow.get("definitions") or {}).get("subgraphs") or [])}
        nodes = {str(node["id"]): node for node in workflow["nodes"]}
        for node_id, node in nodes.items():
            if node["type"] in subgraphs:
                raise WorkflowError(f"Node {node_id} is a subgraph; unpack it first.")
        links = {}
        for link in workflow.get("links") or []:
            if isinstance(link, Mapping):
                links[link["id"]] = (str(link["origin_id"]), link["origin_slot"])
            else:
                links[link[0]] = (str(link[1]), link[2])
        return cls(nodes, links)

    def source(self, link_id: int) -> Any:
        """What a link brings: [node id, output] of a node that runs, the plain value of a primitive, or None."""
        seen = set()
        current: int | None = link_id
        while current is not None and current in self.links and current not in seen:
            seen.add(current)
            node_id, output = self.links[current]
            node = self.nodes.get(node_id)
            if node is None or node.get("mode", 0) == _MUTED:
                return None
            if node["type"] == "PrimitiveNode":
                return (node.get("widgets_values") or [None])[0]
            if node["type"] == "Reroute":
                current = node["inputs"][0].get("link")
            elif node.get("mode", 0) == _BYPASSED:
                current = self._through_bypassed(node, output)
            else:
                return [node_id, output]
        return None

    @staticmethod
    def _through_bypassed(node: Mapping[str, Any], output: int) -> int | None:
        """The link of the input that takes the output's place: the one at the same position, else the first, of its type."""
        inputs = node.get("inputs") or []
        kind = node["outputs"][output]["type"]
        for slot in [*inputs[output : output + 1], *inputs]:
            if slot["type"] == kind:
                return slot.get("link")
        return None


def _widget_values(node: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    saved = node.get("widgets_values") or []
    values: dict[str, Any] = {}
    position = 0
    for name, kind, options in _widgets(info, values):
        if isinstance(saved, Mapping):
            if kind != "BUTTON":
                values[name] = saved.get(name, _default(kind, options))
            continue
        if kind != "BUTTON":
            values[name] = saved[position] if position < len(saved) else _default(kind, options)
        position += 1
        if _has_control(name, kind, options) and position < len(saved) and saved[position] in _CONTROL_VALUES:
            position += 1
            if kind == "COMBO" or isinstance(kind, list):
                position += 1  # the filter of the list
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = {"__value__": value}  # a plain list would be read as a link
    return values


def _widgets(info: Mapping[str, Any], values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Name, type and options of each widget, in the order in which the page makes them.

    A dynamic list has the widgets of its chosen option behind it, so `values` must hold each value before the next widget is asked for.
    """
    for part in ("required", "optional"):
        described = info["input"].get(part) or {}
        names = (info.get("input_order") or {}).get(part) or list(described)
        has_upload = False
        for name in names:
            kind = described[name][0]
            options = described[name][1] if len(described[name]) > 1 else {}
            if (isinstance(kind, list) or kind in _WIDGET_TYPES) and not options.get("forceInput"):
                yield prefix + name, kind, options
            elif kind == DYNAMIC_COMBO:
                yield prefix + name, kind, options
                inner = next((option["inputs"] for option in options["options"] if option["key"] == values[prefix + name]), {})
                yield from _widgets({"input": inner}, values, f"{prefix}{name}.")
            has_upload = has_upload or any(options.get(option) for option in _UPLOAD_OPTIONS)
        if has_upload and part == "required":
            yield "upload", "BUTTON", {}


def _has_control(name: str, kind: Any, options: Mapping[str, Any]) -> bool:
    if "control_after_generate" in options:
        return bool(options["control_after_generate"])
    return kind == "INT" and name in _SEED_NAMES


def _default(kind: Any, options: Mapping[str, Any]) -> Any:
    if "default" in options:
        return options["default"]
    choices = kind if isinstance(kind, list) else options.get("options")
    if kind == DYNAMIC_COMBO:
        return choices[0]["key"]
    if choices:
        return choices[0]
    return {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}.get(kind, "")
