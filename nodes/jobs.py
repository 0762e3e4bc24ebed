"""What a training node asks for, put together from its widgets and the settings that came over the wire."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from ..trainer.config import TrainJob
from ..trainer.errors import AthanorError
from ..trainer.formats.parameters import RATES, counts_for, rates_are_for_another_kind, settings_for
from ..trainer.formats.parameters.another_kind import TITLES
from ..trainer.settings import AdapterSettings, EmbeddingSettings, Settings
from ..trainer.trainees.templates import lines_of_template
from ..trainer.trainees.words import read_words, with_files
from ..trainer.types import BaseModel, Dataset
from . import host
from .adapters import with_kind
from .settings import from_widgets

NONE = "none"
"""Of the choices of files."""


def job_of(
    kind: Literal["lora", "embedding", "checkpoint"],
    base: BaseModel,
    dataset: Dataset,
    name: str,
    settings: Settings | None,
    values: Mapping[str, Any],
) -> TrainJob:
    """The settings that came over the wire, with the node's own widgets on top but where a file or Vary Settings said something."""
    given, _ = settings_for(kind, settings or Settings())
    useless = [path for path in given.varied if not counts_for(kind, path)]
    if useless:
        raise AthanorError(f"Vary Settings: {useless[0]} does nothing for {TITLES[kind]}, so that all runs would be the same; vary another setting.")
    name = f"{name.strip()}-{given.label}" if given.label else name

    def front(section: str, prefix: str = "", without: tuple[str, ...] = ()) -> Any:
        kept = (_fields(given.from_file, section) - set(without)) | _fields(given.varied, section)
        return from_widgets(getattr(given, section), {key: value for key, value in values.items() if key.removeprefix(prefix) not in kept}, prefix)

    return TrainJob(
        name=name,
        base=base,
        dataset=dataset,
        kind=kind,
        adapter=_adapter(given, values["adapter"]) if kind == "lora" else given.adapter,
        checkpoint=front("checkpoint") if kind == "checkpoint" else given.checkpoint,
        embedding=_embedding(kind, name, front("embedding"), values),
        train=front("train", without=RATES if rates_are_for_another_kind(kind, given.from_file) else ()),
        optimizer=given.optimizer,
        schedule=given.schedule,
        performance=given.performance,
        objective=given.objective,
        captions=given.captions,
        data=given.data,
        samples=front("samples", prefix="sample_"),
        run=front("run"),
        prior=given.prior,
    )


def files_changed(values: Mapping[str, Any]) -> str:
    """Tells whether the files that the widgets name have changed under their names."""
    template, start = values.get("template_file", NONE), values.get("start_embedding", NONE)
    try:
        named = [word.start_file for word in read_words(str(values.get("other_embeddings", ""))) if word.start_file]
        files = [host.embedding_path(file) for file in (*named, *([] if start in (None, NONE) else [start]))]
        files += [host.template_files()[template]] if template not in (None, NONE) else []
        return repr([(str(file), file.stat().st_mtime_ns) for file in files])
    except (AthanorError, KeyError, OSError) as error:
        return str(error)


def _embedding(kind: str, name: str, given: EmbeddingSettings, values: Mapping[str, Any]) -> EmbeddingSettings:
    """`given`, the name as its word, and the files that the widgets name."""
    template, start = values.get("template_file", NONE), values.get("start_embedding", NONE)
    said = {"start_embedding": "" if start == NONE else start, **({"token": name.strip()} if kind == "embedding" else {})}
    if template != NONE:
        if given.sentences.strip():
            raise AthanorError(
                f"Embedding: both sentences and the template file {template} are given; take the sentences out, or set template file to none."
            )
        files = host.template_files()
        if template not in files:
            raise AthanorError(f"There is no template {template!r}; put it into models/textual_inversion_templates and press R to refresh.")
        said["sentences"] = "\n".join(lines_of_template(files[template]))
    return with_files(dataclasses.replace(given, **said), lambda file: str(host.embedding_path(file)))


def _adapter(given: Settings, chosen: Mapping[str, Any]) -> AdapterSettings:
    """A kind that comes from a file brings its own options along: those of the widgets are for another kind."""
    of_file = _fields((*given.from_file, *given.varied), "adapter")
    fields = ("rank", "alpha") if "kind" in of_file else tuple(chosen)
    rest = {key: value for key, value in chosen.items() if key in fields and key not in of_file}
    return from_widgets(given.adapter, rest) if "kind" in of_file else with_kind(given.adapter, rest)


def _fields(paths: tuple[str, ...], section: str) -> set[str]:
    return {path.split(".")[1] for path in paths if path.startswith(f"{section}.")}
