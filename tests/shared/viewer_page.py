"""The viewer of XY Plot Compare in a page of ComfyUI, as tests use it."""

from __future__ import annotations

import io
from typing import Any

from comfyui_server import failure
from graphs import BASE
from PIL import Image, ImageStat

FOLDER, NAME, OTHER = "seen 图片", "seen 看", "another run"
LIMIT_SEC = 600
LIMIT_MS = 120_000

BUILD = """
([base, run, other, look, width]) => {
  app.graph.clear()
  const add = (type, x, y, width) => {
    const node = LiteGraph.createNode(type)
    node.pos = [x, y]
    app.graph.add(node)
    if (width) node.setSize([width, node.size[1]])
    return node
  }
  const set = (node, values) => {
    for (const name in values) node.widgets.find(widget => widget.name === name).value = values[name]
  }
  const link = (from, slot, to, name) => from.connect(slot, to, to.inputs.findIndex(input => input.name === name))
  const model = add('AthanorLoadBaseModel', 0, 60), load = add('AthanorLoadRun', 0, 420), xy = add('AthanorXYPlotCompare', 460, 60, width)
  const save = add('AthanorSaveEpoch', 1300, 60), behind = add('AthanorSaveEpoch', 1300, 360), wired = add('AthanorSaveEpoch', 1300, 660)
  const foreign = add('AthanorLoadRun', 0, 760), away = add('AthanorSaveEpoch', 1300, 960), chosen = add('PreviewAny', 1760, 60)
  set(model, { model: base })
  set(load, { run })
  set(foreign, { run: other })
  set(xy, { prompts: 'subject', steps: 2, width: 32, height: 32, ...look })
  for (const [node, filename] of [[save, 'a'], [behind, 'b'], [wired, 'c'], [away, 'd']]) set(node, { epochs: 'last', filename })
  link(load, 0, xy, 'run')
  link(model, 0, xy, 'base_model')
  link(load, 0, save, 'run')
  link(save, 0, behind, 'run')
  link(load, 0, wired, 'run')
  link(foreign, 0, away, 'run')
  link(xy, 2, wired, 'epochs')
  link(xy, 2, chosen, 'source')
  return [xy.id, save.id, behind.id, wired.id, away.id, chosen.id].map(String)
}
"""
SHOWN_CELLS = """
() => [...document.querySelector('.athanor-viewer').shadowRoot.querySelectorAll('.cell img')].filter(image => !image.hidden && image.naturalWidth > 0).length
"""
PLACES = """
viewer => {
  const stage = viewer.shadowRoot.querySelector('.stage')
  const boxes = [...stage.querySelectorAll('.pane img')].map(image => [image.style.left, image.style.top, image.style.width])
  return [boxes[0], boxes[1], stage.querySelector('.line').style.left]
}
"""


class ViewerPage:
    def __init__(self, comfy_page: Any):
        self.comfy_page, self.page = comfy_page, comfy_page.page
        self.viewer = self.page.locator(".athanor-viewer").first
        self.ids: dict[str, str] = {}

    def build(self, width_px: int = 760, **look: Any) -> None:
        ids = self.page.evaluate(BUILD, [BASE, NAME, OTHER, look, width_px])
        self.ids = dict(zip(("xy", "save", "behind", "wired", "away", "chosen"), ids, strict=True))
        self.page.wait_for_timeout(500)

    def open_grid(self) -> None:
        """Queues the graph, in which everything is drawn already, and waits for the twelve pictures."""
        assert "once it is drawn" in self.viewer.locator(".empty").inner_text()
        assert failure(self.comfy_page.server.wait(self.comfy_page.queue(), LIMIT_SEC)) is None
        self.viewer.locator(".cell").first.wait_for(state="attached")
        self.fit()
        self.wait_for_grid()

    def wait_for_grid(self) -> None:
        self.page.wait_for_function(f"() => ({SHOWN_CELLS})() === 12", timeout=LIMIT_MS)

    def fit(self) -> None:
        """The node in the middle of the window, at its full size, as a person would bring it there."""
        self.page.evaluate(
            """id => {
              const node = app.graph.getNodeById(id), { ds } = app.canvas
              ds.scale = 1
              ds.offset = [420 - node.pos[0], 960 - node.pos[1] - node.size[1]]
              app.canvas.setDirty(true, true)
            }""",
            int(self.ids["xy"]),
        )
        self.page.wait_for_timeout(700)

    def cell(self, row: int, column: int) -> Any:
        return self.viewer.locator(".cell").nth(row * 3 + column)

    def settle(self) -> None:
        """What has changed is drawn with the next frame, which a busy machine draws late."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def mode(self) -> str:
        self.settle()
        return self.viewer.locator(".mode[aria-pressed=true]").get_attribute("data-mode")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.page.wait_for_timeout(60)

    def facts(self, viewer: Any = None) -> dict[str, str]:
        self.settle()
        facts = (viewer or self.viewer).locator(".facts dl")
        return dict(zip(facts.locator("dt").all_inner_texts(), facts.locator("dd").all_inner_texts(), strict=True))

    def tags(self) -> list[str]:
        return [" ".join(text.replace("(best)", "").split()) for text in self.viewer.locator(".tag").all_inner_texts()]

    def places(self) -> Any:
        """Where both pictures and the line stand."""
        return self.viewer.evaluate(PLACES)

    def seen(self, locator: Any) -> Image.Image:
        self.page.wait_for_timeout(400)
        return Image.open(io.BytesIO(locator.screenshot())).convert("RGB")

    def look(self, name: str) -> None:
        self.page.wait_for_timeout(300)
        self.comfy_page.screenshot(name, fit=False)


def brightness(picture: Image.Image) -> float:
    """Mean of the middle, without the labels and buttons over the edges."""
    width, height = picture.size
    return sum(ImageStat.Stat(picture.crop((width // 3, height // 3, width * 2 // 3, height * 2 // 3))).mean) / 3
