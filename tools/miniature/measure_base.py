"""Measures the miniature's base: `python -m miniature.measure_base [--base FOLDER] [--out FILE.json] [--sheet FILE.png]`
(from tools/).

Draws 200 fixed prompts through the pack's own code and asks the judge what each picture shows.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from athanor.trainer.bases import describe_base
from athanor.trainer.families import family as family_named
from athanor.trainer.families.base import Prompted
from athanor.trainer.memory.devices import best_device

from . import world
from .judge import Verdict, judge

DEFAULT_BASE = Path(__file__).resolve().parents[2] / "trainer" / "miniature" / "base"
SEED = 2025
NUM_PROMPTS, BATCH = 200, 16
STEPS, GUIDANCE = 20, 3.0
_SHEET_COLUMNS = 20


@dataclass(frozen=True)
class Shares:
    """Of all prompts, how many got what they asked for, 0..1."""

    shape: float
    colour: float
    background: float
    all: float


def fixed_scenes(num: int = NUM_PROMPTS) -> list[world.Scene]:
    """The scenes whose tags are the prompts: every shape, then every colour, as often as any other."""
    rng = random.Random(SEED)
    return [world.random_scene(rng, shape=world.SHAPES[i % len(world.SHAPES)]) for i in range(num)]


def draw(base: Path, prompts: Sequence[str], steps: int, guidance: float) -> Iterator[Image.Image]:
    """One picture of `base` for each prompt, in order; the i-th prompt has the seed i."""
    described, device = describe_base(base), best_device()
    family = family_named(described.family)
    text = family.load_text(described, torch.float32)
    text.encoders[0].to(device)
    vae, denoiser = family.load_vae(described).to(device), family.load_denoiser(described, torch.float32).to(device)
    size_px = (described.native_px, described.native_px)
    with torch.no_grad():
        negative = family.encode_text(text, [""], 1)
        for start in range(0, len(prompts), BATCH):
            piece = prompts[start : start + BATCH]
            prompted = [Prompted(family.encode_text(text, [prompt], 1), negative, start + i) for i, prompt in enumerate(piece)]
            yield from family.sample(described, denoiser, vae, prompted, steps, guidance, size_px)


def shares(scenes: Sequence[world.Scene], verdicts: Sequence[Verdict]) -> Shares:
    rows = [(v.shape == s.shape, v.colour == s.colour, v.background == s.background) for s, v in zip(scenes, verdicts, strict=True)]
    columns = [sum(column) / len(rows) for column in (*zip(*rows, strict=True), [all(row) for row in rows])]
    return Shares(*columns)


def save_sheet(path: Path, pictures: Sequence[Image.Image]) -> None:
    """All pictures in one, row by row."""
    width, height = pictures[0].size
    sheet = Image.new("RGB", (_SHEET_COLUMNS * width, -(-len(pictures) // _SHEET_COLUMNS) * height), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % _SHEET_COLUMNS * width, i // _SHEET_COLUMNS * height))
    sheet.save(path)


def main(options: argparse.Namespace) -> None:
    started = time.monotonic()
    scenes = fixed_scenes(options.num)
    pictures = []
    for picture in draw(options.base, [", ".join(scene.tags()) for scene in scenes], options.steps, options.guidance):
        pictures.append(picture)
        if len(pictures) % BATCH == 0:
            _say(f"{len(pictures)}/{len(scenes)} pictures after {time.monotonic() - started:.0f} s")
    verdicts = [judge(picture) for picture in pictures]
    found = shares(scenes, verdicts)
    for attribute in ("shape", "colour", "background"):
        wrong = Counter(
            f"{wanted} drawn as {seen or 'nothing known'}"
            for wanted, seen in ((getattr(scene, attribute), getattr(verdict, attribute)) for scene, verdict in zip(scenes, verdicts, strict=True))
            if wanted != seen
        )
        _say(f"{attribute:10} {getattr(found, attribute):6.1%}  " + ", ".join(f"{mistake} ({num})" for mistake, num in wrong.most_common(6)))
    _say(f"{'all three':10} {found.all:6.1%}  of {len(scenes)} prompts, {options.steps} steps, guidance {options.guidance:g}")
    if options.sheet:
        save_sheet(options.sheet, pictures)
    if options.out:
        result = {
            "num_prompts": len(scenes),
            "steps": options.steps,
            "guidance": options.guidance,
            **{name: round(getattr(found, name), 4) for name in ("shape", "colour", "background", "all")},
        }
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=DEFAULT_BASE, help="a diffusers folder")
    parser.add_argument("--out", type=Path, help="writes the shares there, as JSON")
    parser.add_argument("--sheet", type=Path, help="saves all pictures in one there")
    parser.add_argument("--num", type=int, default=NUM_PROMPTS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    main(parser.parse_args())
