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
