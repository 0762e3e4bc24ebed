"""What keys and mouse do in the editor."""

from __future__ import annotations

import pytest
from editor_page import NUM_PICTURES, captions

from athanor.tagger.hand_edits import parse_hand_edits

pytestmark = [pytest.mark.comfy, pytest.mark.browser, pytest.mark.slow]


def test_keys_alone_do_everything(open_editor_page):
    editor = open_editor_page()
    editor.open_and_run()
    editor.press("ArrowRight", "ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight")
    assert editor.selected() == 3
    editor.press("Space")
    assert editor.selected() == 2
    editor.press("Escape", "u")
    assert editor.dialog.locator(".panel-title").inner_text() == "007.jpg"
    editor.press("u")
    assert editor.dialog.locator(".panel-title").inner_text() == "027.jpg"
    editor.press("a")
    editor.page.keyboard.type("one, two, three")
    editor.press("Escape", "Enter", "Escape", "t")
    assert editor.chips() == []
    editor.press("a", "Control+a")
    editor.page.keyboard.type("one, two, three, ")
    editor.press("Enter", "Escape", "t", "ArrowRight", "Alt+ArrowRight")
    assert editor.chips() == ["one", "three", "two"]
    editor.press("Delete")
    assert editor.chips() == ["one", "three"]
    editor.press("F2")
    editor.page.keyboard.type("renamed")
    editor.press("Enter")
    assert editor.chips() == ["one", "renamed"]
    editor.press("Escape", "Control+c", "ArrowRight", "Control+v")
    assert editor.chips() == [*captions()[28].split(", "), "one", "renamed"]

    editor.press("Enter")
    large = editor.dialog.locator(".large img")
    large.wait_for()
    editor.page.wait_for_function(
        "() => document.querySelector('dialog.athanor-editor > div').shadowRoot.querySelector('.large img').naturalWidth > 0"
    )
    assert "028.jpg" in editor.dialog.locator(".large-caption").inner_text()
    editor.press("ArrowRight")
    assert "029.jpg" in editor.dialog.locator(".large-caption").inner_text()
    editor.press("Escape", "End")
    assert editor.dialog.locator(".panel-title").inner_text() == "299.jpg"
    editor.press("?")
    assert editor.dialog.locator(".help").is_visible()
    editor.press("Escape")
    assert editor.dialog.locator(".help").is_hidden()
    editor.press("Home", "Escape")
    assert editor.dialog.get_by_text("There are unsaved changes.").is_visible()
    editor.press("Enter")
    editor.dialog.wait_for(state="detached")
    assert len(parse_hand_edits(editor.hand_edits())) == 2
    assert not editor.comfy_page.errors


def test_mouse_cloud_drag_and_wrong_filters(open_editor_page):
    editor = open_editor_page()
    editor.open_and_run()
    number = sum("flower" in caption.split(", ") for caption in captions())
    editor.dialog.locator(".cloud-row", has_text="flower").click()
    editor.page.wait_for_timeout(600)
    assert editor.filter.input_value() == "tag:flower" and editor.counter().startswith(f"{number} of")
    editor.dialog.locator(".cloud-row", has_text="long hair").click(modifiers=["Alt"])
    editor.page.wait_for_timeout(600)
    assert editor.filter.input_value() == 'tag:flower NOT tag:"long hair"'
    shown = int(editor.counter().split()[0])
    assert shown == sum("flower" in caption and "long hair" not in caption for caption in captions())
    editor.filter.fill("tag:hat (")
    editor.dialog.locator(".problem").wait_for()
    assert "tag:hat (" in editor.dialog.locator(".problem").inner_text()
    assert editor.counter().startswith(f"{shown} of"), "the last good filter stays"
    editor.set_filter("", NUM_PICTURES)
    assert editor.dialog.locator(".problem").is_hidden()
    editor.dialog.locator(".title").click()
    editor.press("End")
    assert editor.dialog.locator(".panel-title").inner_text() == "299.jpg", "keys are heard wherever was clicked"
    editor.press("Home")
    editor.cards.nth(0).click()
    editor.cards.nth(3).click(modifiers=["Shift"])
    editor.cards.nth(1).click(modifiers=["Control"])
    assert editor.selected() == 3
    editor.cards.nth(2).click()
    before = editor.chips()
    chips = editor.panel.locator(".chip")
    chips.nth(0).drag_to(chips.nth(len(before) - 1), target_position={"x": chips.nth(len(before) - 1).bounding_box()["width"] - 4, "y": 8})
    assert editor.chips() == [*before[1:], before[0]]
    first, last = chips.nth(0).bounding_box(), chips.nth(len(before) - 1).bounding_box()
    editor.page.mouse.move(first["x"] + 10, first["y"] + 8)
    editor.page.mouse.down()
    editor.page.mouse.move(last["x"] + last["width"] - 6, last["y"] + 8, steps=6)
    editor.page.mouse.move(20, 20, steps=3)
    editor.page.mouse.up()
    assert editor.chips() == [*before[1:], before[0]], "dropped elsewhere it goes back"
    chips.nth(0).locator(".chip-x").click()
    assert editor.chips() == [*before[2:], before[0]]
    assert "cat-character" in (editor.dialog.locator(".cloud-row", has_text="hatsune miku").get_attribute("class") or "")
    assert not editor.comfy_page.errors
