"""From a folder to a Dataset: which images there are, what belongs to each, and what had to be left out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ..errors import AthanorError
from ..types import Dataset, Sample
from .captions import DEFAULT_EXTENSIONS, caption_extension
from .found import nothing_found, walk_folder
from .masks import MaskSource, images_and_notes
from .name_pattern import NamePattern
from .notes import several
from .roles import without_copies_of_held_out
from .samples import CaptionSource, read_samples
from .split import held_out


def scan_folder(
    folder: Path,
    *,
    trigger: str = "",
    caption_extensions: tuple[str, ...] = DEFAULT_EXTENSIONS,
    recursive: bool = False,
    validation_percent: float = 0.0,
    pattern: NamePattern | None = None,
    masks: MaskSource = None,
    without: Collection[Path] = (),
) -> Dataset:
    """Reads a folder of images and their caption files, in natural order ("img2" before "img10").

    Subfolders named `6_cat` are read with repeats 6 and concept "cat", as kohya's trainers do; images directly in the
    folder have repeats 1. Other subfolders are read with `recursive` only, and inherit the number of a numbered folder
    around them; those of `without` never. `validation_percent` (0 to 100) of the images get the role "validation", see
    `held_out`. An image without caption file is captioned by `pattern` from its name. `masks`: "alpha", or a folder whose
    pictures have the names and sizes of the images, such as `6_cat/a.png` or only `a.png`. Hidden files are ignored. What cannot be used (empty, broken, animated, too large, a link that leads out
    of the folder) is left out and named in the notes. Headers only are read wherever that is enough to find broken files.
    Raises AthanorError for a missing folder, one without any usable image, and settings out of range.
    """
    extensions = tuple(dict.fromkeys(caption_extension(extension) for extension in caption_extensions))
    held_out((), validation_percent)
    root = existing_folder(folder)
    elsewhere = [masks] if isinstance(masks, Path) and masks.resolve() != root.resolve() else []
    walk = walk_folder(root, "all" if recursive else "numbered", [*without, *elsewhere])
    walk.found, more = images_and_notes(walk.found, root, masks)
    walk.notes += more
    samples, notes = read_samples(walk.found, CaptionSource(extensions, pattern), masks)
    if not samples:
        raise AthanorError(_all_left_out(root, len(walk.found), [*walk.notes, *notes]) if walk.found else nothing_found(walk))
    chosen = held_out(samples.keys(), validation_percent)
    return without_copies_of_held_out(
        Dataset(
            samples=tuple(replace(sample, role="validation") if name in chosen else sample for name, sample in samples.items()),
            trigger=trigger.strip(),
            notes=(*walk.notes, *notes, *mask_notes(samples.values())),
        )
    )


def existing_folder(folder: Path) -> Path:
    """`folder` as an absolute path. Raises AthanorError if it is none."""
    root = folder.expanduser().absolute()
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise AthanorError(f"The dataset folder {root} {what}. Give the folder that holds the images.")
    return root


def mask_notes(samples: Collection[Sample]) -> list[str]:
    num_masked = sum(sample.mask is not None for sample in samples)
    return [f"{several(num_masked, 'mask')} found: the loss counts where they are white."] if num_masked else []


def _all_left_out(root: Path, num_found: int, notes: list[str]) -> str:
    return f"The folder {root} has no usable image: all {num_found} were left out. " + " ".join(notes[:5])
