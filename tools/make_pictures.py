"""Draws the pictures of the example workflows: `python tools/make_pictures.py http://127.0.0.1:8188 [NAME ...]` with a ComfyUI running.

Each workflow is opened in the real page, in headless Chromium. One that needs nothing but what comes with Athanor is queued
first and drawn when it has ended, with its results on the nodes. Written: example_workflows/NAME.jpg, which the page shows
among its templates, and docs/images/quickstart.png for the README.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

from chromium import COMFYUI_SETTINGS, FLAGS, PAGE_IS_READY, find_chromium
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / "example_workflows"
README_PICTURES = {"quickstart": ROOT / "docs" / "images" / "quickstart.png"}
WITH_OTHER_MODELS = frozenset({"train_a_flux_lora_on_16_gb", "train_an_sdxl_lora", "train_on_a_merge"})
"""Drawn as they are opened, since the models they train on do not come with Athanor."""
RUN_LIMIT_SEC = 1800
THUMBNAIL_PX, README_PX, MAX_VIEW_PX = 768, 2000, (3600, 2400)
MARGIN_PX = 30

HIDE_ALL_BUT_THE_GRAPH = "body * { visibility: hidden } #graph-canvas, .dom-widget, .dom-widget * { visibility: visible }"
BOUNDS = """
() => {
  const boxes = app.graph.nodes.map(node => node.getBounding())
  const left = Math.min(...boxes.map(box => box[0])), top = Math.min(...boxes.map(box => box[1]))
  return [left, top, Math.max(...boxes.map(box => box[0] + box[2])) - left, Math.max(...boxes.map(box => box[1] + box[3])) - top]
}
"""
SHOW = """
([left, top, scale]) => {
  app.canvas.ds.scale = scale
  app.canvas.ds.offset = [-left, -top]
  app.canvas.render_info = app.canvas.show_info = false
  app.canvas.setDirty(true, true)
}
"""


def run_from_the_page(page: Any) -> None:
    """Queues the graph and waits for its end. Raises RuntimeError if it fails."""
    with page.expect_response(lambda response: response.url.endswith("/api/prompt")) as posted:
        page.evaluate("() => { app.queuePrompt(0) }")
    prompt = posted.value.json()["prompt_id"]
    until = time.monotonic() + RUN_LIMIT_SEC
    while not (entry := page.evaluate("id => fetch(`/history/${id}`).then(answer => answer.json())", prompt).get(prompt)):
        if time.monotonic() > until:
            raise RuntimeError(f"the workflow did not end within {RUN_LIMIT_SEC} s")
        page.wait_for_timeout(1000)
    if entry["status"]["status_str"] != "success":
        raise RuntimeError(f"the workflow failed: {entry['status']['messages'][-1]}")
    page.wait_for_timeout(3000)  # the page fetches the results and draws them


def picture_of(page: Any) -> Image.Image:
    left, top, width, height = page.evaluate(BOUNDS)
    left, top, width, height = left - MARGIN_PX, top - MARGIN_PX, width + 2 * MARGIN_PX, height + 2 * MARGIN_PX
    scale = min(1.0, MAX_VIEW_PX[0] / width, MAX_VIEW_PX[1] / height)
    page.set_viewport_size({"width": round(width * scale), "height": round(height * scale)})
    page.wait_for_timeout(1000)
    page.evaluate(SHOW, [left, top, scale])
    style = page.add_style_tag(content=HIDE_ALL_BUT_THE_GRAPH)
    page.wait_for_timeout(1500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    style.evaluate("style => style.remove()")
    return picture


def scaled(picture: Image.Image, width: int) -> Image.Image:
    return picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)


def main(url: str, names: list[str]) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(url)
        page.evaluate(
            "settings => Promise.all(Object.entries(settings).map(([key, value]) => fetch(`/settings/${key}`, {method: 'POST', body: JSON.stringify(value)})))",
            COMFYUI_SETTINGS,
        )
        page.goto(url)
        page.wait_for_function(PAGE_IS_READY, timeout=120_000)
        for name in names:
            page.set_viewport_size({"width": 1600, "height": 1000})
            page.evaluate("workflow => app.loadGraphData(workflow)", json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8")))
            page.wait_for_timeout(1500)
            if name not in WITH_OTHER_MODELS:
                run_from_the_page(page)
            picture = picture_of(page)
            scaled(picture, THUMBNAIL_PX).save(WORKFLOWS / f"{name}.jpg", quality=88)
            if name in README_PICTURES:
                scaled(picture, README_PX).save(README_PICTURES[name], optimize=True)
            sys.stdout.write(f"{name}: {picture.width} × {picture.height}\n")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] or sorted(file.stem for file in WORKFLOWS.glob("*.json")))
