"""The viewer in the real page: a finished 4 x 3 grid is opened, two pictures are compared, and an epoch is chosen, in both renderers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from comfyui_server import ComfyUI, failure
from graphs import comparing, run_of, training
from tiny import make_pictures
from viewer_page import FOLDER, LIMIT_MS, LIMIT_SEC, NAME, OTHER, SHOWN_CELLS, ViewerPage, brightness

FITTED = """
async label => {
  const { fitLabel } = await import('/extensions/athanor/viewer/grid.mjs'), element = document.createElement('span')
  const lines = 'display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; overflow-wrap: anywhere'
  element.style.cssText = `${lines}; position: fixed; width: 90px; font: 12px sans-serif`
  document.body.append(element)
  fitLabel(element, label)
  const found = [element.textContent, element.scrollHeight <= element.clientHeight + 1]
  element.remove()
  return found
}
"""
"""What a heading of three lines shows of a label, and whether it shows all of that."""
pytestmark = [pytest.mark.comfy, pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    make_pictures(comfyui.input_folder / FOLDER)
    for name in (NAME, OTHER):
        comfyui.run(training(comfyui, FOLDER, name, epochs=3, seed=31 + len(name), rate=0.1), LIMIT_SEC)
    comfyui.run(comparing(comfyui, NAME), LIMIT_SEC)
    return comfyui


@pytest.fixture
def open_viewer(open_page: Callable[..., Any], server: ComfyUI) -> Callable[..., ViewerPage]:
    (run_of(server, NAME).folder / "choice.json").unlink(missing_ok=True)
    for votes in run_of(server, NAME).folder.glob("compare/*/votes.json"):
        votes.unlink()
    return lambda **options: ViewerPage(open_page(**options))


@pytest.mark.parametrize("vue_nodes", [False, True], ids=["canvas", "vue"])
def test_a_grid_is_opened_two_cells_are_compared_and_one_is_chosen(open_viewer, server, vue_nodes):
    page = open_viewer(vue_nodes=vue_nodes)
    page.build()
    page.open_grid()
    kind = "vue" if vue_nodes else "canvas"
    page.look(f"viewer-grid-{kind}")
    viewer = page.viewer
    shown_beside = page.page.evaluate("id => document.querySelectorAll(`[data-node-id='${id}'] img`).length", page.ids["xy"])
    assert shown_beside == 0, "the node does not show the grid twice"
    assert viewer.locator(".header-x").all_inner_texts() == ["strength 0.6", "strength 0.8", "strength 1"]
    rows = viewer.locator(".header-y").all_inner_texts()
    assert len(rows) == 4 and rows[0] == "no LoRA" and rows[1].startswith("epoch 1")

    page.cell(2, 1).click()
    assert page.mode() == "large"
    facts = page.facts()
    assert (facts["epoch"], facts["strength"], facts["run"], facts["prompt"], facts["size"]) == ("2", "0.8", NAME, "subject", "32 × 32")
    page.press("ArrowDown", "ArrowRight")
    facts = page.facts()
    assert (facts["epoch"], facts["strength"]) == ("3", "1"), "the arrow keys walk the axes"
    page.press("ArrowDown", "ArrowRight", "End", "ArrowUp", "ArrowLeft")
    assert (page.facts()["epoch"], page.facts()["strength"]) == ("2", "0.8"), "and end where the axes do"
    page.look(f"viewer-large-{kind}")

    page.press("1", "ArrowUp", "ArrowUp", "2")
    assert page.mode() == "compare" and page.tags() == ["A epoch 2 · strength 0.8", "B no LoRA · strength 0.8"]
    page.press("+", "+", ".", ".", ".", ".", ".")
    page.page.wait_for_timeout(300)
    before = page.places()
    assert before[2] == "60%" and before[0] == before[1]
    page.press("ArrowDown")
    assert page.tags()[1] == "B epoch 1 · strength 0.8" and page.places() == before, "zoom and line stay while walking"
    page.press("Shift+ArrowRight")
    assert page.tags() == ["A epoch 2 · strength 1", "B epoch 1 · strength 1"] and page.places() == before
    layers = viewer.locator(".layers")
    box = layers.bounding_box()
    page.page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + box["height"] / 3)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 3, steps=4)
    page.page.mouse.up()
    page.page.wait_for_timeout(200)
    assert float(page.places()[2].rstrip("%")) == pytest.approx(25, abs=1), "the line can be dragged"
    page.look(f"viewer-slider-{kind}")

    page.press("f")
    one = page.seen(layers)
    page.press("Space")
    other = page.seen(layers)
    assert one.tobytes() != other.tobytes() and viewer.locator(".tag-a").get_attribute("class").endswith("is-away")
    page.press("Space")
    assert page.seen(layers).tobytes() == one.tobytes()
    page.press("d")
    differing = brightness(page.seen(layers))
    page.look(f"viewer-difference-{kind}")
    page.press("ArrowDown")
    assert page.tags()[0][2:] == page.tags()[1][2:] and brightness(page.seen(layers)) < 0.5 < differing, "alike is black"

    page.press("ArrowDown", "x", "Enter", "Enter")
    assert page.mode() == "large"
    page.press("ArrowUp")
    assert page.facts()["epoch"] == "1"
    queued = page.comfy_page.to_api()
    assert queued[page.ids["xy"]]["inputs"]["chosen"] == "" and queued[page.ids["save"]]["inputs"]["epochs"] == "last"
    viewer.get_by_role("button", name="Use this epoch").click()
    viewer.locator(".note").get_by_text("Epoch 1 is chosen").wait_for()
    said = viewer.locator(".note").inner_text()
    assert "chosen_epoch" in said and all(f"#{page.ids[name]}" in said for name in ("save", "behind", "wired")) and f"#{page.ids['away']}" not in said
    assert json.loads((run_of(server, NAME).folder / "choice.json").read_text(encoding="utf-8"))["epoch"] == 1
    page.press("g")
    page.look(f"viewer-chosen-{kind}")
    assert viewer.locator(".cell.chosen").count() == 3 and viewer.locator(".header-y.chosen").all_inner_texts() == [rows[1]]

    queued = page.comfy_page.to_api()
    assert queued[page.ids["xy"]]["inputs"]["chosen"] == "1"
    assert [queued[page.ids[name]]["inputs"]["epochs"] for name in ("save", "behind", "away")] == ["1", "1", "last"]
    assert queued[page.ids["wired"]]["inputs"]["epochs"] == [page.ids["xy"], 2]
    entry = server.wait(page.comfy_page.queue(), LIMIT_SEC)
    assert failure(entry) is None and entry["outputs"][page.ids["chosen"]]["text"] == ["1"]
    assert not page.comfy_page.errors


def test_what_is_shown_survives_a_reload_a_switch_and_travels_with_the_workflow(open_viewer, server):
    page = open_viewer()
    page.build()
    page.open_grid()
    page.cell(1, 0).click(modifiers=["Shift"])
    page.cell(3, 2).click(modifiers=["Shift"])
    page.press("+", ".", ".", ".", ".", ".")
    page.page.wait_for_timeout(300)
    tags, places = page.tags(), page.places()
    assert tags == ["A epoch 1 · strength 0.6", "B epoch 3 · strength 1"]
    for vue_nodes in (True, False):
        page.page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", vue_nodes)
        page.page.wait_for_timeout(1500)
        assert page.page.locator(".athanor-viewer").count() == 1 and page.mode() == "compare" and page.tags() == tags
    page.page.evaluate("() => document.activeElement.blur()")
    saved = page.comfy_page.saved()
    page.page.wait_for_timeout(1500)  # ComfyUI keeps drafts a moment after a change
    page.page.reload()
    page.page.wait_for_function("() => window.app?.vueAppReady && window.app.graph?.nodes.length")
    page.page.wait_for_function(
        "() => document.querySelector('.athanor-viewer')?.shadowRoot.querySelector('.stage img')?.naturalWidth > 0", timeout=LIMIT_MS
    )
    page.fit()
    assert page.mode() == "compare" and page.tags() == tags and page.places() == places

    (node,) = [node for node in saved["nodes"] if node["type"] == "AthanorXYPlotCompare"]
    assert node["properties"]["athanor_view"]["mode"] == "compare" and "viewer" not in json.dumps(node["widgets_values"])
    light = open_viewer(vue_nodes=True, settings={"Comfy.Locale": "zh", "Comfy.ColorPalette": "light"})
    light.page.evaluate("workflow => app.loadGraphData(workflow)", saved)
    light.page.wait_for_function(
        "() => document.querySelector('.athanor-viewer')?.shadowRoot.querySelector('.stage img')?.naturalWidth > 0", timeout=LIMIT_MS
    )
    light.ids = page.ids
    light.fit()
    assert light.tags() == tags and light.viewer.locator(".mode[aria-pressed=true]").inner_text() == "对比"
    light.look("viewer-light-zh")
    server.post("/settings/Comfy.ColorPalette", "dark")

    node["properties"] |= {
        "athanor_sheet": "../../secret",
        "athanor_view": {"mode": "<b>", "at": [9, "x", None], "zoom": 1e99, "a": 7, "slider": "left"},
    }
    page.page.evaluate("workflow => app.loadGraphData(workflow)", saved)
    page.viewer.locator(".empty").get_by_text("not in the output folder").wait_for()
    node["properties"]["athanor_sheet"] = _sheet_of(server)
    page.page.evaluate("workflow => app.loadGraphData(workflow)", saved)
    page.viewer.locator(".cell").first.wait_for(state="attached")
    page.fit()
    page.wait_for_grid()
    assert page.mode() == "grid", "what is no view is left at the usual"
    assert not page.comfy_page.errors and not light.comfy_page.errors


def _sheet_of(server: ComfyUI) -> str:
    (name,) = server.run(comparing(server, NAME), LIMIT_SEC)["outputs"]["xy"]["athanor_sheet"]
    return name


@pytest.mark.parametrize("vue_nodes", [False, True], ids=["canvas", "vue"])
def test_full_screen_pans_and_blind_votes_make_a_ranking(open_viewer, server, vue_nodes):
    page, kind = open_viewer(vue_nodes=vue_nodes), "vue" if vue_nodes else "canvas"
    page.build()
    page.open_grid()
    page.viewer.get_by_role("button", name="Full screen").click()
    full = page.page.locator("dialog.athanor-compare .athanor-viewer")
    full.locator(".cell img").first.wait_for()
    page.page.wait_for_timeout(500)
    page.look(f"viewer-full-grid-{kind}")
    zoom_and_pan(page, full, kind)
    page.press("Escape")
    vote_blind(page, full, server, kind)
    page.page.wait_for_timeout(300)
    page.press("Escape", "Escape")
    full.wait_for(state="detached")
    assert page.page.evaluate("() => app.graph.nodes.length") == 9 and page.mode() == "grid"
    assert not page.comfy_page.errors


def zoom_and_pan(page: ViewerPage, full: Any, kind: str) -> None:
    """Ends with a comparison."""
    wide = full.locator(".cell").first.bounding_box()["width"]
    page.press("+", "+", "+", "+", "+", "+")
    grown = full.locator(".cell").first.bounding_box()["width"]
    assert grown > 2 * wide
    before = full.locator(".grid").evaluate("grid => [grid.scrollLeft, grid.scrollTop]")
    header, left = full.locator(".header-x").first, full.locator(".header-y").first
    top = header.bounding_box()["y"]
    box = full.locator(".grid").bounding_box()
    page.page.mouse.move(box["x"] + 700, box["y"] + 500)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 300, box["y"] + 200, steps=5)
    page.page.mouse.up()
    page.page.wait_for_timeout(200)
    scrolled = full.locator(".grid").evaluate("grid => [grid.scrollLeft, grid.scrollTop]")
    assert scrolled == pytest.approx([before[0] + 400, before[1] + 300], abs=3), "a drag pans and is no click"
    assert header.bounding_box()["y"] == top and left.bounding_box()["x"] == pytest.approx(box["x"], abs=1), "the headers stay"
    page.look(f"viewer-full-zoomed-{kind}")
    page.press("0", "Enter", "ArrowDown")
    assert page.facts(full)["epoch"] == "1"
    page.press("?")
    page.look(f"viewer-full-help-{kind}")
    assert full.locator(".cover").is_visible()
    page.press("Escape", "c", "d")
    page.look(f"viewer-full-difference-{kind}")


def vote_blind(page: ViewerPage, full: Any, server: ComfyUI, kind: str) -> None:
    """No name is to be seen before the ranking; ends with the picture of the first."""
    page.press("v")
    full.locator(".votes button:enabled").first.wait_for()
    page.page.wait_for_timeout(500)
    page.look(f"viewer-blind-{kind}")
    shown = full.locator(".blind").inner_text()
    assert "Which one is better?" in shown and "epoch" not in shown and "no LoRA" not in shown and "strength" in shown
    (folder,) = {votes.parent for votes in run_of(server, NAME).folder.glob("compare/*/sheets")}

    def vote(key: str, expected: int) -> None:
        page.page.keyboard.press(key)
        full.locator(".blind-head .hint").get_by_text(f"{expected} votes").wait_for()
        page.page.wait_for_timeout(250)

    for number, key in enumerate(("ArrowLeft", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowLeft", "ArrowRight"), start=1):
        vote(key, number)
    votes = json.loads((folder / "votes.json").read_text(encoding="utf-8"))
    assert [vote["score"] for vote in votes] == [1.0, 0.0, 0.5, 1.0, 1.0, 0.0]
    assert len({frozenset((vote["first"].split("_")[0], vote["second"].split("_")[0])) for vote in votes}) == 6, "each pair of rows once"
    vote("Backspace", 5)
    full.get_by_role("button", name="Show the ranking").click()
    ranks = full.locator(".rank-name").all_inner_texts()
    assert sorted(ranks) == sorted(page.viewer.locator(".header-y").all_inner_texts())
    assert "No decisive winner yet" in full.locator(".ranking").inner_text() and full.locator(".rank-range").count() == 4
    page.look(f"viewer-ranking-{kind}")
    full.locator(".rank-name").first.click()
    full.locator(".facts h3").get_by_text(ranks[0]).wait_for()  # drawn with the next frame


def test_pictures_appear_while_they_are_drawn(open_viewer, server):
    page = open_viewer()
    page.build(width_px=0, x_axis="seed", x_values="101-112", y_axis="none", y_values="", steps=40, baseline=False, epoch="last")
    prompt_id = page.comfy_page.queue()
    drawn = page.viewer.locator(".cell img:not([hidden])")
    page.viewer.locator(".cell").first.wait_for(state="attached")
    assert page.viewer.locator(".cell").count() == 12
    page.fit()
    seen = set()
    while server.history(prompt_id) is None:
        seen.add(drawn.count())
        page.page.wait_for_timeout(200)
    assert any(0 < num < 12 for num in seen), seen
    page.page.wait_for_function(f"() => ({SHOWN_CELLS})() === 12", timeout=LIMIT_MS)
    page.look("viewer-narrow-canvas")
    page.cell(0, 2).click()
    page.look("viewer-narrow-large-canvas")
    assert page.facts()["seed"] == "103"
    assert not page.comfy_page.errors


def test_an_epoch_of_another_run_goes_to_the_nodes_of_that_run(open_viewer, server):
    page = open_viewer(vue_nodes=True)
    page.build(x_axis="run", x_values=f"{NAME}\n{OTHER}", y_axis="epoch", y_values="1, 2", baseline=False)
    assert failure(server.wait(page.comfy_page.queue(), LIMIT_SEC)) is None
    page.viewer.locator(".cell").first.wait_for(state="attached")
    page.fit()
    page.viewer.locator(".cell").nth(3).click()
    assert (page.facts()["run"], page.facts()["epoch"]) == (OTHER, "2")
    page.press("u")
    page.viewer.locator(".note").get_by_text("Epoch 2 is chosen").wait_for()
    queued = page.comfy_page.to_api()
    assert [queued[page.ids[name]]["inputs"]["epochs"] for name in ("save", "behind", "away")] == ["last", "last", "2"]
    assert queued[page.ids["xy"]]["inputs"]["chosen"] == "", "the node's own run has chosen nothing"
    choice = run_of(server, OTHER).folder / "choice.json"
    assert json.loads(choice.read_text(encoding="utf-8"))["epoch"] == 2
    assert not (run_of(server, NAME).folder / "choice.json").exists()
    choice.unlink()
    assert not page.comfy_page.errors


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_both_languages_have_every_text(open_viewer, locale):
    page = open_viewer(settings={"Comfy.Locale": locale})
    page.build()
    assert ("画好后" if locale == "zh" else "once it is drawn") in page.viewer.locator(".empty").inner_text()
    tables = page.page.evaluate("async () => (await import('/extensions/athanor/viewer/text.mjs')).TEXTS")
    assert tables["en"].keys() == tables["zh"].keys()

    def places(text: str) -> list[str]:
        return sorted(part.split("}")[0] for part in text.split("{")[1:])

    assert all(places(tables["zh"][key]) == places(text) and tables["zh"][key].strip() for key, text in tables["en"].items())
    long = "a prompt that goes on for much longer than any heading has room for, and tells its colour only at the very end: "
    shortened = page.page.evaluate(
        "async labels => (await import('/extensions/athanor/viewer/grid.mjs')).short(labels)", ["no LoRA", f"{long}red", f"{long}blue"]
    )
    assert shortened == ["no LoRA", "…red", "…blue"]
    (whole, _) = page.page.evaluate("async labels => (await import('/extensions/athanor/viewer/grid.mjs')).short(labels)", [f"{long}red", "blue"])
    assert whole.startswith("a prompt that goes") and "…" in whole and whole.endswith("very end: red") and len(whole) <= 61
    for label, end in (
        (f"{long}very red", "red"),
        ("unbroken" * 30 + "9", "9"),
        ("a 👩\u200d👩\u200d👧 " * 12 + "the last 👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
    ):
        fitted, is_whole = page.page.evaluate(FITTED, label)
        assert is_whole and "…" in fitted and fitted.endswith(end), "the end is what tells labels apart"
        fitted.encode("utf-8")  # no half of an emoji
    assert page.page.evaluate(FITTED, "epoch 3") == ["epoch 3", True]
