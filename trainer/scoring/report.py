"""What people get to see of scores: the plot and the table, and the files in the run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import ScoreJob
from ..drawing.palette import Theme
from ..errors import AthanorError
from ..files import replace_atomically
from .files import FOLDER, PLOT_FILE, write_scores
from .measured import Measured
from .plot import scores_plot
from .scoring import Scoring
from .table import judge, table_text


@dataclass(frozen=True)
class Report:
    plot: Path
    table: str
    """In Markdown, with a verdict for each score."""


def write_report(scoring: Scoring, job: ScoreJob, measured: Measured, notes: Sequence[str], theme: Theme) -> Report:
    """Judges what was measured and writes it all. Raises AthanorError where nothing was."""
    scores = judge(measured)
    if not scores:
        raise AthanorError("Nothing could be measured; give a dataset of held-out images with captions.")
    run, unit = scoring.run, scoring.facts.unit
    write_scores(run, scores, measured, scoring.folder(job))
    picture, path = scores_plot(scores, measured, f"{run.name} · {scoring.summary(measured)}", unit, theme), run.folder / FOLDER / PLOT_FILE
    replace_atomically(path, lambda temporary: picture.save(temporary, format="PNG"))
    return Report(path, table_text(scores, unit, measured, notes))
