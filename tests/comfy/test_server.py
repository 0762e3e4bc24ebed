"""The pack inside a real ComfyUI: it loads without a complaint, and its files are served."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from comfyui_server import ComfyUI, ServerError, failure

pytestmark = pytest.mark.comfy
PACK = Path(__file__).resolve().parents[2]


def declared_node_ids() -> set[str]:
    """The ids in the sources, so that a node forgotten in get_node_list is noticed."""
    return {match for file in (PACK / "nodes").glob("*.py") for match in re.findall(r'node_id="(\w+)"', file.read_text(encoding="utf-8"))}


def test_all_nodes_are_listed(comfyui: ComfyUI):
    listed = {node_id for node_id, info in comfyui.object_info().items() if info["python_module"] == "custom_nodes.athanor"}
    assert len(listed) >= 11
    assert all(node_id.startswith("Athanor") for node_id in listed)
    assert listed == declared_node_ids()


def test_nodes_explain_themselves(comfyui: ComfyUI):
    for node_id, info in comfyui.object_info().items():
        if info["python_module"] != "custom_nodes.athanor":
            continue
        assert info["description"], f"{node_id} has no description"
        assert info["category"].split("/")[0] == "Athanor", node_id
        for part in ("required", "optional"):
            for name, described in info["input"].get(part, {}).items():
                assert len(described) > 1 and described[1].get("tooltip"), f"{node_id}.{name} has no tooltip"


def test_the_log_has_no_complaint_about_the_pack(comfyui: ComfyUI):
    lines = comfyui.log().splitlines()
    imported = [line for line in lines if re.search(r"seconds.*custom_nodes.athanor$", line)]
    assert len(imported) == 1, "the pack is imported once"
    assert "FAILED" not in imported[0]
    about_pack = [
        line for line in lines if "athanor" in line.lower() and re.search(r"warning|error|traceback|cannot|failed|skip", line, re.IGNORECASE)
    ]
    assert not about_pack


def test_the_pack_loads_quickly(comfyui: ComfyUI):
    (seconds,) = re.findall(r"([\d.]+) seconds.*custom_nodes.athanor$", comfyui.log(), re.MULTILINE)
    assert float(seconds) < 1.0


def test_templates_are_offered_under_the_folder_name(comfyui: ComfyUI):
    workflows = sorted(file.stem for file in (PACK / "example_workflows").glob("*.json"))
    if not workflows:
        pytest.skip("there is no example workflow yet")
    assert sorted(comfyui.get("/workflow_templates")["athanor"]) == workflows
    for name in workflows:
        assert comfyui.get(f"/api/workflow_templates/athanor/{name}.json")["nodes"]


def test_help_pages_are_served(comfyui: ComfyUI):
    pages = sorted((PACK / "web" / "docs").rglob("*.md"))
    if not pages:
        pytest.skip("there is no help page yet")
    for page in pages:
        relative = page.relative_to(PACK / "web").as_posix()
        assert comfyui.get_bytes(f"/extensions/athanor/{relative}") == page.read_bytes()


def test_a_stock_workflow_runs_and_a_failure_is_told(comfyui: ComfyUI):
    image = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 255}}
    save = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "blue"}}
    entry = comfyui.run({"1": image, "2": save}, timeout_sec=60)
    (file,) = comfyui.files(entry, "2")
    assert file.parent == comfyui.output_folder and file.read_bytes().startswith(b"\x89PNG")
    assert failure(entry) is None

    with pytest.raises(ServerError, match=r"EmptyImage \(node 1\).*width"):
        comfyui.run({"1": {"class_type": "EmptyImage", "inputs": {**image["inputs"], "width": 0}}, "2": save}, timeout_sec=60)
    absent = {"class_type": "LoadImage", "inputs": {"image": "absent.png"}}
    with pytest.raises(ServerError, match=r"absent\.png"):
        comfyui.run({"1": absent, "2": save}, timeout_sec=60)
    (comfyui.input_folder / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ServerError, match=r"LoadImage \(node 1\) failed"):
        comfyui.run({"1": {"class_type": "LoadImage", "inputs": {"image": "broken.png"}}, "2": save}, timeout_sec=60)
