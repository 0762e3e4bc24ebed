"""Small copies of pictures for the page, upright and without transparency, made in threads and kept in ComfyUI's temporary folder."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from PIL import Image

from ..trainer.dataset import open_image
from . import host

SIZES_PX = (256, 1536)
"""Of the longer side: in a grid, and one picture large."""
CONTENT_TYPE = "image/webp"
_QUALITY = {256: 78, 1536: 88}


def thumbnail(path: Path, side_px: int) -> bytes:
    """A WebP of `path` whose longer side has `side_px` (of `SIZES_PX`) at most.

    Raises AthanorError if the picture cannot be read, OSError if it is not there.
    """
    state = path.stat()
    name = hashlib.sha256(f"{path}|{state.st_size}|{state.st_mtime_ns}|{side_px}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    file = host.temp_folder() / "athanor_thumbnails" / f"{name}.webp"
    try:
        return file.read_bytes()
    except OSError:
        pass
    picture = open_image(path, draft_px=2 * side_px)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS if side_px > 256 else Image.Resampling.BICUBIC, reducing_gap=2.0)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{name}.{os.getpid()}.{threading.get_ident()}.tmp")
    picture.save(temporary, format="WEBP", quality=_QUALITY[side_px], method=2)
    made = temporary.read_bytes()
    temporary.replace(file)
    return made
