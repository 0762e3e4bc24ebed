"""Masks that say where the loss counts: the alpha channel of an image, or a picture of the same name in another folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from .found import Found, walk_folder
from .header import Header, UnusableImageError, read_header
from .notes import listed, several

MaskSource = Path | Literal["alpha"] | None
_MASK_ENDINGS = ("-masklabel", "_mask", "-mask", ".mask")


def masks_among(found: Sequence[Found]) -> list[Found]:
    """Those that lie beside their images and are called after them: `a-masklabel.png` beside `a.png`, as OneTrainer wants it."""
    named = [each for each in found if "mask" in each.name and _of_image(each) != _stem(each)]
    stems = set(map(_stem, found)) if named else set()
    return [each for each in named if _of_image(each) in stems]


def _stem(found: Found) -> str:
    return found.name.removesuffix(found.path.suffix)


def _of_image(mask: Found) -> str:
    stem = _stem(mask)
    for ending in _MASK_ENDINGS:
        stem = stem.removesuffix(ending)
    return stem


def images_and_notes(found: Sequence[Found], root: Path, source: MaskSource) -> tuple[list[Found], list[str]]:
    """The images without the masks that lie beside them, where `root` is the source of masks too; else a word on what looks like masks."""
    beside = masks_among(found)
    if isinstance(source, Path) and source.resolve() == root.resolve():
        names = {each.name for each in beside}
        return [each for each in found if each.name not in names], []
    if not beside:
        return list(found), []
    told = listed([each.name for each in beside])
    return list(found), [
        f"{several(len(beside), 'picture')} called like masks of others, and taken for images: {told}. Choose this folder for masks, too."
    ]


class Masks:
    """The masks of one source; looking one up opens no more than its header."""

    def __init__(self, source: MaskSource):
        self.source = source
        self._by_name: dict[str, Path] = {}
        if isinstance(source, Path):
            # Those that are called masks first: in a folder with the images both have the same stem.
            for mask in sorted(walk_folder(source, "all").found, key=lambda each: _stem(each) == _of_image(each)):
                stem = _of_image(mask)
                self._by_name.setdefault(stem, mask.path)
                self._by_name.setdefault(stem.rpartition("/")[2], mask.path)

    def find(self, image: Found, header: Header) -> tuple[str | None, str, str]:
        """The mask as a Sample has it, its fingerprint, and why there is none: "has no mask"."""
        if self.source is None:
            return None, "", ""
        if self.source == "alpha":
            return ("alpha", "", "") if header.has_alpha else (None, "", "has no alpha channel")
        stem = _stem(image)
        path = self._by_name.get(stem) or self._by_name.get(stem.rpartition("/")[2])
        if path is None or (path.name == image.path.name and path.samefile(image.path)):
            return None, "", "has no mask"
        try:
            mask, stat = read_header(path), path.stat()
        except UnusableImageError as problem:
            return None, "", f"has a mask that {problem.what}"
        except OSError as error:
            return None, "", f"has a mask that cannot be opened ({error.strerror or error})"
        if (mask.width_px, mask.height_px) != (header.width_px, header.height_px):
            sizes = f"{mask.width_px} x {mask.height_px} px, the image {header.width_px} x {header.height_px} px"
            return None, "", f"has a mask of another size ({sizes})"
        return str(path), f"{stat.st_size}-{stat.st_mtime_ns}", ""
