"""Captions, and if wanted the pictures, written out: beside the originals or into a folder of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps

from ..errors import AthanorError
from ..files import replace_atomically
from ..types import Dataset, Sample
from .captions import caption_extension, write_caption
from .crop import open_image, open_picture, placed_image
from .header import UnusableImageError, read_header
from .notes import ending, listed, several

Pictures = Literal["none", "whole", "as trained"]
PICTURES: tuple[Pictures, ...] = ("none", "whole", "as trained")
OnProgress = Callable[[int, int], None]

_LIST_FILE = ".athanor-saved.json"
_PNG_LEVEL = 4


@dataclass(frozen=True)
class Target:
    """Where one sample goes; a picture that has to be changed becomes a PNG."""

    sample: Sample
    image: Path
    """Its picture; the caption stands beside it under the same name."""


@dataclass(frozen=True)
class SaveReport:
    num_captions: int
    """Caption files that say what the dataset says now."""
    num_changed: int
    """Those of them that were written or changed."""
    num_backups: int
    num_pictures: int
    num_without: int
    """Samples without a caption, which get no file."""
    notes: tuple[str, ...]


def save_captions(
    dataset: Dataset,
    *,
    extension: str = ".txt",
    backup: bool = True,
    folder: Path | None = None,
    pictures: Pictures = "none",
    write: bool = True,
    on_progress: OnProgress | None = None,
) -> SaveReport:
    """Writes the caption of each sample; without `write` only tells what that would do.

    Without `folder` they go beside the images. With it the images keep their path below the folder that holds them all, so
    that two of one name stay apart, and pictures that repeat keep a folder such as `6_cat`. `pictures`: "whole" saves them
    upright and in sRGB, as copies of the files where nothing has to be changed, else as PNG; "as trained" as Bucket resizes,
    cuts and mirrors them. Each file is replaced in one go, and a caption that changes stays as `name.txt.bak1`, `.bak2`, …
    Raises AthanorError, before anything is written, if a picture of somebody else stands where one is to go, or if `folder`
    is one of the images' own; afterwards if a file cannot be written.
    """
    extension = caption_extension(extension)
    if pictures != "none" and folder is None:
        raise AthanorError("Pictures are only saved into a folder of their own; give one, or save the captions alone.")
    targets, notes = _targets(dataset.samples, folder, pictures)
    own = _own_files(folder) if folder else set()
    if folder is not None and pictures != "none":
        _check_free(targets, folder, own)
    captioned = [target for target in targets if target.sample.caption is not None]
    states = [_state(target, extension) for target in captioned]
    changed = [target for target, state in zip(captioned, states, strict=True) if state != "same"]
    if write:
        for done, target in enumerate(targets if pictures != "none" else ()):
            if on_progress is not None:
                on_progress(done, len(targets))
            _save_picture(target, pictures)
        for target in changed:
            target.image.parent.mkdir(parents=True, exist_ok=True)
            write_caption(target.image, target.sample.caption or "", extension, backup)
        if folder is not None and pictures != "none":
            _remember(folder, own | {target.image.relative_to(folder).as_posix() for target in targets})
    num_backups = sum(state == "other" for state in states) if backup else 0
    num_pictures = len(targets) if pictures != "none" else 0
    return SaveReport(len(captioned), len(changed), num_backups, num_pictures, len(targets) - len(captioned), tuple(notes))


def _targets(samples: Sequence[Sample], folder: Path | None, pictures: Pictures) -> tuple[list[Target], list[str]]:
    """One for each file that is to be written, and notes on samples whose caption finds no place of its own."""
    if folder is None:
        wanted = [Target(sample, Path(sample.path)) for sample in samples]
    else:
        wanted = [Target(sample, folder / name) for sample, name in zip(samples, _names_below(samples), strict=True)]
        if pictures == "as trained":
            wanted = _numbered(wanted)
        elif pictures == "whole":
            wanted = [Target(each.sample, each.image.with_name(f"{_stem(each.image)}.png")) if _is_changed(each.sample) else each for each in wanted]
    taken: dict[str, Target] = {}
    lost: list[str] = []
    for target in wanted:
        known = taken.get(_key(target.image))
        if known is not None and folder is not None and known.sample.path != target.sample.path:
            target = Target(target.sample, _free_name(target, taken))
        elif known is not None:
            lost += [Path(target.sample.path).name] if known.sample.caption != target.sample.caption else []
            continue
        taken[_key(target.image)] = target
    notes = []
    if lost:
        notes.append(
            f"{several(len(lost), 'caption')} not saved, since another image of the same name has the file: {listed(lost)}. Save to a new folder, or rename."
        )
    return list(taken.values()), notes


def _free_name(target: Target, taken: dict[str, Target]) -> Path:
    """Beside an image of the same name its own ending tells it apart, else a number."""
    stem = f"{_stem(target.image)}_{ending(Path(target.sample.path).name)[1:]}"
    number = 1
    while _key(image := target.image.with_name(f"{stem}{'' if number == 1 else f'_{number}'}{ending(target.image.name)}")) in taken:
        number += 1
    return image


def _key(image: Path) -> str:
    """Of its caption file, as Windows and macOS see it."""
    return str(image.with_name(_stem(image))).casefold()


def _stem(image: Path) -> str:
    return image.name[: len(image.name) - len(ending(image.name))]


def _names_below(samples: Sequence[Sample]) -> list[Path]:
    """Of each sample below the folder that holds them all. Those on several drives keep the drive's letter."""
    parents = [Path(sample.path).parent for sample in samples]
    try:
        root = Path(os.path.commonpath(parents))
    except ValueError:
        root = None
    names = []
    for sample in samples:
        path = Path(sample.path)
        name = path.relative_to(root) if root else Path(path.drive.strip(":\\/") or "root", *path.parts[1:])
        if sample.repeats != 1 and not any(part.startswith(f"{sample.repeats}_") for part in name.parts[:-1]):
            concept = "".join(letter for letter in sample.concept if letter not in '<>:"/\\|?*').strip(" .") or "images"
            name = Path(f"{sample.repeats}_{concept}") / name
        names.append(name)
    return names


def _numbered(targets: Sequence[Target]) -> list[Target]:
    """Parts of one picture are counted, mirrored ones called so, and all are PNG."""
    times: dict[tuple[str, bool], int] = {}
    for target in targets:
        key = (target.sample.path, _is_mirrored(target.sample))
        times[key] = times.get(key, 0) + 1
    seen: dict[tuple[str, bool], int] = {}
    result = []
    for target in targets:
        key = (target.sample.path, _is_mirrored(target.sample))
        seen[key] = seen.get(key, 0) + 1
        stem = _stem(target.image)
        stem += f"-{seen[key]}" if times[key] > 1 else ""
        stem += "-mirrored" if key[1] else ""
        result.append(Target(target.sample, target.image.with_name(f"{stem}.png")))
    return result


def _is_mirrored(sample: Sample) -> bool:
    return sample.placement is not None and sample.placement.mirrored


def _check_free(targets: Sequence[Target], folder: Path, own: set[str]) -> None:
    sources = {Path(target.sample.path).resolve() for target in targets}
    taken = [target.image for target in targets if target.image.resolve() in sources]
    if taken:
        raise AthanorError(f"Pictures are not saved over the originals, such as {taken[0]}. Choose another folder than {folder}.")
    taken = [target.image for target in targets if target.image.relative_to(folder).as_posix() not in own and target.image.exists()]
    if taken:
        names = listed([path.relative_to(folder).as_posix() for path in taken])
        raise AthanorError(f"{folder} holds other pictures already: {names}. They are not replaced; choose another folder.")


def _own_files(folder: Path) -> set[str]:
    """What was saved there before, which may be replaced."""
    try:
        return set(json.loads((folder / _LIST_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return set()


def _remember(folder: Path, names: set[str]) -> None:
    text = json.dumps(sorted(names), ensure_ascii=False, indent=0)
    replace_atomically(folder / _LIST_FILE, lambda temporary: temporary.write_text(text, encoding="utf-8") and None)


def _state(target: Target, extension: str) -> Literal["none", "same", "other"]:
    """Of the caption file: not there, says the same, or something else."""
    file = target.image.with_name(_stem(target.image) + extension)
    try:
        old = file.read_bytes()
    except FileNotFoundError:
        return "none"
    except OSError as error:
        raise AthanorError(f"Cannot read the caption file {file} that is to be replaced: {error.strerror or error}.") from error
    return "same" if old.decode("utf-8", "replace").strip() == (target.sample.caption or "").strip() else "other"


def _save_picture(target: Target, pictures: Pictures) -> None:
    path = Path(target.sample.path)
    if pictures == "as trained":
        _write_png(placed_image(target.sample), target.image)
        return
    if _is_changed(target.sample):
        _write_png(_with_alpha(path) if target.sample.mask == "alpha" else open_image(path), target.image)
    elif not _is_same_file(path, target.image):
        content = path.read_bytes()
        replace_atomically(target.image, lambda temporary: temporary.write_bytes(content) and None)


def _is_changed(sample: Sample) -> bool:
    """Whether the file has to be rewritten to show in every program what is trained on."""
    try:
        header = read_header(Path(sample.path), check_png_content=False)
    except (UnusableImageError, OSError) as problem:
        raise AthanorError(f"{sample.path} {problem}") from None
    is_flattened = header.has_alpha and sample.mask != "alpha"
    return header.is_turned or header.is_cmyk or header.is_deep or header.has_profile or is_flattened


def _with_alpha(path: Path) -> Image.Image:
    """Upright, with the alpha channel that is its mask."""
    with open_picture(path) as picture:
        alpha = ImageOps.exif_transpose(picture).convert("RGBA").getchannel("A")
    image = open_image(path)
    image.putalpha(alpha)
    return image


def _write_png(image: Image.Image, file: Path) -> None:
    replace_atomically(file, lambda temporary: image.save(temporary, format="PNG", compress_level=_PNG_LEVEL))


def _is_same_file(path: Path, other: Path) -> bool:
    return other.is_file() and path.stat().st_size == other.stat().st_size and path.read_bytes() == other.read_bytes()
