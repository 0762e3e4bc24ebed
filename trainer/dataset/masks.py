"""Masks that say where the loss counts: the alpha channel of an image, or a picture of the same name in another folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .found import Found, walk_folder
from .header import Header, UnusableImageError, read_header

MaskSource = Path | Literal["alpha"] | None
_MASK_ENDINGS = ("-masklabel", "_mask", "-mask", ".mask")


class Masks:
    """The masks of one source; looking one up opens no more than its header."""

    def __init__(self, source: MaskSource):
        self.source = source
        self._by_name: dict[str, Path] = {}
        if isinstance(source, Path):
            for mask in walk_folder(source, "all").found:
                stem = mask.name.removesuffix(mask.path.suffix)
                for ending in _MASK_ENDINGS:
                    stem = stem.removesuffix(ending)
                self._by_name.setdefault(stem, mask.path)
                self._by_name.setdefault(stem.rpartition("/")[2], mask.path)

    def find(self, image: Found, header: Header) -> tuple[str | None, str, str]:
        """The mask as a Sample has it, its fingerprint, and why there is none: "has no mask"."""
        if self.source is None:
            return None, "", ""
        if self.source == "alpha":
            return ("alpha", "", "") if header.has_alpha else (None, "", "has no alpha channel")
        stem = image.name.removesuffix(image.path.suffix)
        path = self._by_name.get(stem) or self._by_name.get(stem.rpartition("/")[2])
        if path is None:
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
