"""The quickstart workflow in the real page: no missing node, no red widget, and it runs to its end from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comfyui_server import failure
from workflow_api import to_api

pytestmark = [pytest.mark.comfy, pytest.mark.browser]
WORKFLOWS = Path(__file__).resolve().parents[2] / "example_workflows"
QUICKSTART_LIMIT_SEC = 900


def saved_workflow(name: str) -> dict:
    file = WORKFLOWS / f"{name}.json"
    if not file.is_file():
        pytest.skip(f"{file.name} is not there yet")
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("vue_nodes", [False, True], ids=["canvas", "vue"])
def test_the_page_opens_and_every_athanor_node_can_be_added(open_page, comfyui, vue_nodes):
    page = open_page(vue_nodes=vue_nodes)
    assert page.page.evaluate("() => LiteGraph.vueNodesMode") == vue_nodes
    ours = sorted(node_id for node_id, info in comfyui.object_info().items() if info["python_module"] == "custom_nodes.athanor")
    assert ours
    added = page.page.evaluate(
        """ids => {
          app.graph.clear()
          return ids.map((id, i) => {
            const node = LiteGraph.createNode(id)
            node.pos = [(i % 4) * 450, Math.floor(i / 4) * 450]
            app.graph.add(node)
            return node.type
          })
        }""",
        ours,
    )
    assert added == ours
    page.page.wait_for_timeout(500)
    page.screenshot(f"nodes-{'vue' if vue_nodes else 'canvas'}")
    assert not page.errors


LEFT_TO_THE_PERSON = {"train_on_a_merge": ["CheckpointLoaderSimple.ckpt_name is null"] * 2}
"""Which two checkpoints are merged: the stock loader cannot read the miniature, and no other model can be counted on."""


@pytest.mark.parametrize("vue_nodes", [False, True], ids=["canvas", "vue"])
@pytest.mark.parametrize("name", sorted(file.stem for file in WORKFLOWS.glob("*.json")) or ["quickstart"])
def test_example_workflows_load_clean(open_page, comfyui, name, vue_nodes):
    workflow = saved_workflow(name)
    page = open_page(vue_nodes=vue_nodes)
    page.load(workflow)
    page.screenshot(f"{name}-{'vue' if vue_nodes else 'canvas'}")
    assert len(page.saved()["nodes"]) == len(workflow["nodes"])
    assert page.problems() == LEFT_TO_THE_PERSON.get(name, [])
    assert not page.errors
    assert to_api(workflow, comfyui.object_info()) == page.to_api()


@pytest.mark.slow
def test_quickstart_is_queued_from_the_page_and_finishes(open_page, comfyui):
    workflow = saved_workflow("quickstart")
    page = open_page()
    page.load(workflow)
    entry = comfyui.wait(page.queue(), QUICKSTART_LIMIT_SEC)
    assert failure(entry) is None
    assert any("images" in shown for shown in entry["outputs"].values())
    page.page.wait_for_timeout(1000)
    page.screenshot("quickstart-finished")
    assert page.problems() == []
    assert not page.errors
