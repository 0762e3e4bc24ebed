"""Shows that the scores rank epochs right: `python -m miniature.score_epochs WORK [--out FILE.json]` (from tools/).

Trains the star on the miniature, convolutions and all, on few pictures, at a high rate and for long: a middle epoch has learned what a
star is, a late one knows its training pictures by heart. Scores them on stars that were held out, beside the base alone, and asks the judge, who measures pixels and
knows no score, how many pictures show what their caption says.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from athanor.tagger.scores import tag_images
from athanor.tagger.session import Tagger
from athanor.tagger.tags import match_key, split_tags
from athanor.trainer.bases import describe_base
from athanor.trainer.config import CompareJob, ScoreJob, TrainJob
from athanor.trainer.control import Control
from athanor.trainer.dataset import assign_buckets, scan_folder
from athanor.trainer.loop import train
from athanor.trainer.runs.run import Run, open_run, write_job_file
from athanor.trainer.scoring.measured import Measured, Values, read_measured
from athanor.trainer.scoring.plan import Drawing, plan_scores
from athanor.trainer.scoring.table import MeasureScores, judge, table_text
from athanor.trainer.scoring.work import measure_epochs
from athanor.trainer.settings import AdapterSettings, TrainSettings
from athanor.trainer.types import Dataset

from . import world
from .judge import judge as look_at

ROOT = Path(__file__).resolve().parents[2]
BASE, TAGGER = ROOT / "trainer" / "miniature" / "base", ROOT / "tagger" / "miniature"
NUM_TRAINED, NUM_HELD_OUT, SEED = 6, 16, 5
EPOCHS, SAVE_EVERY, RATE = 400, 50, 3e-3
ADAPTER = AdapterSettings(kind="locon", rank=32)
NUM_SEEDS, STEPS, GUIDANCE = 2, 8, 3.0
THRESHOLD = 0.35


@dataclass(frozen=True)
class Shown:
    """What the scores and the judge say of one run."""

    measured: Measured
    scores: tuple[MeasureScores, ...]
    right: dict[int, float]
    """By epoch the share of pictures that show a star of the right colour on the right background."""


def scenes(num: int, draw: random.Random) -> list[world.Scene]:
    """Stars, large and centred, no colour twice on the same background."""
    pairs = [(colour, background) for colour in world.COLOURS for background in world.BACKGROUNDS]
    star = [world.random_scene(draw, shape=world.CONCEPT_SHAPE, face=True) for _ in range(num)]
    return [
        dataclasses.replace(scene, colour=colour, background=background, size="large", position="centered")
        for scene, (colour, background) in zip(star, draw.sample(pairs, num), strict=True)
    ]


def star_dataset(folder: Path) -> Dataset:
    """Pictures of stars in `folder`, most of them held out."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(SEED)
    for i, scene in enumerate(scenes(NUM_TRAINED + NUM_HELD_OUT, draw)):
        world.draw(scene, world.PICTURE_PX).save(folder / f"star {i:02d}.png")
        caption = ", ".join([world.CONCEPT_TRIGGER, *(tag for tag in scene.tags() if tag != world.CONCEPT_SHAPE)])
        (folder / f"star {i:02d}.txt").write_text(caption, encoding="utf-8")
    scanned = scan_folder(folder, trigger=world.CONCEPT_TRIGGER)
    roles = [dataclasses.replace(sample, role="train" if i < NUM_TRAINED else "validation") for i, sample in enumerate(scanned.samples)]
    px = world.PICTURE_PX
    return assign_buckets(
        dataclasses.replace(scanned, samples=tuple(roles)), resolution_px=px, min_px=px // 2, max_px=2 * px, step_px=8, upscale=True
    )


def trained(work: Path, epochs: int = EPOCHS) -> Run:
    settings = TrainSettings(
        epochs=epochs,
        batch_size=NUM_TRAINED,
        rate=RATE,
        text_encoder_rate=0.0,
        schedule="constant",
        precision="fp32",
        save_every_epochs=SAVE_EVERY,
        seed=1,
    )
    job = TrainJob("stars", describe_base(BASE), star_dataset(work / "pictures"), adapter=ADAPTER, train=settings)
    run = open_run(work / "runs", job)
    train(run, Control())
    return run


def scored(run: Run, epochs: Sequence[int] | None = None) -> Shown:
    """Of all epochs, or of those."""
    job = run.train_job()
    held_out = job.dataset.with_role("validation")
    chosen = [epoch for epoch in run.epochs() if epochs is None or epoch.number in epochs]
    pictures = CompareJob(job.base, (), world.PICTURE_PX, world.PICTURE_PX, "fp32")
    captions = [sample.caption or "" for sample in held_out]
    drawing = Drawing(NUM_SEEDS, 1, STEPS, GUIDANCE)
    planned = plan_scores(pictures, chosen, held_out, captions, job.dataset.with_role("train"), drawing, run.name)
    folder = run.folder / "scores" / "shown"
    write_job_file(folder, planned)
    measure_epochs(Run(folder), planned, Control())
    measured = with_tags(read_measured(folder), planned, folder)
    return Shown(measured, judge(measured), right_shares(planned, folder))


def with_tags(measured: Measured, job: ScoreJob, folder: Path) -> Measured:
    """With the tag recall, as the node measures it."""
    tagger = Tagger(TAGGER)
    rows = {match_key(name): i for i, name in enumerate(tagger.labels.names)}
    wanted = [[rows[key] for tag in split_tags(caption) if (key := match_key(tag)) in rows] for caption in measured.captions]
    found = [one.scores for one in tag_images(tagger, [folder / cell.file for cell in job.pictures.cells], batch_size=4, cache_folder=folder)]
    epochs, num = [], len(wanted) * job.num_seeds
    for i, epoch in enumerate(measured.epochs):
        shares = []
        for n, tags in enumerate(wanted):
            pictures = found[i * num + n * job.num_seeds : i * num + (n + 1) * job.num_seeds]
            shares.append(sum(float((scores[tags] >= THRESHOLD).mean()) for scores in pictures) / len(pictures))
        epochs.append(dataclasses.replace(epoch, values=(*epoch.values, Values("tag recall", tuple(shares)))))
    return dataclasses.replace(measured, epochs=tuple(epochs))


def right_shares(job: ScoreJob, folder: Path) -> dict[int, float]:
    """By epoch; the judge knows nothing of the scores."""
    num, shares = len(job.captions) * job.num_seeds, {}
    for i, epoch in enumerate(job.epochs):
        cells = job.pictures.cells[i * num : (i + 1) * num]
        shares[epoch.number] = sum(_is_right(folder / cell.file, cell.prompt) for cell in cells) / num
    return shares


def _is_right(path: Path, caption: str) -> bool:
    with Image.open(path) as picture:
        seen = look_at(picture)
    tags = split_tags(caption)
    return seen.shape == world.CONCEPT_SHAPE and seen.colour in tags and seen.background in tags


def main(work: Path, out: Path | None) -> None:
    run = trained(work)
    shown = scored(run)
    judged = ", ".join(f"{number or 'the base alone'}: {share:.0%}" for number, share in shown.right.items())
    sys.stdout.write(f"{table_text(shown.scores, 'epoch', shown.measured)}\nright to the judge: {judged}\n")
    if out is not None:
        data = {
            "right": shown.right,
            "scores": {each.measure.name: {score.epoch: score.mean for score in each.scores} for each in shown.scores},
            "verdicts": {each.measure.name: each.verdict() for each in shown.scores},
        }
        out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder for the pictures and the run")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    main(options.work.resolve(), options.out)
