"""Edits that were not saved in the node are there again after a reload."""

from __future__ import annotations

import pytest
from editor_page import BUILD, FOLDER, captions, reopened

pytestmark = [pytest.mark.comfy, pytest.mark.browser, pytest.mark.slow]


def opened(editor):
    editor.open_by_button()
    editor.cards.first.wait_for()
    editor.cards.nth(1).click()
    return editor.chips()


@pytest.mark.parametrize("vue_nodes", [False, True], ids=["canvas", "vue"])
def test_unsaved_edits_are_back_after_a_reload(open_editor_page, vue_nodes):
    before = captions()[1].split(", ")
    editor = open_editor_page(vue_nodes=vue_nodes)
    editor.open_and_run()
    editor.cards.nth(1).click()
    editor.add.fill("unsaved tag")
    editor.press("Enter")
    assert editor.chips() == [*before, "unsaved tag"] and editor.hand_edits() == ""
    reopened(editor)
    assert editor.hand_edits() == "", "nothing goes into the node unasked"
    assert opened(editor) == [*before, "unsaved tag"]
    note = editor.dialog.locator(".restored")
    assert note.inner_text().startswith("Edits that were not saved in the node are back (pictures: 1).")
    editor.comfy_page.screenshot(f"editor-draft-{'vue' if vue_nodes else 'canvas'}")
    assert "unsaved changes" in editor.dialog.locator("footer").inner_text()
    editor.grid.focus()
    editor.press("Control+z")
    assert editor.chips() == before
    editor.press("Control+y", "Control+s")
    assert "unsaved tag" in editor.hand_edits() and note.is_hidden()
    editor.press("Escape", "Escape")
    editor.dialog.wait_for(state="detached")
    reopened(editor)
    assert opened(editor) == [*before, "unsaved tag"] and editor.dialog.locator(".restored").is_hidden()
    assert not editor.comfy_page.errors


def test_what_is_dropped_or_discarded_stays_away(open_editor_page):
    before = captions()[1].split(", ")
    editor = open_editor_page()
    editor.open_and_run()
    editor.cards.nth(1).click()
    editor.add.fill("unsaved tag")
    editor.press("Enter")
    reopened(editor)
    assert opened(editor) == [*before, "unsaved tag"]
    editor.dialog.get_by_role("button", name="Drop them").click()
    assert editor.chips() == before and editor.dialog.locator(".restored").is_hidden()
    editor.add.fill("another tag")
    editor.press("Enter", "Escape", "Escape")
    editor.dialog.get_by_role("button", name="Discard").click()
    editor.dialog.wait_for(state="detached")
    reopened(editor)
    assert opened(editor) == before and editor.dialog.locator(".restored").is_hidden()
    assert editor.page.evaluate("() => Object.keys(localStorage).filter(key => key.startsWith('athanor.editor.draft'))") == []
    assert not editor.comfy_page.errors


def test_another_workflow_gets_no_draft(open_editor_page):
    editor = open_editor_page()
    editor.open_and_run()
    editor.cards.nth(1).click()
    editor.add.fill("unsaved tag")
    editor.press("Enter")
    editor.page.wait_for_timeout(1000)
    editor.page.evaluate("() => document.querySelector('dialog.athanor-editor').close()")
    editor.page.evaluate(BUILD, [FOLDER, False])
    editor.page.wait_for_timeout(500)
    editor.open_and_run()
    editor.cards.nth(1).click()
    assert editor.chips() == captions()[1].split(", ")
    assert editor.dialog.locator(".restored").is_hidden()
