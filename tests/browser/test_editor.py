"""The tag editor in the real page, on 300 pictures: from the button on the node to the captions that a training gets."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfyui_server import ComfyUI, failure
from PIL import Image, ImageDraw

from athanor.tagger.hand_edits import parse_hand_edits, picture_keys
from athanor.tagger.tags import match_key, split_tags, without_duplicates
from athanor.trainer.run import Run

pytestmark = [pytest.mark.comfy, pytest.mark.browser, pytest.mark.slow]
FOLDER = "三百 pictures"
NUM_PICTURES = 300
LIMIT_SEC = 600
PAGE_LIMIT_MS = 30_000
MINIATURE = "Athanor miniature (built in)"
TAGS = ("solo", "long hair", "smile", "blue eyes", "hat", "outdoors", "white shirt", "hatsune miku", "flower")

BUILD = """
([folder, withTraining]) => {
  app.graph.clear()
  const add = (type, column) => {
    const node = LiteGraph.createNode(type)
    node.pos = [column * 500, 60]
    app.graph.add(node)
    return node
  }
  const set = (node, values) => {
    for (const name in values) node.widgets.find(widget => widget.name === name).value = values[name]
  }
  const data = add('AthanorLoadDataset', 0), edit = add('AthanorEditTags', 1), bucket = add('AthanorBucket', 2)
  set(data, { folder, validation_percent: 0, trigger: '' })
  set(edit, { max_images: 10, rules: 'deduplicate', lexicon: 'editor.csv' })
  data.connect(0, edit, 0)
  edit.connect(0, bucket, 0)
  if (withTraining) {
    const base = add('AthanorLoadBaseModel', 0), train = add('AthanorTrainLora', 3)
    base.pos = [0, 600]
    set(base, { model: 'Athanor miniature (built in)' })
    set(train, { name: 'edited by hand', epochs: 1, batch_size: 50, precision: 'fp32', sample_prompts: '', 'adapter.rank': 2 })
    base.connect(0, bucket, bucket.inputs.findIndex(input => input.name === 'base_model'))
    base.connect(0, train, train.inputs.findIndex(input => input.name === 'base_model'))
    bucket.connect(0, train, train.inputs.findIndex(input => input.name === 'dataset'))
  }
}
"""
NODE = "app.graph.nodes.find(node => node.type === 'AthanorEditTags')"


def captions() -> list[str]:
    chance = random.Random(1)
    return ["" if i % 20 == 7 else ", ".join(["1girl", *chance.sample(TAGS, chance.randrange(2, 7))]) for i in range(NUM_PICTURES)]


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    folder = comfyui.input_folder / FOLDER
    folder.mkdir(parents=True)
    for i, caption in enumerate(captions()):
        picture = Image.new("RGB", (72, 64) if i % 2 else (64, 72), ((i * 7) % 256, (i * 13) % 256, (i * 29) % 256))
        ImageDraw.Draw(picture).ellipse((10, 10, 50, 50), ((i * 31) % 256, 200, 60))
        picture.save(folder / f"{i:03d}.jpg")
        if caption:
            (folder / f"{i:03d}.txt").write_text(caption, encoding="utf-8")
    lexicons = comfyui.models_folder / "tag_lexicons"
    lexicons.mkdir(parents=True, exist_ok=True)
    text = '1girl,0,6000,"sole_female"\nhatsune_miku,4,900,miku\nvocaloid,3,800,\nparallel_speed_lines,0,90,\ngreyscale,5,70,grayscale\n'
    (lexicons / "editor.csv").write_text(text, encoding="utf-8")
    return comfyui


class EditorPage:
    """The editor in a page of ComfyUI."""

    def __init__(self, comfy_page: Any):
        self.comfy_page = comfy_page
        self.page = comfy_page.page
        self.page.set_default_timeout(PAGE_LIMIT_MS)
        self.dialog = self.page.locator("dialog.athanor-editor")
        self.grid = self.dialog.locator(".grid")
        self.cards = self.dialog.locator(".card")
        self.filter = self.dialog.locator("input.filter")
        self.status = self.dialog.locator(".status")
        self.panel = self.dialog.locator(".panel")
        self.add = self.panel.locator("input.field").first

    def drawn(self) -> None:
        """The editor draws once a frame; what was asked for is to be seen after the next one."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
        self.drawn()

    def open_by_button(self) -> None:
        """As a user does, where the renderer draws the button."""
        if self.page.evaluate("() => LiteGraph.vueNodesMode"):
            self.page.get_by_role("button", name="Edit tags…").click()
        else:
            self.page.wait_for_function(f"() => {NODE}.widgets.find(widget => widget.name === 'edit_tags').last_y > 0")  # it was drawn
            place = self.page.evaluate(
                f"""() => {{
                  const node = {NODE}, widget = node.widgets.find(widget => widget.name === 'edit_tags')
                  const [x, y] = app.canvas.convertOffsetToCanvas([node.pos[0] + node.size[0] / 2, node.pos[1] + widget.last_y + 10])
                  const box = app.canvas.canvas.getBoundingClientRect()
                  return [box.left + x, box.top + y]
                }}"""
            )
            self.page.mouse.move(*place)
            self.page.wait_for_timeout(200)
            self.page.mouse.click(*place, delay=50)
        self.dialog.wait_for()

    def open_and_run(self) -> None:
        self.open_by_button()
        self.dialog.get_by_role("button", name="Run up to this node").click()
        self.cards.first.wait_for()

    def selected(self) -> int:
        self.drawn()
        return self.grid.locator(".card[aria-selected=true]").count()

    def counter(self) -> str:
        self.drawn()
        return self.dialog.locator(".counter").inner_text()

    def chips(self) -> list[str]:
        self.drawn()
        return self.panel.locator(".chip-text").all_inner_texts()

    def hand_edits(self) -> str:
        return self.page.evaluate(f"() => {NODE}.widgets.find(widget => widget.name === 'hand_edits').value")

    def set_filter(self, text: str, shown: int) -> None:
        self.filter.fill(text)
        self.page.wait_for_function(
            "text => document.querySelector('dialog.athanor-editor > div').shadowRoot.querySelector('.counter').textContent.startsWith(text)",
            arg=f"{shown} ",
        )


@pytest.fixture
def open_editor_page(open_page: Callable[..., Any], server: ComfyUI) -> Callable[..., EditorPage]:
    def open_(with_training: bool = False, **options: Any) -> EditorPage:
        comfy_page = open_page(**options)
        comfy_page.page.evaluate(BUILD, [FOLDER, with_training])
        comfy_page.page.wait_for_timeout(500)
        return EditorPage(comfy_page)

    return open_


def reopened(editor: EditorPage) -> EditorPage:
    """After the page was reloaded: ComfyUI brings back the workflow itself."""
    editor.page.wait_for_timeout(1500)  # it keeps drafts a moment after a change
    editor.page.reload()
    editor.page.wait_for_function(f"() => window.app?.vueAppReady && window.app.graph?.nodes.length && {NODE}?.widgets?.length")
    editor.page.wait_for_timeout(500)
    return editor


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
    assert editor.status.inner_text() == f"{len(with_hat)} captions changed"
    editor.panel.locator("input.field").nth(1).fill("hat")
    editor.press("Escape")
    editor.panel.locator("input.field").nth(1).press("Enter")
    editor.page.keyboard.type("red hat, ribbon")
    editor.press("Enter")
    assert editor.status.inner_text() == f"{len(with_hat)} captions changed"

    editor.grid.focus()
    editor.press("Control+z")
    assert editor.status.inner_text() == f"Undone: {len(with_hat)} captions"
    assert "red hat" not in editor.chips() and "greyscale" in editor.chips()
    editor.press("Control+y")
    assert editor.status.inner_text() == f"Done again: {len(with_hat)} captions"
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
    editor.cards.nth(0).click()
    editor.cards.nth(3).click(modifiers=["Shift"])
    editor.cards.nth(1).click(modifiers=["Control"])
    assert editor.selected() == 3
    editor.cards.nth(2).click()
    before = editor.chips()
    chips = editor.panel.locator(".chip")
    chips.nth(0).drag_to(chips.nth(len(before) - 1), target_position={"x": chips.nth(len(before) - 1).bounding_box()["width"] - 4, "y": 8})
    assert editor.chips() == [*before[1:], before[0]]
    chips.nth(0).locator(".chip-x").click()
    assert editor.chips() == [*before[2:], before[0]]
    assert "cat-character" in (editor.dialog.locator(".cloud-row", has_text="hatsune miku").get_attribute("class") or "")
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


def test_the_scripts_agree_with_python(open_editor_page):
    """Hand edits are made by the page and replayed by Python: both must mean the same."""
    editor = open_editor_page()
    chance = random.Random(3)
    words = ["a", "B", "long_hair", "long hair", "Long  Hair", r"poster \(object\)", "poster (object)", r"\(^o^)/", "^_^", "ß", "ss", "蓝 发", "x_x"]
    pairs = [([*chance.choices(words, k=chance.randrange(0, 7))], [*chance.choices(words, k=chance.randrange(0, 7))]) for _ in range(400)]
    others = [[*chance.choices(words, k=chance.randrange(0, 7))] for _ in pairs]
    made = editor.page.evaluate(
        """async ([pairs, others, words]) => {
          const { diff, replay, editsText } = await import('/extensions/athanor/editor/edits.mjs')
          const { matchKey, splitTags, withoutDuplicates } = await import('/extensions/athanor/editor/tags.mjs')
          const edits = pairs.map(([before, after]) => diff(before, after))
          const text = editsText(new Map(edits.flatMap((edit, i) => edit ? [[`set/${i}.png`, edit]] : [])))
          return [text, edits.map((edit, i) => edit ? replay(others[i], edit) : others[i]), words.map(matchKey), splitTags(words.join(',')),
                  pairs.map(([before]) => withoutDuplicates(before))]
        }""",
        [pairs, others, words],
    )
    text, replayed, keys, parts, first = made
    edits = parse_hand_edits(text)
    assert len(edits) > 200
    for i, (before, after) in enumerate(pairs):
        edit = edits.get(f"set/{i}.png")
        if edit is None:
            assert without_duplicates(before) == without_duplicates(after)
            continue
        assert edit.replayed(tuple(before)) == without_duplicates(after), (before, after)
        assert edit.replayed(tuple(others[i])) == tuple(replayed[i]), (before, after, others[i])
    assert keys == [match_key(word) for word in words]
    assert tuple(parts) == split_tags(",".join(words))
    assert [tuple(tags) for tags in first] == [without_duplicates(before) for before, _ in pairs]


def test_both_languages_have_every_text(open_editor_page):
    editor = open_editor_page(settings={"Comfy.Locale": "zh"})
    tables = editor.page.evaluate("async () => (await import('/extensions/athanor/editor/text.mjs')).TEXTS")
    assert tables["en"].keys() == tables["zh"].keys()
    places = {key: sorted(part.split("}")[0] for part in text.split("{")[1:]) for key, text in tables["en"].items()}
    assert {key: sorted(part.split("}")[0] for part in text.split("{")[1:]) for key, text in tables["zh"].items()} == places
    assert all(text.strip() for table in tables.values() for text in table.values())
