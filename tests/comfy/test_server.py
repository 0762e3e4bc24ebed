"""The pack inside a real ComfyUI: it loads without a complaint, and its files are served."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from comfyui_server import ComfyUI, ServerError, failure, find_comfyui

pytestmark = pytest.mark.comfy
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
PACK = Path(__file__).resolve().parents[2]


def declared_node_ids() -> set[str]:
    """The ids in the sources, so that a node forgotten in get_node_list is noticed."""
    return {match for file in (PACK / "nodes").glob("*.py") for match in re.findall(r'"(Athanor[A-Z]\w+)"', file.read_text(encoding="utf-8"))}


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
                if isinstance(described[0], list) or described[0] in WIDGETS:
                    assert described[1].get("tooltip"), f"{node_id}.{name} has no tooltip"


def test_the_log_has_no_complaint_about_the_pack(comfyui: ComfyUI):
    # Up to the first visitor: later lines tell of other tests' workflows, which are wrong on purpose.
    started, ready, _ = comfyui.log().partition("To see the GUI go to")
    assert ready
    lines = started.splitlines()
    imported = [line for line in lines if re.search(r"seconds.*custom_nodes.athanor$", line)]
    assert len(imported) == 1, "the pack is imported once"
    assert "FAILED" not in imported[0]
    about_pack = [
        line for line in lines if "athanor" in line.lower() and re.search(r"warning|error|traceback|cannot|failed|skip", line, re.IGNORECASE)
    ]
    assert not about_pack


def test_the_pack_loads_quickly_and_nothing_of_training():
    """What the pack's import adds to a ComfyUI that has loaded its own nodes' modules."""
    checkout = find_comfyui()
    if checkout is None:
        pytest.skip("no ComfyUI")
    code = """
import asyncio, importlib.util, sys, time
pack = sys.argv.pop()
sys.path.insert(0, ".")
import comfy.options
comfy.options.enable_args_parsing()
import execution, nodes, server
from comfy_api.latest import io
server.PromptServer(asyncio.new_event_loop())
before, started = set(sys.modules), time.process_time()
spec = importlib.util.spec_from_file_location("pack", pack, submodule_search_locations=[pack.rsplit("__init__", 1)[0]])
sys.modules["pack"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
async def load():
    extension = await module.comfy_entrypoint()
    await extension.on_load()
    return [node.GET_SCHEMA().node_id for node in await extension.get_node_list()]
loaded = asyncio.run(load())
print("RESULT", time.process_time() - started, len(loaded), *sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""
    command = [sys.executable, "-c", code, "--cpu", str(PACK / "__init__.py")]
    said = subprocess.run(command, cwd=checkout, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    assert said.returncode == 0, said.stderr
    (result,) = [line.split()[1:] for line in said.stdout.splitlines() if line.startswith("RESULT")]
    assert int(result[1]) >= 11
    assert not {"diffusers", "peft", "transformers", "accelerate", "onnxruntime", "tensorboard", "matplotlib"} & set(result[2:])
    assert float(result[0]) < 1.0, "seconds of CPU time"


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
