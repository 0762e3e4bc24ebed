"""Small files of the user, by name: lexicons, settings, prompts."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from .folders import PACK, is_within


def lexicon_files() -> dict[str, Path]:
    """The lists of tags in models/tag_lexicons, by name; of two with one name the one in the earlier folder."""
    found: dict[str, Path] = {}
    for root in map(Path, folder_paths.get_folder_paths("tag_lexicons")):
        for file in sorted(root.rglob("*.csv")):
            found.setdefault(file.relative_to(root).as_posix(), file)
    return found


def preset_files() -> list[Path]:
    """The pack's own files of settings."""
    return sorted((PACK / "trainer" / "presets").glob("*.toml"))


def parameter_files() -> dict[str, Path]:
    """Files of settings in ComfyUI's input folder and in models/training_settings, by name; the latter's first."""
    roots = [*map(Path, folder_paths.get_folder_paths("training_settings")), Path(folder_paths.get_input_directory())]
    return _files_below(roots, (".json", ".toml"))


def template_files() -> dict[str, Path]:
    """Sentences for embeddings in models/textual_inversion_templates, by name."""
    return _files_below([*map(Path, folder_paths.get_folder_paths("textual_inversion_templates"))], (".txt",))


def prompt_files() -> dict[str, Path]:
    """Files of prompts in ComfyUI's input folder, by name."""
    return _files_below([Path(folder_paths.get_input_directory())], (".txt", ".toml", ".json"))


def _files_below(roots: list[Path], endings: tuple[str, ...]) -> dict[str, Path]:
    """Files directly in `roots`, links resolved within them; of two with one name that of the earlier folder."""
    found: dict[str, Path] = {}
    for root in roots:
        try:
            files = sorted(file for file in root.iterdir() if file.suffix.lower() in endings and file.is_file() and is_within(file, root))
        except OSError:
            continue
        for file in files:
            found.setdefault(file.name, file)
    return found
