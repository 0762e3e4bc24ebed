"""The live panel in the real page: the curve grows, comes back after a reload, the buttons reach the worker, a stopped run goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comfyui_server import ComfyUI, failure
from graphs import BASE, run_of, training
from tiny import make_base, make_pictures

from athanor.trainer.memory.devices import slowdown_message
from athanor.trainer.runs.events import parse_events
from athanor.trainer.runs.history import MAX_POINTS
from athanor.trainer.runs.run import Run

pytestmark = [pytest.mark.comfy, pytest.mark.browser, pytest.mark.slow]
FOLDER = "watched 图片"
LIMIT_SEC = 600
LIMIT_MS = 180_000

BUILD = """
([type, folder, base, values]) => {
  app.graph.clear()
  const add = (type, x, y) => {
    const node = LiteGraph.createNode(type)
    node.pos = [x, y]
    app.graph.add(node)
    return node
  }
  const set = (node, values) => {
    for (const name in values) node.widgets.find(widget => widget.name === name).value = values[name]
  }
  const link = (from, to, name) => from.connect(0, to, to.inputs.findIndex(input => input.name === name))
  const data = add('AthanorLoadDataset', 0, 60), model = add('AthanorLoadBaseModel', 0, 500)
  const bucket = add('AthanorBucket', 420, 60), train = add(type, 840, 60)
  set(data, { folder, validation_percent: 20, trigger: 'subject' })
  set(model, { model: base })
  if (type === 'AthanorTrainLora') set(train, { 'adapter.rank': 2, 'adapter.alpha': 2, rate: 0.01 })
  set(train, { batch_size: 2, precision: 'fp32', sample_steps: 2, ...values })
  link(data, bucket, 'dataset')
  link(model, bucket, 'base_model')
  link(model, train, 'base_model')
  link(bucket, train, 'dataset')
}
"""
LORA, EMBEDDING = "AthanorTrainLora", "AthanorTrainEmbedding"
NODE = "app.graph.nodes.find(node => node.type.startsWith('AthanorTrain'))"
INK = """
() => {
  const canvas = [...document.querySelectorAll('.athanor-panel')].at(-1).shadowRoot.querySelector('canvas')
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data
  let left = Infinity, right = -1
  for (let i = 0; i < pixels.length; i += 4) {
    const [r, g, b, a] = pixels.slice(i, i + 4)
    if (a > 200 && r > 200 && g > 120 && g < 180 && b < 110) {
      const x = (i / 4) % canvas.width
      left = Math.min(left, x)
      right = Math.max(right, x)
    }
  }
  return right < 0 ? 0 : (right - left) / canvas.width
}
"""

CUT_OFF = """
() => {
  const host = document.querySelector('.athanor-panel'), found = []
  for (const width of [290, 330, 360, 400, 460, 700]) {
    host.style.width = `${width}px`
    const header = host.shadowRoot.querySelector('header').getBoundingClientRect()
    for (const part of host.shadowRoot.querySelectorAll('header .state, header .num')) {
      const { right, bottom } = part.getBoundingClientRect()
      if (right > header.right + 1 || bottom > header.bottom + 1) found.push(`${part.textContent} at ${width} px`)
    }
    if (host.shadowRoot.querySelector('.name').clientWidth < 60) found.push(`the name at ${width} px`)
  }
  host.style.width = '100%'
  return found
}
"""
LABELS = """
async (ranges) => {
  const { ticks } = await import('/extensions/athanor/panel/curve.mjs')
  return ranges.map(([low, high]) => ticks(low, high, 5).map(([, text]) => text))
}
"""
SCALES = """
() => {
  const canvas = document.querySelector('.athanor-panel').shadowRoot.querySelector('canvas')
  return [canvas.width / canvas.clientWidth, canvas.height / canvas.clientHeight]
}
"""


class PanelPage:
    def __init__(self, comfy_page: Any):
        self.comfy_page, self.page = comfy_page, comfy_page.page
        self.panel = self.page.locator(".athanor-panel")

    def build(self, kind: str = LORA, **values: Any) -> None:
        self.page.evaluate(BUILD, [kind, FOLDER, BASE, values])
        self.page.wait_for_timeout(500)
        self.fit()

    def text(self) -> str:
        return self.panel.locator(".panel").inner_text()

    def state(self) -> str:
        return self.panel.locator(".state").inner_text()

    def step(self) -> int:
        text = self.panel.locator("header .num").first.text_content() or ""
        return int(text.split()[1]) if text else 0

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        for _ in range(LIMIT_MS // 100):
            if condition():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"{what}: {self.text()}")

    def ink(self) -> float:
        """Which share of the canvas's width the curve spans."""
        return self.page.evaluate(INK)

    def fit(self) -> None:
        """What grew with the sample pictures comes into view, as a person would bring it there."""
        self.page.evaluate("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self.page.wait_for_timeout(700)

    def press(self, name: str) -> None:
        self.fit()
        self.panel.get_by_role("button", name=name, exact=True).click()

    def picture(self, name: str) -> None:
        self.comfy_page.screenshot(name)

    def reload(self) -> None:
        self.page.wait_for_timeout(1500)  # ComfyUI keeps drafts a moment after a change
        self.page.reload()
        self.page.wait_for_function(f"() => window.app?.vueAppReady && window.app.graph?.nodes.length && {NODE}?.widgets?.length")
        self.page.wait_for_timeout(500)


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    make_pictures(comfyui.input_folder / FOLDER)
    if not (comfyui.models_folder / "diffusers" / BASE).exists():
        make_base(comfyui.models_folder / "diffusers" / BASE)
    return comfyui


@pytest.fixture
def open_panel(open_page: Callable[..., Any], server: ComfyUI) -> Callable[..., PanelPage]:
    return lambda **options: PanelPage(open_page(**options))


def all_events(run: Run) -> list[dict[str, Any]]:
    return list(parse_events((run.folder / "events.jsonl").read_text(encoding="utf-8")))


def test_watch_reload_stop_and_resume(open_panel, server):
    page = open_panel()
    page.build(name="watched", epochs=400, save_every_epochs=20, sample_prompts="subject")
    assert "once it runs" in page.text()
    prompt_id = page.comfy_page.queue()
    page.wait_for(lambda: page.step() > 5, "it trains")
    early = page.step()
    page.wait_for(lambda: page.step() > early + 40, "the numbers grow")
    page.wait_for(lambda: page.ink() > 0.5, "the curve grows")
    page.wait_for(lambda: page.panel.locator(".picture img").count() >= 1, "sample pictures")
    page.picture("panel-training-canvas")

    page.press("Sample now")
    page.press("Save now")
    run = run_of(server, "watched")
    page.wait_for(
        lambda: {"sample", "saved"} <= {event["event"] for event in all_events(run) if event.get("epoch", 0) is None}, "the wishes reach the worker"
    )
    page.wait_for(
        lambda: any(text.startswith("Step") for text in page.panel.locator("figcaption").all_inner_texts()), "the page shows what was drawn on wish"
    )

    page.reload()
    page.wait_for(lambda: page.step() > early + 40, "it is found again")
    page.wait_for(lambda: page.ink() > 0.5, "with its curve")
    other = open_panel()
    other.page.evaluate("workflow => app.loadGraphData(workflow)", page.comfy_page.saved())
    other.wait_for(lambda: other.step() > early + 40, "another browser finds it, too")

    page.press("Stop")
    entry = server.wait(prompt_id, LIMIT_SEC)
    assert (failure(entry) or "").startswith("interrupted at AthanorTrainLora")
    page.wait_for(lambda: page.state().startswith("Stopped"), "it says that it has stopped")
    other.wait_for(lambda: other.state().startswith("Stopped"), "the other one as well")
    done = all_events(run)[-1]
    assert done["event"] == "done" and done["stopped"] and page.step() == done["step"] < 1000
    assert page.panel.get_by_role("button", name="Stop", exact=True).is_disabled()
    page.picture("panel-stopped-canvas")

    again = page.comfy_page.queue()
    page.wait_for(lambda: page.step() > done["step"] + 5, "it goes on where it was")
    assert [event["step"] for event in all_events(run) if event["event"] == "start"] == [0, done["step"]]
    page.press("Stop after epoch")
    assert (failure(server.wait(again, LIMIT_SEC)) or "").startswith("interrupted")
    last, per_epoch = all_events(run)[-1], next(event["steps_per_epoch"] for event in all_events(run) if event["event"] == "start")
    assert last["stopped"] and last["step"] % per_epoch == 0 and last["step"] > done["step"]
    assert not page.comfy_page.errors and not other.comfy_page.errors


def test_nodes_2_and_a_switch_between_the_renderers(open_panel, server):
    page = open_panel(vue_nodes=True)
    page.build(name="short one", epochs=12, save_every_epochs=4, sample_prompts="subject\nsubject 2")
    entry = server.wait(page.comfy_page.queue(), LIMIT_SEC)
    assert failure(entry) is None
    page.wait_for(lambda: page.state() == "Finished", "it has ended")
    page.wait_for(lambda: page.ink() > 0.7, "the whole curve is there")
    width, height = page.page.evaluate(SCALES)
    assert width == pytest.approx(height, rel=0.05), "nothing is stretched"
    page.picture("panel-finished-vue")
    assert page.panel.locator(".picture img").count() == 6
    box = page.panel.bounding_box()
    assert box["height"] > 100 and box["width"] > 150
    for vue_nodes in (False, True, False):
        page.page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", vue_nodes)
        page.page.wait_for_timeout(1500)
        assert page.page.evaluate("() => LiteGraph.vueNodesMode") == vue_nodes
        assert page.panel.count() == 1 and page.state() == "Finished"
        page.wait_for(lambda: page.ink() > 0.7, f"the curve with Nodes 2.0 {vue_nodes}")
    page.picture("panel-switched-canvas")
    saved = page.comfy_page.saved()
    (train,) = [node for node in saved["nodes"] if node["type"] == "AthanorTrainLora"]
    assert train["properties"]["athanor_run"] == "short one"
    assert "" not in train["widgets_values"][-1:] and "training" not in (page.comfy_page.to_api().popitem()[1]["inputs"]), "it is no value"
    page.fit()
    page.panel.locator(".picture").first.click()
    large = page.page.locator("dialog.athanor-sample img")
    large.wait_for()
    page.page.wait_for_function("() => document.querySelector('dialog.athanor-sample > div').shadowRoot.querySelector('img').naturalWidth > 0")
    assert "Epoch 4" in page.page.locator("dialog.athanor-sample .large-caption").inner_text()
    page.page.keyboard.press("ArrowRight")
    assert "subject 2" in page.page.locator("dialog.athanor-sample .large-caption").inner_text()
    page.page.keyboard.press("Escape")
    page.page.locator("dialog.athanor-sample").wait_for(state="detached")
    assert not page.comfy_page.errors

    light = open_panel(vue_nodes=True, settings={"Comfy.Locale": "zh", "Comfy.ColorPalette": "light"})
    light.page.evaluate("workflow => app.loadGraphData(workflow)", saved)
    light.wait_for(lambda: light.panel.locator(".state").count() == 1 and light.state() == "已完成", "found in another browser")
    light.picture("panel-light-zh")
    server.post("/settings/Comfy.ColorPalette", "dark")
    assert not light.comfy_page.errors


def test_an_embedding_is_watched_alike(open_panel, server):
    page = open_panel()
    page.build(EMBEDDING, name="watched-word", epochs=6, text_encoder_rate=0.01, sample_prompts="watched-word")
    assert "once it runs" in page.text()
    assert failure(server.wait(page.comfy_page.queue(), LIMIT_SEC)) is None
    page.wait_for(lambda: page.state() == "Finished", "it has ended")
    page.wait_for(lambda: page.ink() > 0.7, "the whole curve is there")
    assert "saved 6" in page.text() and "held out" in page.text() and "rate" in page.text()
    page.reload()
    page.wait_for(lambda: page.state() == "Finished" and page.ink() > 0.7, "found again")
    page.picture("panel-embedding-canvas")
    assert not page.comfy_page.errors


def long_run(server: ComfyUI, name: str, num_steps: int) -> None:
    """The events of a run of that length beside the job of a short one."""
    short = open_short(server)
    folder = short.folder.parent / name
    folder.mkdir()
    (folder / "job.json").write_bytes((short.folder / "job.json").read_bytes())
    start = next(event for event in all_events(short) if event["event"] == "start")
    lines = [{**start, "total_steps": num_steps, "steps_per_epoch": 500, "total_epochs": num_steps // 500}]
    for n in range(1, num_steps + 1):
        rate = 1e-4 * (0.5 + 0.5 * math.cos(math.pi * n / num_steps))
        lines.append(
            {"event": "step", "step": n, "epoch": 1 + (n - 1) // 500, "loss": 0.1 + 0.05 * math.sin(n), "rates": {"denoiser": rate}, "seconds": 0.5}
        )
        if n % 500 == 0:
            lines.append({"event": "saved", "epoch": n // 500, "step": n, "file": "epochs/none.safetensors", "sha256": ""})
            lines.append({"event": "validation", "epoch": n // 500, "step": n, "loss": 0.12 - n * 1e-7})
    lines.append({"event": "warning", "message": slowdown_message(7.5, torch.device("cuda"))})
    lines.append({"event": "done", "step": num_steps, "stopped": False, "peak_mib": 900.0})
    (folder / "events.jsonl").write_text("".join(json.dumps({"time": 1.0, **line}) + "\n" for line in lines), encoding="utf-8")


def open_short(server: ComfyUI) -> Run:
    server.run(training(server, FOLDER, "for its job", epochs=1), LIMIT_SEC)
    return run_of(server, "for its job")


def test_fifty_thousand_events_are_thinned_before_they_are_drawn_and_a_warning_stays(open_panel, server):
    """How long that takes `benchmarks/panel.py` measures."""
    long_run(server, "a long one", 50_000)
    page = open_panel()
    answers: list[Any] = []
    page.page.on("response", lambda response: answers.append(response) if "/athanor/panel/events" in response.url else None)
    page.build(name="a long one")
    workflow = page.comfy_page.saved()
    page.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    page.wait_for(lambda: page.panel.locator(".state").count() == 1 and page.state() == "Finished", "it is found")
    page.wait_for(lambda: page.ink() > 0.7, "the whole curve is there")
    page.fit()
    assert "⚠" in page.text() and "7.5 times as long" in page.text()
    page.picture("panel-50000-canvas")
    assert page.page.evaluate(CUT_OFF) == []
    for labels in page.page.evaluate(LABELS, [[0.144, 0.176], [0.12999, 0.13002], [111111.0, 135801.0], [1.08e-9, 1.32e-9], [0, 1.06], [0, 900]]):
        assert len(set(labels)) == len(labels) > 2 and max(map(len, labels)) <= 9, labels
    events_bytes = (run_of(server, "a long one").folder / "events.jsonl").stat().st_size
    largest = max((answer.body() for answer in answers if answer.ok), key=len)
    told = json.loads(largest)
    assert told["now"]["step"] == 50_000 and 500 < len(told["curve"]["low"]) <= MAX_POINTS
    assert all(len(told["curve"][name]) <= MAX_POINTS for name in ("low", "high", "smooth", "rate"))
    assert events_bytes > 5_000_000 and len(largest) < 120_000
    assert not page.comfy_page.errors


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_both_languages_have_every_text(open_panel, locale):
    page = open_panel(settings={"Comfy.Locale": locale})
    page.build(name="never run")
    assert ("显示训练过程" if locale == "zh" else "once it runs") in page.text()
    tables = page.page.evaluate("async () => (await import('/extensions/athanor/panel/text.mjs')).TEXTS")
    assert tables["en"].keys() == tables["zh"].keys()

    def places(text: str) -> list[str]:
        return sorted(part.split("}")[0] for part in text.split("{")[1:])

    assert all(places(tables["zh"][key]) == places(text) and tables["zh"][key].strip() for key, text in tables["en"].items())
