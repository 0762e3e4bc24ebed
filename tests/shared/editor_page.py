"""The tag editor in a page of ComfyUI, as tests use it, and the pictures that it shows there."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

FOLDER = "三百 pictures"
NUM_PICTURES = 300
PAGE_LIMIT_MS = 30_000
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
  set(edit, { max_images: 10, rules: 'deduplicate', lexicon: 'page.csv' })
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


def make_pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for i, caption in enumerate(captions()):
        picture = Image.new("RGB", (72, 64) if i % 2 else (64, 72), ((i * 7) % 256, (i * 13) % 256, (i * 29) % 256))
        ImageDraw.Draw(picture).ellipse((10, 10, 50, 50), ((i * 31) % 256, 200, 60))
        picture.save(folder / f"{i:03d}.jpg")
        if caption:
            (folder / f"{i:03d}.txt").write_text(caption, encoding="utf-8")


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


def reopened(editor: EditorPage) -> EditorPage:
    """After the page was reloaded: ComfyUI brings back the workflow itself."""
    editor.page.wait_for_timeout(1500)  # it keeps drafts a moment after a change
    editor.page.reload()
    editor.page.wait_for_function(f"() => window.app?.vueAppReady && window.app.graph?.nodes.length && {NODE}?.widgets?.length")
    editor.page.wait_for_timeout(500)
    return editor
