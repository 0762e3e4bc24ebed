"""From the button on the node to the captions that a training gets, in the real page on 300 pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comfyui_server import failure
from editor_page import FOLDER, NODE, NUM_PICTURES, captions, reopened

from athanor.tagger.hand_edits import parse_hand_edits, picture_keys
from athanor.trainer.runs.run import Run

pytestmark = [pytest.mark.comfy, pytest.mark.browser, pytest.mark.slow]
LIMIT_SEC = 600


@pytest.mark.parametrize("vue_nodes", [False, True], ids=["canvas", "vue"])
def test_from_the_button_to_the_node_and_over_a_reload(open_editor_page, vue_nodes):
    editor = open_editor_page(vue_nodes=vue_nodes)
    editor.open_and_run()
    assert editor.counter() == "300 of 300 pictures"
    assert editor.cards.count() < 60, "only what is in view exists"
    editor.cards.nth(1).click()
    before = editor.chips()
    assert before == captions()[1].split(", ")
    editor.add.fill("handmade tag, ")
    editor.press("Enter")
    assert editor.chips() == [*before, "handmade tag"]
    editor.comfy_page.screenshot(f"editor-{'vue' if vue_nodes else 'canvas'}")
    assert editor.hand_edits() == ""
    editor.press("Control+s")
    kept = editor.hand_edits()
    assert json.loads(kept) == {"version": 1, "pictures": {f"{FOLDER}/001.jpg": {"add": ["handmade tag"]}}}
    editor.press("Escape", "Escape")
    editor.dialog.wait_for(state="detached")

    reopened(editor)
    assert editor.hand_edits() == kept
    editor.open_by_button()
    editor.cards.first.wait_for()
    editor.cards.nth(1).click()
    assert editor.chips() == [*before, "handmade tag"]
    editor.press("Escape")
    editor.dialog.wait_for(state="detached")
    serialized = editor.comfy_page.saved()
    (saved,) = [node for node in serialized["nodes"] if node["type"] == "AthanorEditTags"]
    assert saved["widgets_values"][-1] == kept, "the button is not a value"
    copy = editor.page.evaluate(f"() => {{ const copy = {NODE}.clone(); return copy.widgets.find(widget => widget.name === 'hand_edits').value }}")
    assert copy == kept
    assert not editor.comfy_page.errors


def test_filter_edit_undo_redo_save_train(open_editor_page, server):
    editor = open_editor_page(with_training=True)
    editor.open_and_run()
    with_hat = [i for i, caption in enumerate(captions()) if "hat" in caption.split(", ") and "solo" not in caption.split(", ")]
    editor.set_filter("tag:hat NOT tag:solo", len(with_hat))
    editor.grid.focus()
    editor.press("Control+a")
    assert editor.dialog.locator(".panel-title").inner_text() == f"{len(with_hat)} selected"
    editor.press("a")
    editor.page.keyboard.type("grays")
    suggestion = editor.dialog.locator(".suggestions:not([hidden]) li").first
    suggestion.wait_for()
    assert (suggestion.text_content() or "").startswith("grayscale → greyscale")
    editor.press("ArrowDown", "Enter", "Enter")
    assert editor.status.inner_text() == f"Captions changed: {len(with_hat)}"
    editor.panel.locator("input.field").nth(1).fill("hat")
    editor.press("Escape")
    editor.panel.locator("input.field").nth(1).press("Enter")
    editor.page.keyboard.type("red hat, ribbon")
    editor.press("Enter")
    assert editor.status.inner_text() == f"Captions changed: {len(with_hat)}"

    editor.grid.focus()
    editor.press("Control+z")
    assert editor.status.inner_text() == f"Captions undone: {len(with_hat)}"
    assert "red hat" not in editor.chips() and "greyscale" in editor.chips()
    editor.press("Control+y")
    assert editor.status.inner_text() == f"Captions done again: {len(with_hat)}"
    editor.press("Control+z", "Control+z", "Control+z")
    assert editor.dialog.get_by_role("button", name="Undo (Ctrl+Z)").is_disabled()
    editor.press("Control+Shift+z", "Control+y")
    assert {"red hat", "ribbon", "greyscale"} <= set(editor.chips())
    assert editor.page.evaluate("() => app.graph.nodes.length") == 5, "the graph's own undo has seen nothing of it"
    editor.set_filter('tag:"red hat"', len(with_hat))
    editor.set_filter("tag:hat NOT tag:solo", 0)
    editor.dialog.get_by_role("button", name="Save and close").click()
    editor.dialog.wait_for(state="detached")

    reopened(editor)
    edits = parse_hand_edits(editor.hand_edits())
    paths = [str(server.input_folder / FOLDER / f"{i:03d}.jpg") for i in range(NUM_PICTURES)]
    assert set(edits) == {picture_keys(paths)[i] for i in with_hat}
    entry = server.wait(editor.comfy_page.queue(), LIMIT_SEC)
    assert failure(entry) is None
    run = Run(server.output_folder / "athanor" / "edited by hand")
    assert run.finished()
    trained = {Path(sample.path).name: sample.caption for sample in run.train_job().dataset.samples}
    for i, caption in enumerate(captions()):
        tags = caption.split(", ") if caption else []
        if i in with_hat:
            place = tags.index("hat")
            tags = [*tags[:place], "red hat", "ribbon", *tags[place + 1 :], "greyscale"]
        assert (trained[f"{i:03d}.jpg"] or "") == ", ".join(tags)
    assert not editor.comfy_page.errors


def test_a_node_that_was_changed_offers_to_run_again(open_editor_page):
    editor = open_editor_page()
    editor.open_and_run()
    editor.press("Escape")
    editor.dialog.wait_for(state="detached")
    editor.page.evaluate(f"() => {{ {NODE}.widgets.find(widget => widget.name === 'rules').value = 'append: from a rule' }}")
    editor.open_by_button()
    editor.cards.first.wait_for()
    editor.cards.nth(0).click()
    assert "from a rule" not in editor.chips()
    editor.add.fill("by hand")
    editor.press("Enter")
    editor.dialog.get_by_role("button", name="Run again").click()
    editor.dialog.locator(".stale").wait_for(state="detached")
    editor.cards.nth(0).click()
    assert editor.chips() == [*captions()[0].split(", "), "from a rule", "by hand"]
    assert not editor.comfy_page.errors


def test_a_run_that_fails_says_why(open_editor_page):
    editor = open_editor_page()
    editor.page.evaluate(f"() => {{ {NODE}.widgets.find(widget => widget.name === 'rules').value = 'no such rule' }}")
    editor.open_by_button()
    editor.dialog.get_by_role("button", name="Run up to this node").click()
    editor.dialog.get_by_text("no such rule").wait_for()
    assert editor.dialog.get_by_role("button", name="Run up to this node").is_visible()


def test_a_run_behind_another_one_waits_for_its_own_end_and_cancel_leaves_the_other_alone(open_editor_page):
    editor = open_editor_page()
    asked = []
    other = {"queue_running": [[0, "another", {}, {}, []]], "queue_pending": []}
    editor.page.route(
        "**/queue", lambda route: (asked.append(route.request.post_data), route.fulfill(json=other)) if len(asked) < 1 else route.continue_()
    )
    editor.page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/interrupt") else None)
    editor.open_by_button()
    editor.dialog.get_by_role("button", name="Run up to this node").click()
    tell = """async () => {
      const { api } = await import('/scripts/api.js')
      for (const name of ['execution_start', 'executed', 'execution_success', 'execution_interrupted'])
        api.dispatchEvent(new CustomEvent(name, { detail: { prompt_id: 'another', node: '1' } }))
    }"""
    editor.dialog.get_by_text("Another run goes first.").wait_for()
    editor.page.evaluate(tell)
    editor.cards.first.wait_for()
    editor.page.unroute("**/queue")

    editor.press("Escape")
    editor.dialog.wait_for(state="detached")
    posted = []
    waiting = {"queue_running": other["queue_running"], "queue_pending": [[1, "own", {}, {}, []]]}

    def answer(route):
        if route.request.method == "POST":
            posted.append(route.request.post_data_json)
            route.fulfill(json={})
        else:
            route.fulfill(json=waiting if len(posted_prompts) else other)

    posted_prompts = []
    editor.page.route("**/queue", answer)
    editor.page.route(
        "**/api/prompt", lambda route: (posted_prompts.append(1), route.fulfill(json={"prompt_id": "own", "number": 1, "node_errors": {}}))
    )
    editor.page.evaluate(f"() => {{ delete {NODE}.properties.athanor_listing }}")
    editor.open_by_button()
    editor.dialog.get_by_role("button", name="Run up to this node").click()
    editor.dialog.get_by_text("Another run goes first.").wait_for()
    editor.page.wait_for_timeout(300)
    editor.dialog.get_by_role("button", name="Cancel").click()
    editor.dialog.get_by_text("Cancelled.").wait_for()
    assert posted == [{"delete": ["own"]}]
    assert not any(str(url).endswith("/interrupt") for url in asked)


def test_a_node_that_is_off_and_a_run_that_is_not_taken_are_told(open_editor_page):
    editor = open_editor_page()
    editor.page.evaluate(f"() => {{ {NODE}.mode = 4 }}")
    editor.open_by_button()
    run = editor.dialog.get_by_role("button", name="Run up to this node")
    run.click()
    editor.dialog.get_by_text("muted or bypassed").wait_for()
    editor.page.evaluate(f"() => {{ {NODE}.mode = 0; app.graph.nodes.find(node => node.type === 'AthanorLoadDataset').mode = 2 }}")
    editor.page.route(
        "**/api/prompt",
        lambda route: route.fulfill(status=400, json={"error": {"type": "prompt_no_outputs", "message": "no", "details": ""}, "node_errors": {}}),
    )
    run.click()
    editor.dialog.get_by_text("has not taken this run").wait_for()
