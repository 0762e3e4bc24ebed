"""How fast does the tag editor open on thousands of pictures, and does it scroll smoothly?  `python benchmarks/editor.py [--images N]`

Makes N small JPEG files with captions, starts a ComfyUI, runs Load Dataset and Edit Tags from the page in headless Chromium, and
measures from the click on the button until the first pictures are drawn. Then it scrolls through the whole grid, a wheel's
step a frame, and from end to end in jumps. Frames are as slow as a machine without a GPU draws them, while the server makes the
thumbnails on the same one. So two things are told beside them: what the editor itself takes of each frame, and how fast the same
browser scrolls the same cards when all of them are there already and no script touches them. Prints the best of three openings.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from chromium import COMFYUI_SETTINGS, FLAGS, PAGE_IS_READY, find_chromium  # noqa: E402
from comfyui_server import start_for_tests  # noqa: E402

NUM_OPENINGS = 3
WORDS = "red blue green long short white black open closed large small wet dark bright".split()  # noqa: SIM905
THINGS = "hair eyes shirt hat dress sky flower door book coat tree cup shoes bag ribbon cloud".split()  # noqa: SIM905
BUILD = """
() => {
  app.graph.clear()
  const add = type => { const node = LiteGraph.createNode(type); app.graph.add(node); return node }
  const data = add('AthanorLoadDataset'), edit = add('AthanorEditTags')
  data.widgets.find(widget => widget.name === 'folder').value = 'many'
  edit.widgets.find(widget => widget.name === 'max_images').value = 10
  data.connect(0, edit, 0)
}
"""
OPEN = """
async () => {
  const started = performance.now()
  app.graph.nodes.find(node => node.type === 'AthanorEditTags').widgets.find(widget => widget.name === 'edit_tags').callback()
  const frame = () => new Promise(requestAnimationFrame)
  const root = () => document.querySelector('dialog.athanor-editor > div')?.shadowRoot
  let cards = null, pictures = null
  while (pictures === null) {
    await frame()
    const shown = [...root()?.querySelectorAll('.card') ?? []]
    if (shown.length && cards === null) cards = performance.now() - started
    const inView = shown.slice(0, 10)
    if (inView.length && inView.every(card => card.querySelector('img.is-loaded'))) pictures = performance.now() - started
    if (performance.now() - started > 60000) throw new Error('The editor does not open.')
  }
  return { cards, pictures }
}
"""
SCROLL = """
async ([step, num_frames, selector]) => {
  const grid = document.querySelector('dialog.athanor-editor > div').shadowRoot.querySelector(selector)
  const frame = () => new Promise(requestAnimationFrame)
  grid.scrollTop = 0
  await frame()
  const times = []
  let most = 0, empty = 0, last = await frame()
  for (let i = 0; i < num_frames; i++) {
    grid.scrollTop = step > 0 ? grid.scrollTop + step : Math.random() * grid.scrollHeight
    const now = await frame()
    times.push(now - last)
    last = now
    const cards = grid.querySelectorAll('.card')
    most = Math.max(most, cards.length)
    const box = grid.getBoundingClientRect()
    const middle = grid.getRootNode().elementFromPoint(box.left + box.width / 2, box.top + box.height / 2)
    if (i > 1 && !middle?.closest('.grid')) empty++
  }
  times.sort((a, b) => a - b)
  return { median: times[times.length >> 1], slow: times[Math.floor(times.length * 0.95)], worst: times.at(-1), over_50: times.filter(time => time > 50).length,
           num_frames, most, empty }
}
"""


NUM_PLAIN = 1000
PLAIN = """
async number => {
  const grid = document.querySelector('dialog.athanor-editor > div').shadowRoot.querySelector('.grid')
  grid.scrollTop = 0
  await new Promise(done => setTimeout(done, 1000))
  const cards = [...grid.querySelectorAll('.card')].filter(card => card.querySelector('img.is-loaded'))
  const perRow = new Set(cards.map(card => card.getBoundingClientRect().left)).size
  const rowPx = cards[perRow].getBoundingClientRect().top - cards[0].getBoundingClientRect().top
  const plain = grid.cloneNode(false), space = grid.firstElementChild.cloneNode(false)
  plain.classList.add('plain')
  space.style.height = `${Math.ceil(number / perRow) * rowPx}px`
  for (let i = 0; i < number; i++) {
    const card = cards[i % cards.length].cloneNode(true)
    card.style.transform = `translate(${10 + (i % perRow) * (cards[0].offsetWidth + 10)}px, ${10 + Math.floor(i / perRow) * rowPx}px)`
    const picture = card.querySelector('img')
    picture.src = picture.src.replace(/[0-9]+\\/256$/, `${i}/256`)
    space.append(card)
  }
  plain.append(space)
  grid.parentElement.append(plain)
  await Promise.all([...plain.querySelectorAll('img')].map(picture => picture.decode().catch(() => {})))
}
"""


def make_pictures(folder: Path, number: int) -> None:
    folder.mkdir(parents=True)
    chance = random.Random(0)
    for i in range(number):
        picture = Image.new("RGB", chance.choice([(512, 384), (384, 512), (512, 512)]), tuple(chance.randrange(256) for _ in range(3)))
        draw = ImageDraw.Draw(picture)
        for _ in range(8):
            x, y, r = chance.randrange(500), chance.randrange(500), chance.randrange(20, 160)
            draw.ellipse((x - r, y - r, x + r, y + r), tuple(chance.randrange(256) for _ in range(3)))
        picture.save(folder / f"{i:05d}.jpg", quality=85)
        tags = {f"{chance.choice(WORDS)} {chance.choice(THINGS)}" for _ in range(chance.randrange(10, 30))}
        (folder / f"{i:05d}.txt").write_text(", ".join(sorted(tags)), encoding="utf-8")


def measure(page: Any) -> dict[str, Any]:
    page.evaluate(BUILD)
    page.evaluate(
        OPEN.replace(
            "const frame",
            "setTimeout(() => document.querySelector('dialog.athanor-editor > div').shadowRoot.querySelector('.primary').click(), 500); const frame",
        )
    )
    openings = []
    for _ in range(NUM_OPENINGS):
        page.keyboard.press("Escape")
        page.wait_for_function("() => !document.querySelector('dialog.athanor-editor')")
        openings.append(page.evaluate(OPEN))
    found = {
        "open": min(openings, key=lambda one: one["pictures"]),
        "scrolling, new pictures": scroll(page, 100, 600),
        "scrolling, pictures seen before": scroll(page, 100, 600),
        "jumping": scroll(page, 0, 200),
    }
    page.evaluate(PLAIN, NUM_PLAIN)
    return {**found, "scrolling the same cards, no script at work": scroll(page, 100, 300, ".grid.plain")}


def scroll(page: Any, step_px: int, num_frames: int, selector: str = ".grid") -> dict[str, Any]:
    """Frames while scrolling, and how much processor time of each went into the page's scripts, styles and layout."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent_ms() -> float:
        metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        return 1000 * sum(metrics[name] for name in ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration"))

    before = spent_ms()
    found = page.evaluate(SCROLL, [step_px, num_frames, selector])
    return {**found, "own_work": (spent_ms() - before) / num_frames}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    number = parser.parse_args().images
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        make_pictures(Path(folder) / "input" / "many", number)
        with start_for_tests(Path(folder)) as server, sync_playwright() as playwright:
            for key, value in COMFYUI_SETTINGS.items():
                server.post(f"/settings/{key}", value)
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            page.goto(server.url)
            page.wait_for_function(PAGE_IS_READY, timeout=120_000)
            found = measure(page)
            (listing,) = (Path(folder) / "output" / "athanor" / ".cache" / "editor").glob("*.json")
            found["listing_kib"] = listing.stat().st_size >> 10
            browser.close()
    opened = found["open"]
    lines = [
        f"{number} images: cards after {opened['cards'] / 1000:.2f} s, first pictures after {opened['pictures'] / 1000:.2f} s (best of {NUM_OPENINGS})",
        *(
            f"{name}: the editor's scripts, styles and layout took {one['own_work']:.1f} ms of processor time a frame; frames of {one['median']:.0f} ms (median), "
            f"95 % under {one['slow']:.0f} ms, with a processor that draws; at most {one['most']} cards at once, {one['empty']} frames empty"
            for name, one in found.items()
            if isinstance(one, dict) and "own_work" in one
        ),
        json.dumps(found),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
