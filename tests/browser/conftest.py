"""ComfyUI's real page in headless Chromium."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from chromium import COMFYUI_SETTINGS, FLAGS, PAGE_IS_READY, find_chromium
from comfyui_server import ComfyUI

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

READY_LIMIT_MS = 120_000
PROBLEMS = """
() => {
  const problems = []
  for (const node of app.graph.nodes) {
    if (!LiteGraph.registered_node_types[node.type] && !node.isVirtualNode) problems.push(`${node.type} is missing`)
    if (node.has_errors) problems.push(`${node.type} is marked red`)
    for (const widget of node.widgets ?? []) {
      let values = widget.type === 'combo' ? widget.options?.values : null
      if (typeof values === 'function') values = values(widget, node)
      if (values && !Array.isArray(values)) values = Object.keys(values)
      if (values && !values.includes(widget.value)) problems.push(`${node.type}.${widget.name} is ${JSON.stringify(widget.value)}`)
    }
  }
  const errors = app.lastNodeErrors ?? {}
  for (const id in errors) for (const error of errors[id].errors) problems.push(`${errors[id].class_type}: ${error.message} ${error.details}`)
  return problems
}
"""


class ComfyPage:
    """The page of a server, ready to be used. `page` is Playwright's; `errors` are uncaught errors of its scripts."""

    def __init__(self, page: Any, server: ComfyUI):
        self.page = page
        self.server = server
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self) -> None:
        self.page.goto(self.server.url)
        self.page.wait_for_function(PAGE_IS_READY, timeout=READY_LIMIT_MS)

    def load(self, workflow: dict[str, Any]) -> None:
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self.page.wait_for_timeout(500)  # the page marks missing nodes and models a moment later

    def problems(self) -> list[str]:
        """Missing nodes, nodes marked red, choices that are not on their list, and what the server complained about."""
        return self.page.evaluate(PROBLEMS)

    def to_api(self) -> dict[str, Any]:
        """The prompt that the page would queue."""
        return self.page.evaluate("() => app.graphToPrompt().then(both => both.output)")

    def saved(self) -> dict[str, Any]:
        """The workflow as the page would save it."""
        return self.page.evaluate("() => app.graph.serialize()")

    def queue(self) -> str:
        """Queues the graph as the Run button does and returns the prompt's id. Fails with the server's complaint if it is refused."""
        with self.page.expect_response(lambda response: urlsplit(response.url).path == "/api/prompt") as posted:
            self.page.evaluate("() => { app.queuePrompt(0) }")
        answer = posted.value
        assert answer.ok, f"{answer.text()} {self.problems()}"
        return answer.json()["prompt_id"]

    def screenshot(self, name: str, fit: bool = True) -> None:
        """Of the whole graph, or of the page as it is. Kept in the folder that ATHANOR_SCREENSHOTS names, if it names one."""
        folder = os.environ.get("ATHANOR_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            if fit:
                self.page.evaluate("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
                self.page.wait_for_timeout(1000)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium: install chromium, or let ATHANOR_CHROMIUM name its program")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, comfyui: ComfyUI) -> Iterator[Callable[..., ComfyPage]]:
    """open_page(vue_nodes=False, server=comfyui, settings={}) opens the page in a fresh browser profile."""
    contexts = []

    def open_(vue_nodes: bool = False, server: ComfyUI = comfyui, settings: dict[str, Any] | None = None) -> ComfyPage:
        for key, value in {**COMFYUI_SETTINGS, "Comfy.VueNodes.Enabled": vue_nodes, **(settings or {})}.items():
            server.post(f"/settings/{key}", value)
        context = chromium.new_context(viewport={"width": 1600, "height": 1000}, locale="en-US")
        contexts.append(context)
        context.set_default_timeout(READY_LIMIT_MS)
        # The page must work without the internet, and tests must not depend on it.
        context.route(lambda url: urlsplit(url).hostname != "127.0.0.1", lambda route: route.abort())
        comfy_page = ComfyPage(context.new_page(), server)
        comfy_page.open()
        return comfy_page

    yield open_
    for context in contexts:
        context.close()
