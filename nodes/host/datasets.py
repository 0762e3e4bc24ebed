"""Where images may be read and captions saved: a workflow is untrusted, and names what lies below a registered folder."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ...trainer.errors import AthanorError
from .folders import MINIATURE, PACK, is_within, pictures_folder, resolved

_DATASETS_KEY = "athanor_datasets"
_MAX_FOLDER_DEPTH = 3
_MAX_FOLDERS = 2000
_MAX_CHARS = 200
"""Of a name, in messages."""


def dataset_roots() -> list[Path]:
    """Folders whose subfolders may be loaded: ComfyUI's input, its datasets, and those that the owner has registered.

    A workflow is untrusted: it can name only what lies below one of these. The owner adds folders with
    `athanor_datasets:` in extra_model_paths.yaml, or in the environment variable ATHANOR_DATASETS.
    """
    roots = [Path(folder_paths.get_input_directory())]
    for key in (_DATASETS_KEY, "datasets"):
        if key in folder_paths.folder_names_and_paths:
            roots += map(Path, folder_paths.get_folder_paths(key))
    roots += [Path(part) for part in os.environ.get("ATHANOR_DATASETS", "").split(os.pathsep) if part]
    return list(dict.fromkeys(roots))


def dataset_names() -> list[str]:
    """Folders for the drop-down, relative to their root, at most three levels deep; the built-in one last."""
    names: list[str] = []
    for root in dataset_roots():
        names += _subfolders(root)
    return [*dict.fromkeys(sorted(names, key=str.lower)), MINIATURE]


def _subfolders(root: Path) -> list[str]:
    found: list[str] = []
    waiting = [(root, 0)]
    while waiting and len(found) < _MAX_FOLDERS:
        folder, depth = waiting.pop(0)
        try:
            children = [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]
        except OSError:
            continue
        found += [child.relative_to(root).as_posix() for child in children]
        if depth + 1 < _MAX_FOLDER_DEPTH:
            waiting += [(child, depth + 1) for child in children]
    return found


def dataset_folder(name: str) -> Path:
    """The folder of that name below a dataset root; a full path is taken if it lies below one.

    Raises AthanorError if there is none, telling the roots and how to add one.
    """
    if name == MINIATURE:
        return PACK / "trainer" / "miniature" / "concept"
    roots = dataset_roots()
    for root in roots:
        candidate = resolved(root / name)
        if name.strip() and candidate is not None and is_within(candidate, root) and candidate.is_dir():
            return candidate
    places = ", ".join(map(str, roots))
    if any(_leads_out(root, name) for root in roots):
        raise AthanorError(
            f"The dataset folder {name[:_MAX_CHARS]!r} is a link that leads out of the registered folders, and is not followed: a workflow could read"
            f" anything through it. Register the folder around its target with {_DATASETS_KEY} in extra_model_paths.yaml or in the environment variable"
            " ATHANOR_DATASETS."
        )
    raise AthanorError(
        f"There is no dataset folder {name[:_MAX_CHARS]!r} below {places}. Copy it there, or register its parent folder "
        f"with {_DATASETS_KEY} in extra_model_paths.yaml or in the environment variable ATHANOR_DATASETS."
    )


def _leads_out(root: Path, name: str) -> bool:
    """Whether the way to `name` goes over a link out of `root`. What lies behind it is not looked at."""
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts or len(name) > _MAX_CHARS:
        return False
    for end in range(1, len(relative.parts) + 1):
        way = root.joinpath(*relative.parts[:end])
        try:
            if way.is_symlink() or way.is_junction():
                return not is_within(way, root)
        except (OSError, ValueError, AttributeError):  # no junctions before Python 3.12
            continue
    return False


def dataset_file(name: str, folder: Path) -> Path:
    """The list of images of that name in `folder`, or below a dataset root. Raises AthanorError if there is none."""
    for root in (folder, *dataset_roots()):
        candidate = resolved(root / name.strip())
        if candidate is not None and is_registered(candidate) and candidate.is_file():
            return candidate
    raise AthanorError(
        f"There is no file {name.strip()[:_MAX_CHARS]!r} in {folder} or below the registered dataset folders; give its path from there."
    )


def new_dataset_folder(name: str) -> Path:
    """Where pictures and captions are saved under that name: below ComfyUI's input, so that Load Dataset finds them.

    A full path is taken if it lies below a dataset root. Raises AthanorError for any other place, and for a root itself.
    """
    roots = dataset_roots()
    folder = resolved(roots[0] / name.strip())
    if folder is None or not any(is_within(folder, root) and folder != root.resolve() for root in roots):
        places = ", ".join(map(str, roots))
        raise AthanorError(f"Nothing is saved to {name.strip()[:_MAX_CHARS]!r}: it does not lie below {places}. Give a name such as my-set.")
    return folder


def is_registered(path: Path) -> bool:
    """Whether `path`, links resolved, lies below a dataset root, so that a workflow may have it read."""
    return any(is_within(path, root) for root in dataset_roots())


def may_be_shown(image: Path) -> bool:
    """Whether the page may show this picture: it lies, links resolved, where the dataset nodes take and keep theirs."""
    return is_registered(image) or any(is_within(image, root) for root in (pictures_folder(), dataset_folder(MINIATURE)))
