"""Load Run: a run of earlier days, or the epochs that another trainer saved."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

from comfy_api.latest import io, ui

from ..trainer.errors import AthanorError
from ..trainer.formats.embedding import EMBEDDING_ENDINGS, as_safetensors, is_embedding
from ..trainer.formats.header import is_safe, read_header
from ..trainer.runs.foreign import series_of
from ..trainer.runs.promote import kind_folder
from ..trainer.runs.run import Run, open_loaded
from . import host
from .types import RunWire

FILES = "(files of another trainer)"
_CONVERTED = ".loaded/embeddings"
_MAX_FILES = 1000


class LoadRun(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AthanorLoadRun",
            display_name="Load Run",
            category="Athanor/training",
            description="Brings back a run of earlier days, or takes the epochs that kohya's scripts, ai-toolkit, OneTrainer, diffusion-pipe or ComfyUI itself have saved, so that they can be compared and saved.",
            search_aliases=["epochs", "kohya", "lora folder", "compare"],
            inputs=[
                io.Combo.Input(
                    "run", options=[*host.run_names(), FILES], tooltip="A run of Athanor, the newest first; or files, which are named below."
                ),
                io.String.Input(
                    "files",
                    default="",
                    tooltip="Only for files: a folder below models/loras, or a pattern such as my-lora-*.safetensors or training/*/adapter_model.safetensors; or re: and a regular expression of the file names. Embeddings lie below models/embeddings, whole models below models/checkpoints.",
                ),
            ],
            outputs=[
                RunWire.Output("run", display_name="run"),
                io.String.Output("epochs", display_name="epochs", tooltip="What was found, one a line."),
                io.String.Output(
                    "each_epoch",
                    display_name="each epoch",
                    is_output_list=True,
                    tooltip="The numbers one after the other: connected to epoch of Apply Epoch, the graph behind it is done once for each.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, run: str, files: str) -> str:
        if run != FILES:
            return str([(epoch.number, epoch.sha256) for epoch in _own(run).epochs()])
        return str([(str(path), path.stat().st_mtime_ns) for path in _matching(files)])

    @classmethod
    def execute(cls, run: str, files: str) -> io.NodeOutput:
        loaded, unit = (_own(run), "epoch") if run != FILES else _foreign(files)
        epochs = loaded.epochs()
        if not epochs:
            raise AthanorError(f"The run {loaded.name} has no saved epoch yet; let it train to the end of its first saved epoch.")
        text = "\n".join(f"{unit} {epoch.number}: {epoch.path.name}" for epoch in epochs)
        return io.NodeOutput(loaded, text, [str(epoch.number) for epoch in epochs], ui=ui.PreviewText(text))


def _own(name: str) -> Run:
    """Only names: a workflow comes from anywhere."""
    if name not in host.run_names():
        raise AthanorError(f"There is no run {name!r} in {host.runs_root()}; press R and choose one of the list.")
    run = Run(host.runs_root() / name)
    host.register_epochs(run.folder, kind_folder(run), bool(run.words()))
    return run


def _foreign(text: str) -> tuple[Run, str]:
    paths = _matching(text)
    if not paths:
        places = ", ".join(map(str, host.epoch_roots()))
        raise AthanorError(f"No safetensors file fits {text!r} below {places}; write a folder or a pattern such as my-lora-*.safetensors.")
    paths = [path if is_safe(path) else as_safetensors(path, host.runs_root() / _CONVERTED) for path in paths]
    series = series_of(paths)
    header = read_header(series.numbered[0][1])
    is_whole = header.any_key("model.diffusion_model.", "double_blocks.", "joint_blocks.") and not any("lora" in key for key in header.shapes)
    content = "embedding" if is_embedding(header) else "checkpoint" if is_whole else "lora"
    return open_loaded(host.runs_root(), series.name, series.unit, series.numbered, content), series.unit


def _matching(text: str) -> list[Path]:
    """The safetensors files below the epoch roots, links resolved, that the text means; each once, in a fixed order."""
    wanted = text.strip()
    if not wanted:
        raise AthanorError("Files: nothing is written there; write a folder below models/loras, or a pattern such as my-lora-*.safetensors.")
    found: dict[Path, None] = {}
    embeddings = host.embedding_folders()
    for root in host.epoch_roots():
        for path in sorted(_below(root, wanted)):
            if path.is_file() and _is_wanted(path, root in embeddings) and host.is_within(path, root):
                found.setdefault(path.resolve())
            if len(found) > _MAX_FILES:
                raise AthanorError(f"More than {_MAX_FILES} files fit {text!r}; write a narrower pattern.")
    return list(found)


def _is_wanted(path: Path, among_embeddings: bool) -> bool:
    """Old embeddings are pickles; of them only tensors are read."""
    return is_safe(path) or (among_embeddings and path.suffix.lower() in EMBEDDING_ENDINGS)


def _below(root: Path, wanted: str) -> list[Path]:
    if wanted.startswith("re:"):
        try:
            expression = re.compile(wanted.removeprefix("re:").strip())
        except re.error as error:
            raise AthanorError(f"Files: {wanted!r} is no regular expression: {error}.") from None
        return [path for path in root.rglob("*") if expression.search(path.relative_to(root).as_posix())]
    pure = PurePath(wanted if "\\" not in wanted else wanted.replace("\\", "/"))  # as written on Windows
    if pure.is_absolute():
        if not pure.is_relative_to(root):
            return []
        pure = pure.relative_to(root)
    if ".." in pure.parts:
        raise AthanorError(
            f"Files: {wanted!r} leaves its folder; write a path below models/loras, models/embeddings, models/checkpoints or the output folder."
        )
    folder = root / pure
    if folder.is_dir():
        return [
            *folder.glob("*"),
            *folder.glob("*/adapter_model.safetensors"),
            *folder.glob("*/pytorch_lora_weights.safetensors"),
            *folder.glob("*/lora/lora.safetensors"),
        ]
    if folder.is_file():
        return [folder]  # also where its name holds the signs of a pattern
    return list(root.glob(pure.as_posix())) or list(root.glob(pure.as_posix() + ".safetensors"))
