"""Trains the miniature's tagger and checks it: `python -m miniature.train_tagger [--out FOLDER]` (from tools/).

Writes `model.onnx` and `selected_tags.csv` in the WD format, then tags fresh pictures through the pack's own tagger code
and fails if a tag is right on less than 97 % of them.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from athanor.tagger.scores import tag_images
from athanor.tagger.select import select_tags
from athanor.tagger.session import Tagger

from . import world
from .labels import ATTRIBUTES, CHARACTERS, LABELS, labels_of, write_labels

DEFAULT_OUT = Path(__file__).resolve().parents[2] / "tagger" / "miniature"
SEED = 5
NUM_PICTURES, CHARACTER_SHARE = 4000, 0.15
STEPS, BATCH, PEAK_RATE = 2400, 32, 2e-3
NUM_CHECKED, LEAST_RIGHT = 400, 0.97


class TinyTagger(nn.Module):
    """Probabilities [N, labels] of pictures [N, 96, 96, 3]: blue, green, red from 0 to 255."""

    def __init__(self) -> None:
        super().__init__()
        widths, strides = (3, 16, 32, 48, 64), (2, 2, 2, 2)
        layers: list[nn.Module] = []
        for i, stride in enumerate(strides):
            layers += [nn.Conv2d(widths[i], widths[i + 1], 3, stride, 1, bias=False), nn.BatchNorm2d(widths[i + 1]), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Conv2d(widths[-1], 24, 1), nn.ReLU())
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(24 * (world.PICTURE_PX // 16) ** 2, 96), nn.ReLU(), nn.Dropout(0.1), nn.Linear(96, len(LABELS))
        )

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(pixels.permute(0, 3, 1, 2) / 127.5 - 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.logits(pixels).sigmoid()


def pool(rng: random.Random, num: int) -> list[world.Scene]:
    """Scenes to learn from; those with a name, and the same without their smile, oftener than chance has them."""
    scenes = []
    for _ in range(num):
        scene = world.random_scene(rng)
        if rng.random() < CHARACTER_SHARE:
            shape, colour = rng.choice(tuple(CHARACTERS.values()))
            scene = replace(scene, shape=shape, colour=colour, face=rng.random() < 0.6)
        scenes.append(scene)
    return scenes


def pixels_of(scenes: Sequence[world.Scene]) -> torch.Tensor:
    """uint8 [N, 96, 96, 3]: blue, green, red."""
    return torch.from_numpy(np.stack([np.asarray(world.draw(scene))[:, :, ::-1] for scene in scenes]))


def roughened(pixels: torch.Tensor, rng: random.Random, draw: torch.Generator) -> torch.Tensor:
    """What may happen to a picture before it is tagged: resized, padded with white, blurred, noisy, in another light.

    `pixels` are float32 [N, 96, 96, 3] from 0 to 255; so is what comes back.
    """
    batch, side = len(pixels), pixels.shape[1]
    images = pixels.permute(0, 3, 1, 2)
    if rng.random() < 0.3:
        # A wider or higher picture, in the white square that every tagger puts one into.
        more = rng.randint(1, side // 12)
        wider, white = ((more, more, 0, 0), (0, 0, more, more)) if rng.random() < 0.5 else ((0, 0, more, more), (more, more, 0, 0))
        images = functional.pad(functional.pad(images, wider, mode="replicate"), white, value=255.0)
    if rng.random() < 0.5:
        size = rng.randint(side // 2, side)
        images = functional.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
    images = functional.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
    if rng.random() < 0.3:
        images = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)

    def each(low: float, high: float) -> torch.Tensor:
        return torch.rand((batch, 1, 1, 1), generator=draw) * (high - low) + low

    images = images.mean(dim=1, keepdim=True).lerp(images, each(0.8, 1.15))
    images = images * each(0.9, 1.08) + each(-10, 10)
    images = images + each(0, 9) * torch.randn(images.shape, generator=draw)
    return images.clamp(0, 255).permute(0, 2, 3, 1)


def train(scenes: Sequence[world.Scene], rng: random.Random) -> TinyTagger:
    torch.manual_seed(SEED)
    draw = torch.Generator().manual_seed(SEED)
    pixels = pixels_of(scenes)
    truth = torch.tensor([[float(name in labels_of(scene)) for name, _ in LABELS] for scene in scenes])
    model = TinyTagger().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=1e-2)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1.0, (step + 1) / 50) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / STEPS)))
        picks = torch.randint(len(scenes), (BATCH,), generator=draw)
        logits = model.logits(roughened(pixels[picks].float(), rng, draw))
        loss = functional.binary_cross_entropy_with_logits(logits, truth[picks])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 100 == 0 or step + 1 == STEPS:
            _say(f"tagger step {step}/{STEPS} loss {loss.item():.4f}")
    return model.eval()


def export(model: TinyTagger, file: Path) -> None:
    example = torch.zeros((2, world.PICTURE_PX, world.PICTURE_PX, 3))
    axes = {"input": {0: "batch"}, "output": {0: "batch"}}
    torch.onnx.export(model, (example,), str(file), input_names=["input"], output_names=["output"], dynamic_axes=axes, opset_version=17, dynamo=False)


def check(shown: Sequence[frozenset[str]], found: Sequence[frozenset[str]]) -> dict[str, float]:
    """For each attribute the share of pictures on which exactly the right tags were found."""
    return {
        attribute: sum(seen & tags == true & tags for true, seen in zip(shown, found, strict=True)) / len(shown)
        for attribute, tags in ATTRIBUTES.items()
    }


def tagged(tagger: Tagger, pictures: Sequence[Image.Image]) -> list[frozenset[str]]:
    """The tags of each picture, its rating included, read from PNG files as a user's images are."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i:04}.png" for i in range(len(pictures))]
        for path, picture in zip(paths, pictures, strict=True):
            picture.save(path)
        found = []
        for scored in tag_images(tagger, paths, batch_size=16):
            assert scored.scores is not None, scored.problem
            found.append(frozenset(found.tag for found in select_tags(scored.scores, tagger.labels, replace_underscores=False, rating="first")))
        return found


def main(out: Path) -> None:
    started = time.monotonic()
    rng = random.Random(SEED)
    scenes = pool(rng, NUM_PICTURES)
    out.mkdir(parents=True, exist_ok=True)
    export(train(scenes, rng), out / "model.onnx")
    write_labels(out / "selected_tags.csv", scenes)
    _say(f"written to {out} after {time.monotonic() - started:.0f} s, {(out / 'model.onnx').stat().st_size / 1024:.0f} KiB")
    report(out)


def report(folder: Path) -> None:
    """Prints how good the tagger is. Exits with an error if it is not good enough."""
    tagger = Tagger(folder)
    scenes = pool(random.Random(SEED + 1), NUM_CHECKED)
    shown, found = [labels_of(scene) for scene in scenes], tagged(tagger, [world.draw(scene) for scene in scenes])
    for name, _ in LABELS:
        there, seen = (sum(name in labels for labels in which) for which in (shown, found))
        both = sum(name in wanted and name in tags for wanted, tags in zip(shown, found, strict=True))
        if there:
            _say(f"{name:24} shown in {there:3}, found in {both:3} of these and in {seen - both} others")
    shares = check(shown, found)
    _say("right on " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()) + f" of {NUM_CHECKED} fresh pictures")
    rng = random.Random(SEED + 2)
    stars = [world.draw(world.random_scene(rng, shape=world.CONCEPT_SHAPE, face=True)) for _ in range(100)]
    shapes = Counter(" + ".join(sorted(tags & set(world.SHAPES))) or "no shape" for tags in tagged(tagger, stars))
    _say(f"100 pictures of the {world.CONCEPT_SHAPE}, which it does not know: " + ", ".join(f"{name} {num}" for name, num in shapes.most_common()))
    wrong = [name for name, share in shares.items() if share < LEAST_RIGHT]
    if wrong:
        sys.exit(f"Not good enough: {', '.join(wrong)}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--check-only", action="store_true", help="measure the tagger that is there")
    options = parser.parse_args()
    if options.check_only:
        report(options.out)
    else:
        main(options.out)
