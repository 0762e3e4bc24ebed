"""How fast does the live panel show a run of 50,000 steps?  `python benchmarks/panel.py [--steps N]`

Writes the events of such a run, starts a ComfyUI, asks it for them twice, as a page does that was just loaded and one that is
up to date, and has headless Chromium draw the curve forty times in a panel. Prints the seconds of both answers, their sizes, and
the milliseconds of a drawing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from step_overhead import MINIATURE, benchmark_job

from athanor.trainer.bases import describe_base
from athanor.trainer.runs.events import EVENTS_FILE
from athanor.trainer.runs.run import open_run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from chromium import COMFYUI_SETTINGS, FLAGS, PAGE_IS_READY, find_chromium
from comfyui_server import start_for_tests

NAME, NUM_ASKED = "a long one", 5
BUILD = """
name => {
  app.graph.clear()
  const node = LiteGraph.createNode('AthanorTrainLora')
  app.graph.add(node)
  node.widgets.find(widget => widget.name === 'name').value = name
  const saved = app.graph.serialize()
  return app.loadGraphData(saved)
}
"""
DRAW_MS = """
() => {
  const canvas = document.querySelector('.athanor-panel').shadowRoot.querySelector('canvas')
  const began = performance.now()
  for (let i = 0; i < 40; i++) {
    canvas.dispatchEvent(new PointerEvent('pointermove', { clientX: i * 5 }))
    canvas.getContext('2d').getImageData(0, 0, 1, 1)
  }
  return (performance.now() - began) / 40
}
"""
IS_FINISHED = "() => document.querySelector('.athanor-panel')?.shadowRoot?.querySelector('.state')?.innerText === 'Finished'"


def write_run(root: Path, num_steps: int) -> int:
    """The events of a finished run; how many bytes they are."""
    base = describe_base(MINIATURE / "base")
    job = dataclasses.replace(benchmark_job(base, base.native_px, 4, "fp32", num_steps, 16), name=NAME)
    events = open_run(root, job).folder / EVENTS_FILE
    lines: list[dict] = [{"event": "start", "step": 0, "total_steps": num_steps, "steps_per_epoch": 500, "total_epochs": num_steps // 500}]
    for n in range(1, num_steps + 1):
        rates = {"denoiser": 1e-4 * (0.5 + 0.5 * math.cos(math.pi * n / num_steps))}
        lines.append({"event": "step", "step": n, "epoch": 1 + (n - 1) // 500, "loss": 0.1 + 0.05 * math.sin(n), "rates": rates, "seconds": 0.5})
        if n % 500 == 0:
            lines.append({"event": "saved", "epoch": n // 500, "step": n, "file": "epochs/none.safetensors", "sha256": ""})
            lines.append({"event": "validation", "epoch": n // 500, "step": n, "loss": 0.12 - n * 1e-7})
    lines.append({"event": "done", "step": num_steps, "stopped": False, "peak_mib": 900.0})
    events.write_text("".join(json.dumps({"time": 1.0, **line}) + "\n" for line in lines), encoding="utf-8")
    return events.stat().st_size


def asked(url: str, cursor: str = "") -> tuple[float, bytes]:
    address = f"{url}/athanor/panel/events?{urllib.parse.urlencode({'run': NAME, 'cursor': cursor})}"
    began_sec = time.perf_counter()
    with urllib.request.urlopen(address) as response:
        content = response.read()
    return time.perf_counter() - began_sec, content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50_000)
    num_steps = parser.parse_args().steps
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        num_bytes = write_run(Path(folder) / "output" / "athanor", num_steps)
        with start_for_tests(Path(folder)) as server, sync_playwright() as playwright:
            first_sec, first = asked(server.url)
            cursor = json.loads(first)["cursor"]
            again = [asked(server.url, cursor) for _ in range(NUM_ASKED)]
            for key, value in COMFYUI_SETTINGS.items():
                server.post(f"/settings/{key}", value)
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            page.goto(server.url)
            page.wait_for_function(PAGE_IS_READY, timeout=120_000)
            page.evaluate(BUILD, NAME)
            page.wait_for_function(IS_FINISHED, timeout=120_000)
            page.wait_for_timeout(1000)
            drawn_ms = min(page.evaluate(DRAW_MS) for _ in range(3))
            browser.close()
    sys.stdout.write(
        f"{num_steps} steps, {num_bytes >> 10} KiB of events: first answer after {first_sec:.2f} s, {len(first) >> 10} KiB; "
        f"later ones after {1000 * statistics.median(sec for sec, _ in again):.0f} ms, {len(again[-1][1])} bytes; a drawing takes {drawn_ms:.1f} ms\n"
    )


if __name__ == "__main__":
    main()
