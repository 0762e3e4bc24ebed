"""ComfyUI's folders, and those of the pack in them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import folder_paths

from ...trainer.data.cache_folder import BASES, CACHE
from ...trainer.errors import AthanorError
from ...trainer.formats.header import MODEL_ENDINGS
from ...trainer.runs.files_beside import TEXT_FOLDER
from ...trainer.runs.run import WORDS_FOLDER

PACK = Path(__file__).resolve().parents[2]
MINIATURE = "Athanor miniature (built in)"


def register_folders() -> None:
    """Tells ComfyUI of the folders that the nodes use, and of the epochs of earlier runs. Never fails: a pack that does is dropped."""
    models = Path(folder_paths.models_dir)
    folder_paths.add_model_folder_path("wd_taggers", str(models / "wd_taggers"))
    folder_paths.add_model_folder_path("torch_deepdanbooru", str(models / "torch_deepdanbooru"))
    folder_paths.add_model_folder_path("captioners", str(models / "captioners"))
    folder_paths.add_model_folder_path("tag_lexicons", str(models / "tag_lexicons"))
    folder_paths.add_model_folder_path("textual_inversion_templates", str(models / "textual_inversion_templates"))
    folder_paths.add_model_folder_path("training_settings", str(models / "training_settings"))
    folder_paths.add_model_folder_path("image_encoders", str(models / "image_encoders"))
    folder_paths.add_model_folder_path("face_detectors", str(models / "face_detectors"))
    for kind, folder in _epoch_folders(runs_root()):
        folder_paths.add_model_folder_path(kind, str(folder))


def register_epochs(run_folder: Path, kind: str, with_words: bool = False) -> None:
    """Lets the stock loaders list the run's epochs. `kind` is "loras", "embeddings", "checkpoints" or "diffusion_models"; `with_words`: embeddings are saved beside them."""
    for of_kind, name in ((kind, "epochs"), *([("embeddings", WORDS_FOLDER)] if with_words else [])):
        folder = run_folder / name
        folder.mkdir(parents=True, exist_ok=True)
        folder_paths.add_model_folder_path(of_kind, str(folder))
    if kind == "diffusion_models":
        folder_paths.add_model_folder_path(TEXT_FOLDER, str(run_folder / "epochs" / TEXT_FOLDER))


def _epoch_folders(root: Path) -> list[tuple[str, Path]]:
    from ...trainer.runs.promote import kind_folder
    from ...trainer.runs.run import Run

    found = []
    try:
        folders = [folder for folder in root.iterdir() if (folder / "epochs").is_dir() and (folder / "job.json").is_file()]
    except OSError:
        return []
    for folder in folders:
        try:
            kind = kind_folder(Run(folder))
        except AthanorError:
            continue
        found.append((kind, folder / "epochs"))
        if (folder / WORDS_FOLDER).is_dir():
            found.append(("embeddings", folder / WORDS_FOLDER))
        if (folder / "epochs" / TEXT_FOLDER).is_dir():
            found.append((TEXT_FOLDER, folder / "epochs" / TEXT_FOLDER))
    return found


def runs_root() -> Path:
    return output_folder() / "athanor"


def output_folder() -> Path:
    return Path(folder_paths.get_output_directory())


def temp_folder() -> Path:
    """ComfyUI empties it when it starts."""
    return Path(folder_paths.get_temp_directory())


def cache_folder() -> Path:
    return runs_root() / CACHE


def pictures_folder() -> Path:
    """Where images that come from a graph are kept for the runs that train on them."""
    return runs_root() / ".pictures"


def bases_folder() -> Path:
    """Where models that come from a graph are kept for the runs that train on them."""
    return runs_root() / BASES


def save_folder(kind: str) -> Path:
    """ComfyUI's own folder for "loras", "checkpoints"…; of several the one that is called so."""
    folders = [Path(folder) for folder in folder_paths.get_folder_paths(kind)]
    return next((folder for folder in folders if folder.name == kind), folders[0])


def epoch_roots() -> list[Path]:
    """Folders below which Load Run may read epochs: those of LoRAs, embeddings and whole models, and ComfyUI's output."""
    return [
        *(Path(folder) for kind in ("loras", "embeddings", "checkpoints", "diffusion_models") for folder in folder_paths.get_folder_paths(kind)),
        output_folder(),
    ]


def files_named(values: Iterable[object]) -> list[tuple[str, int, int]]:
    """The model files that widgets name, each with its size in bytes and when it was written, in ns: a file of that name may be another one later."""
    found = []
    for name in sorted({value for value in values if isinstance(value, str) and value.lower().endswith(MODEL_ENDINGS)}):
        for kind in folder_paths.folder_names_and_paths:
            if (path := folder_paths.get_full_path(kind, name)) is not None:
                about = Path(path).stat()
                found.append((name, about.st_size, about.st_mtime_ns))
                break
    return found


def embedding_folders() -> list[Path]:
    return [Path(folder) for folder in folder_paths.get_folder_paths("embeddings")]


def run_names() -> list[str]:
    """The runs of the output folder, the newest first."""
    try:
        folders = [entry for entry in os.scandir(runs_root()) if (Path(entry.path) / "job.json").is_file()]
    except OSError:
        return []
    return [entry.name for entry in sorted(folders, key=lambda entry: entry.stat().st_mtime, reverse=True)]


def is_within(path: Path, root: Path) -> bool:
    """True if `path`, links resolved, is `root` or lies below it; False for what cannot be a path."""
    real = resolved(path)
    return real is not None and real.is_relative_to(root.resolve())


def resolved(path: Path) -> Path | None:
    """Links resolved; None for what cannot be a path, as one with a NUL in it or one that is too long, or may not be looked at."""
    try:
        real = path.resolve()
        real.exists()  # raises for what no file can be called
        return real
    except (OSError, ValueError, RuntimeError):
        return None
