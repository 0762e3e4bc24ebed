"""Caption Images: from images to sentences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from comfy_api.latest import io, ui

from ..tagger.captioners import captioner_choices, captioner_kind, is_promptgen, missing_captioner, pick_captioner, plain_name
from ..tagger.errors import TaggerError
from ..tagger.scores import content_key
from ..tagger.select import MODES
from ..tagger.sentences import DEFAULT_PHRASES, cleaned, combine_text
from ..tagger.snapshot import download_captioner
from ..trainer.captioning.store import read_text, store_folder
from ..trainer.config import CaptionJob
from ..trainer.runs.run import Run, write_job_file
from ..trainer.settings import CaptioningSettings
from ..trainer.types import Dataset, Sample
from . import host
from .settings import widgets
from .types import DatasetWire
from .worker import CAPTION_LIBRARIES, run_worker

_MAX_REPORTED = 20


class CaptionImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        detail, beginning, max_tokens, num_beams = widgets(CaptioningSettings)
        return io.Schema(
            node_id="AthanorCaptionImages",
            display_name="Caption Images",
            category="Athanor/dataset",
            description="Describes each image in sentences, as FLUX and SD3.5 want them, with Florence-2 or BLIP from a folder of models/captioners.",
            search_aliases=["Florence-2", "BLIP", "captioner", "natural language", "PromptGen"],
            inputs=[
                DatasetWire.Input("dataset", tooltip="The images to describe."),
                io.Combo.Input(
                    "captioner",
                    options=list(captioner_choices(host.captioner_roots())),
                    tooltip="A folder of models/captioners (or models/LLM) that holds a Florence-2 or a BLIP, or a known one that can be downloaded.",
                ),
                detail,
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="fill-empty",
                    tooltip="What happens to captions that are there: only empty ones are filled, all are overwritten, or the sentence goes in front of the tags or behind them.",
                ),
                io.String.Input(
                    "leave_out",
                    default="\n".join(DEFAULT_PHRASES),
                    multiline=True,
                    display_name="leave out",
                    tooltip="Beginnings of sentences that say nothing of the picture, one a line. They are taken off.",
                ),
                beginning,
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    display_name="batch size",
                    tooltip="Images at once. More are faster on a GPU with the memory for it.",
                ),
                io.Boolean.Input(
                    "download",
                    default=False,
                    tooltip="Fetch a captioner that is marked as not downloaded from Hugging Face, once, into models/captioners.",
                ),
                max_tokens,
                num_beams,
            ],
            outputs=[DatasetWire.Output("dataset", display_name="dataset"), io.String.Output("report", display_name="report")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, captioner: str = "", download: bool = False) -> bool | str:
        try:
            if captioner and not (download and missing_captioner(captioner, host.captioner_roots())):
                _place_of(captioner)
        except TaggerError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        dataset: Dataset,
        captioner: str,
        detail: str,
        mode: str,
        leave_out: str,
        beginning: str,
        batch_size: int,
        download: bool,
        max_tokens: int,
        num_beams: int,
    ) -> io.NodeOutput:
        progress = host.Progress(cls.hidden.unique_id)
        missing = missing_captioner(captioner, host.captioner_roots()) if download else None
        folder = download_captioner(missing, host.captioner_roots()[0], on_progress=progress.show) if missing else _place_of(captioner)
        kind = captioner_kind(folder)
        settings = _settings_for(kind, folder, CaptioningSettings(detail, beginning.strip(), max_tokens, num_beams))
        store = store_folder(host.cache_folder() / "captions", kind, folder, settings)
        # By number, not by path: Bucket makes several samples of one picture.
        numbers = [i for i, sample in enumerate(dataset.samples) if mode != "fill-empty" or not (sample.caption or "").strip()]
        names, problems = _names([dataset.samples[i] for i in numbers])
        waiting = {name: path for path, name in names.items() if read_text(store, name) is None}
        if waiting:
            run = Run(store)
            write_job_file(store, CaptionJob(kind, str(folder), tuple(waiting.items()), settings, batch_size))
            run_worker(run, cls.hidden.unique_id, CAPTION_LIBRARIES)
            problems += _warnings(run)
        phrases, samples, num_described = leave_out.splitlines(), list(dataset.samples), 0
        for i in numbers:
            sample = samples[i]
            text = read_text(store, names[sample.path]) if sample.path in names else None
            if text is not None:
                samples[i] = _with_sentence(sample, cleaned(text, phrases), mode)
                num_described += 1
        head = f"{num_described} of {len(dataset.samples)} images were described by {plain_name(captioner)}"
        text = "\n".join([head, *problems[:_MAX_REPORTED]])
        return io.NodeOutput(dataset.with_samples(tuple(samples), *problems), text, ui=ui.PreviewText(text))


def _place_of(name: str) -> Path:
    """The folder of the captioner called `name`, looked at. Raises TaggerError that says how it gets here."""
    try:
        folder = pick_captioner(name, host.captioner_roots())
        captioner_kind(folder)
        return folder
    except TaggerError as error:
        hint = " Or switch on `download`." if missing_captioner(name, host.captioner_roots()) else ""
        raise TaggerError(f"{error}{hint}") from error


def _settings_for(kind: str, folder: Path, settings: CaptioningSettings) -> CaptioningSettings:
    """Without what this kind of model does not heed, so that changing it describes nothing anew. Raises TaggerError for PromptGen's own."""
    if kind == "blip":
        return replace(settings, detail="short")
    if "PromptGen" in settings.detail and not is_promptgen(folder):
        raise TaggerError(f"{folder.name} does not know {settings.detail!r}; take a PromptGen variant of Florence-2, or another detail.")
    return replace(settings, beginning="")


def _names(samples: list[Sample]) -> tuple[dict[str, str], list[str]]:
    """By path the name of its content; a problem for each file that cannot be read."""
    names, problems = {}, []
    for sample in samples:
        host.raise_if_interrupted()
        try:
            names[sample.path] = content_key(Path(sample.path))
        except OSError as error:
            problems.append(f"{Path(sample.path).name} cannot be read: {error.strerror or error}.")
    return names, problems


def _warnings(run: Run) -> list[str]:
    """What the worker has to say of its last work."""
    events = run.events()
    start = max((i for i, event in enumerate(events) if event["event"] == "start"), default=0)
    return [event["message"] for event in events[start:] if event["event"] == "warning"]


def _with_sentence(sample: Sample, sentence: str, mode: str) -> Sample:
    scores = () if mode == "overwrite" else sample.tag_scores
    return replace(sample, caption=combine_text(sample.caption, sentence, mode), tag_scores=scores)
