"""Scores in the run's folder: as JSON and CSV for people and programs, and for `best by …`. No torch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from ..errors import AthanorError
from ..files import replace_atomically
from ..runs.run import Epoch, Run
from .bootstrap import Interval
from .measured import Measured
from .measures import choosing, measure
from .table import MeasureScores, Score

FOLDER, SCORES_FILE, TABLE_FILE, PLOT_FILE = "scores", "scores.json", "scores.csv", "scores.png"
_FORMAT = 1


def write_scores(run: Run, scores: Sequence[MeasureScores], measured: Measured, pictures: Path) -> None:
    """`pictures` is the folder in which the pictures that were judged lie."""
    folder = run.folder / FOLDER
    hashes = {epoch.number: epoch.sha256 for epoch in run.epochs()}
    data = {
        "format": _FORMAT,
        "run": run.name,
        "likeness_by": Path(measured.embedder).name if measured.embedder else "shapes and colours",
        "pictures": pictures.relative_to(run.folder).as_posix(),
        "seeds": measured.num_seeds,
        "held_out": [{"image": Path(path).name, "caption": caption} for path, caption in zip(measured.images, measured.captions, strict=True)],
        "held_out_copying": measured.held_out_copying,
        "measures": [_measure(each, hashes) for each in scores],
        "per_image": {str(epoch.number): {each.measure: list(each.per_image) for each in epoch.values} for epoch in measured.epochs},
        "layers": {str(epoch.number): {name: round(norm, 6) for name, norm in epoch.norms} for epoch in measured.epochs if epoch.norms},
    }
    text = json.dumps(data, indent=1, ensure_ascii=False)
    replace_atomically(folder / SCORES_FILE, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["epoch", "measure", "mean", "low", "high", "difference", "difference_low", "difference_high", "best"])
    for each in scores:
        for score in each.scores:
            own, to_base = _ends(score.interval), _ends(score.difference_interval)
            writer.writerow([score.epoch, each.measure.name, score.mean, *own, score.difference, *to_base, int(score.epoch == each.best)])
    # With a mark, without which Excel takes it for another encoding.
    replace_atomically(folder / TABLE_FILE, lambda temporary: temporary.write_text(table.getvalue(), encoding="utf-8-sig", newline=""))


def best_by(run: Run, name: str) -> Epoch:
    """The saved epoch with the best mean of that score, as Score Epochs has measured it last.

    Raises AthanorError if the run was not scored so, if the score does not choose, or if the epoch is not there any more.
    """
    wanted = measure(name)
    if not wanted.better:
        others = ", ".join(each.name for each in choosing())
        raise AthanorError(f"Epochs: {wanted.name} tells what an epoch costs, not which is good; choose the best by one of {others}.")
    try:
        data = json.loads((run.folder / FOLDER / SCORES_FILE).read_text(encoding="utf-8"))
        found = {each["name"]: each for each in data["measures"]}
        hashes = {score["epoch"]: score.get("sha256") for each in data["measures"] for score in each["scores"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise AthanorError(f"Epochs: {run.name} has no scores yet; put Score Epochs before this node, or write last, best or numbers.") from None
    if wanted.name not in found:
        raise AthanorError(f"Epochs: {run.name} was scored without {wanted.name}; there are {', '.join(found)}.")
    best = found[wanted.name]["best"]
    epoch = next((each for each in run.epochs() if each.number == best), None)
    if epoch is None or hashes.get(best) not in (None, epoch.sha256):
        raise AthanorError(f"Epochs: epoch {best}, the best by {wanted.name}, is another file by now or gone; score the epochs again.")
    return epoch


def _measure(scores: MeasureScores, hashes: dict[int, str]) -> dict[str, object]:
    return {
        "name": scores.measure.name,
        "better": scores.measure.better,
        "best": scores.best,
        "is_decisive": scores.is_decisive,
        "alike": list(scores.alike),
        "chance_of_best": scores.chance,
        "beats_base": scores.beats_base,
        "num_images": scores.num_images,
        "scores": [_score(score, hashes.get(score.epoch)) for score in scores.scores],
    }


def _score(score: Score, sha256: str | None) -> dict[str, object]:
    return {
        "epoch": score.epoch,
        "sha256": sha256,
        "mean": score.mean,
        "interval": _ends(score.interval),
        "difference": score.difference,
        "difference_interval": _ends(score.difference_interval),
    }


def _ends(interval: Interval | None) -> list[float | None]:
    return [interval.low, interval.high] if interval else [None, None]
