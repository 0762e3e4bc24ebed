"""From what was measured to what can be said: means, differences to the base alone, intervals, and whether there is a winner. No torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .bootstrap import MIN_UNITS, Interval, resampled
from .measured import Measured
from .measures import BASELINE, MEASURES, Measure

FEW_IMAGES = 8
"""With fewer held-out images intervals are rough."""


@dataclass(frozen=True)
class Score:
    epoch: int
    mean: float
    interval: Interval | None
    """95 % of the bootstrap; None where nothing was drawn again."""
    difference: float | None
    """To the base alone."""
    difference_interval: Interval | None


@dataclass(frozen=True)
class MeasureScores:
    """One measure of all epochs; the base alone is epoch 0."""

    measure: Measure
    scores: tuple[Score, ...]
    num_images: int
    """That it was measured on; 0 for what is told from the file."""
    best: int | None = None
    """The trained epoch with the best mean; None for what does not choose."""
    alike: tuple[int, ...] = ()
    """The other epochs that cannot be told from the best: the interval of the difference holds 0."""
    chance: float | None = None
    """In what share of the resamples the best epoch is the best."""
    beats_base: bool | None = None
    """Whether the best epoch is better than the base alone; None where that cannot be told."""

    @property
    def is_decisive(self) -> bool:
        return self.best is not None and self.chance is not None and not self.alike

    def verdict(self, unit: str = "epoch") -> str:
        """One sentence for people; "" for what does not choose."""
        if self.best is None:
            return ""
        named = f"{unit} {self.best}"
        if self.chance is None:
            return f"too few held-out images ({self.num_images}) to tell; {named} has the best mean"
        others = [*map(str, self.alike), *([] if self.beats_base else ["the base alone"])]
        if self.is_decisive:
            return f"{named} is the best" + ("" if self.beats_base else ", but not told from the base alone")
        return f"no decisive winner: {named} leads (best in {self.chance:.0%} of resamples), not told from {', '.join(others)}"


def judge(measured: Measured) -> tuple[MeasureScores, ...]:
    """Every measure that was taken, in the order of MEASURES."""
    found = []
    for measure in MEASURES:
        if measure.name == "weight norm":
            found.append(_norms(measured, measure))
        else:
            rows = [(epoch.number, values) for epoch in measured.epochs if (values := epoch.of(measure.name)) is not None]
            found.append(_scores(measure, rows) if rows and rows[0][1] else None)
    return tuple(scores for scores in found if scores is not None)


def _scores(measure: Measure, rows: Sequence[tuple[int, Sequence[float]]]) -> MeasureScores:
    again = resampled([values for _, values in rows], measure.name)
    numbers, means = [number for number, _ in rows], [statistics.fmean(values) for _, values in rows]
    base = numbers.index(BASELINE) if BASELINE in numbers else None
    scores = tuple(
        Score(
            number,
            means[i],
            None if (interval := again.interval(i)) is None else interval.within(measure.least, measure.most),
            None if base in (None, i) else means[i] - means[base],
            None if base in (None, i) else again.difference(i, base),
        )
        for i, number in enumerate(numbers)
    )
    num_images, trained = len(rows[0][1]), [i for i, number in enumerate(numbers) if number != BASELINE]
    if not measure.better or not trained:
        return MeasureScores(measure, scores, num_images)
    best = (min if measure.better == "lower" else max)(trained, key=lambda i: means[i])
    chance = again.chance_of_best(best, trained, measure.better)
    alike = tuple(numbers[i] for i in trained if i != best and (interval := again.difference(best, i)) is not None and not interval.excludes_0())
    to_base = scores[best].difference_interval
    beats = None if to_base is None else (to_base.high < 0 if measure.better == "lower" else to_base.low > 0)
    return MeasureScores(measure, scores, num_images, numbers[best], alike, chance, beats)


def _norms(measured: Measured, measure: Measure) -> MeasureScores | None:
    means = [(epoch.number, statistics.fmean(norm for _, norm in epoch.norms)) for epoch in measured.epochs if epoch.norms]
    if not means:
        return None
    return MeasureScores(measure, tuple(Score(number, mean, None, None, None) for number, mean in means), 0)


def table_text(scores: Sequence[MeasureScores], unit: str, measured: Measured, notes: Sequence[str] = ()) -> str:
    """A Markdown table of all epochs and measures, and a line on each measure's best."""
    shown = [each for each in scores if each.measure.name != "weight norm"] + [each for each in scores if each.measure.name == "weight norm"]
    lines = [
        f"| {unit} | {' | '.join(each.measure.name for each in shown)} |",
        "| --- " * (len(shown) + 1) + "|",
    ]
    for number in [epoch.number for epoch in measured.epochs]:
        name = "base alone" if number == BASELINE else str(number)
        lines.append(f"| {name} | {' | '.join(_cell(each, number) for each in shown)} |")
    lines += ["", *(f"{each.measure.name}: {each.verdict(unit)}." for each in shown if each.verdict(unit))]
    if measured.held_out_copying is not None:
        lines.append(f"copying: the held-out images themselves have {measured.held_out_copying:.3f}; pictures above that are near copies.")
    largest = [(norm, name, epoch.number) for epoch in measured.epochs[-1:] for name, norm in epoch.norms]
    if largest:
        norm, name, number = max(largest)
        lines.append(f"weight norm: the largest of {unit} {number} is {norm:.3g}, of {name}.")
    if (num := len(measured.captions)) < FEW_IMAGES:
        least = f"; from {MIN_UNITS} on there are intervals" if num < MIN_UNITS else ""
        lines.append(f"Only {num} held-out images: the intervals are rough{least}. Hold out more to be surer.")
    return "\n".join([*lines, *notes])


def _cell(scores: MeasureScores, number: int) -> str:
    score = next((each for each in scores.scores if each.epoch == number), None)
    if score is None:
        return "–"
    spread = f" [{score.interval.low:.3g}, {score.interval.high:.3g}]" if score.interval else ""
    change = f", {score.difference:+.3g}" if score.difference is not None else ""
    mark = " *" if scores.best == number else ""
    return f"{score.mean:.4g}{spread}{change}{mark}"
