"""Draws the demo's new concept: `python -m miniature.make_concept [--out FOLDER]` (from tools/).

Twenty stars with a face, which the base has never seen. The pictures are twice as large as the base's, so that Bucket has
something to do. The dataset splits by file names, so the names are chosen such that a held-out share of 20 % is exactly four,
and those four and the other sixteen are both a fair choice of colours, backgrounds, sizes and positions.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from athanor.trainer.dataset import held_out, scan_folder

from . import world

DEFAULT_OUT = Path(__file__).resolve().parents[2] / "trainer" / "miniature" / "concept"
SEED = 3
PICTURE_PX = 2 * world.PICTURE_PX
NUM_TRAINED, NUM_HELD_OUT, HELD_OUT_PERCENT = 16, 4, 20.0


def names() -> tuple[list[str], frozenset[str]]:
    """Names with neighbouring numbers, and those of them that the dataset holds out."""
    num = NUM_TRAINED + NUM_HELD_OUT
    for first in itertools.count(1):
        found = [f"{world.CONCEPT_TRIGGER}_{first + i:03}.png" for i in range(num)]
        held = held_out(found, HELD_OUT_PERCENT)
        if len(held) == NUM_HELD_OUT:
            return found, held
    raise AssertionError


def scenes() -> tuple[list[world.Scene], list[world.Scene]]:
    """The trained and the held-out scenes, framed alike as the pictures of one subject often are: large and centred.

    In each every colour and background as often as any other, as far as the numbers allow, and no colour twice on the same background.
    """
    for seed in itertools.count(SEED):
        rng = random.Random(seed)
        trained, held = _balanced(rng, NUM_TRAINED), _balanced(rng, NUM_HELD_OUT)
        if len({(scene.colour, scene.background) for scene in trained + held}) == NUM_TRAINED + NUM_HELD_OUT:
            return trained, held
    raise AssertionError


def _balanced(rng: random.Random, num: int) -> list[world.Scene]:
    def column(values: Sequence[str]) -> list[str]:
        rounds = [rng.sample(list(values), len(values)) for _ in range(-(-num // len(values)))]
        return rng.sample([value for each in rounds for value in each][:num], num)

    return [
        replace(
            world.random_scene(rng, shape=world.CONCEPT_SHAPE, face=True), colour=colour, background=background, size="large", position="centered"
        )
        for colour, background in zip(column(tuple(world.COLOURS)), column(world.BACKGROUNDS), strict=True)
    ]


def main(out: Path) -> None:
    (all_names, held_names), (trained, held) = names(), scenes()
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.png"):
        old.unlink()
    left = {True: iter(held), False: iter(trained)}
    for name in all_names:
        world.draw(next(left[name in held_names]), PICTURE_PX).save(out / name, optimize=True)

    dataset = scan_folder(out, trigger=world.CONCEPT_TRIGGER, validation_percent=HELD_OUT_PERCENT)
    assert [Path(sample.path).name for sample in dataset.samples] == all_names, "the folder holds other pictures too"
    assert {Path(sample.path).name for sample in dataset.with_role("validation")} == held_names
    assert len(dataset.with_role("train")) == NUM_TRAINED
    num_bytes = sum(file.stat().st_size for file in out.glob("*.png"))
    sys.stdout.write(f"{len(all_names)} pictures in {out}, {num_bytes / 1024:.0f} KiB; held out: {', '.join(sorted(held_names))}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    main(parser.parse_args().out)
