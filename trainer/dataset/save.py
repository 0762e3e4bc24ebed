"""Captions, and if wanted the pictures, written out: beside the originals or into a folder of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps

from ..errors import AthanorError
from ..files import replace_atomically
from ..types import Dataset
from .captions import caption_extension, caption_file, write_caption, written_before
from .crop import open_image, open_picture, placed_image, placed_mask, whole_mask
from .notes import several
from .targets import PICTURES, Pictures, Target, check_free, find_targets, is_changed, own_files, remember_own

__all__ = ["PICTURES", "Pictures", "SaveReport", "save_captions"]

OnProgress = Callable[[int, int], None]

_PNG_LEVEL = 4


@dataclass(frozen=True)
class SaveReport:
    num_captions: int
    """Caption files that say what the dataset says now."""
    num_changed: int
    """Those of them that were written or changed."""
    num_backups: int
    num_pictures: int
    """Masks not counted."""
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
    cuts and mirrors them. Masks come along into a folder beside it, `NAME-masks`, as PNG under the names of their pictures;
    those in the alpha channel of a whole picture stay there. Each file is replaced in one go, and a caption that changes stays as `name.txt.bak1`, `.bak2`, …
    Raises AthanorError, before anything is written, if a picture of somebody else stands where one is to go, or if `folder`
    is one of the images' own; afterwards if a file cannot be written.
    """
    extension = caption_extension(extension)
    if pictures != "none" and folder is None:
        raise AthanorError("Pictures are only saved into a folder of their own; give one, or save the captions alone.")
    targets, notes = find_targets(dataset.samples, folder, pictures)
    saves = _picture_saves(targets, folder, pictures) if folder is not None and pictures != "none" else []
    for save in saves:
        check_free(save.targets, save.folder, own_files(save.folder))
    for masks in saves[1:]:
        notes.append(f"{several(len(masks.targets), 'mask')} in {masks.folder}: choose it for masks when you load the pictures.")
    captioned = [target for target in targets if target.sample.caption is not None]
    states = [_state(target, extension) for target in captioned]
    changed = [target for target, state in zip(captioned, states, strict=True) if state != "same"]
    if write:
        _save_pictures(saves, on_progress)
        for target in changed:
            target.image.parent.mkdir(parents=True, exist_ok=True)
            write_caption(target.image, target.sample.caption or "", extension, backup)
    num_backups = sum(state == "other" for state in states) if backup else 0
    num_pictures = len(targets) if pictures != "none" else 0
    return SaveReport(len(captioned), len(changed), num_backups, num_pictures, len(targets) - len(captioned), tuple(notes))


def _state(target: Target, extension: str) -> Literal["none", "same", "other"]:
    """Of the caption file: not there, says the same, or something else."""
    old = written_before(caption_file(target.image, extension))
    if old is None:
        return "none"
    return "same" if old.decode("utf-8", "replace").strip() == (target.sample.caption or "").strip() else "other"


@dataclass(frozen=True)
class _Save:
    """What goes into one folder, and how each of it is written."""

    folder: Path
    targets: Sequence[Target]
    write: Callable[[Target], None]


def _picture_saves(targets: Sequence[Target], folder: Path, pictures: Pictures) -> list[_Save]:
    """The pictures, then their masks if there are any."""
    as_trained = pictures == "as trained"
    saves = [_Save(folder, targets, _save_placed if as_trained else _save_whole)]
    masks_folder = folder.with_name(f"{folder.name}-masks")
    masks = [
        Target(target.sample, masks_folder / target.image.relative_to(folder).with_name(f"{target.stem}.png"))
        for target in targets
        if target.sample.mask is not None and (as_trained or target.sample.mask != "alpha")
    ]
    return [*saves, _Save(masks_folder, masks, _save_placed_mask if as_trained else _save_whole_mask)] if masks else saves


def _save_pictures(saves: Sequence[_Save], on_progress: OnProgress | None) -> None:
    done, total = 0, sum(len(save.targets) for save in saves)
    for save in saves:
        # Before they are written: whoever cancels in between, or loses power, can save again to the same folder.
        remember_own(save.folder, own_files(save.folder) | {target.image.relative_to(save.folder).as_posix() for target in save.targets})
        for target in save.targets:
            if on_progress is not None:
                on_progress(done, total)
            save.write(target)
            done += 1


def _save_placed(target: Target) -> None:
    _write_png(placed_image(target.sample), target.image)


def _save_placed_mask(target: Target) -> None:
    _write_png(placed_mask(target.sample), target.image)


def _save_whole_mask(target: Target) -> None:
    _write_png(whole_mask(target.sample), target.image)


def _save_whole(target: Target) -> None:
    path = Path(target.sample.path)
    if is_changed(target.sample):
        _write_png(_with_alpha(path) if target.sample.mask == "alpha" else open_image(path), target.image)
    elif not _is_same_file(path, target.image):
        content = path.read_bytes()
        replace_atomically(target.image, lambda temporary: temporary.write_bytes(content) and None)


def _with_alpha(path: Path) -> Image.Image:
    """Upright, with the alpha channel that is its mask."""
    with path.open("rb") as file, open_picture(file) as picture:
        alpha = ImageOps.exif_transpose(picture).convert("RGBA").getchannel("A")
    image = open_image(path)
    image.putalpha(alpha)
    return image


def _write_png(image: Image.Image, file: Path) -> None:
    replace_atomically(file, lambda temporary: image.save(temporary, format="PNG", compress_level=_PNG_LEVEL))


def _is_same_file(path: Path, other: Path) -> bool:
    return other.is_file() and path.stat().st_size == other.stat().st_size and path.read_bytes() == other.read_bytes()
