"""One image file: its size from the header, and whether it is whole, without decoding what need not be decoded."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError, features

from .quick_header import Header, is_foreign, quick_header
from .whole import reaches_end

IMAGE_EXTENSIONS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
"""File endings that count as images, in lower case, and the format that they promise."""

MAX_PIXELS = 178_956_970
"""Where Pillow, too, refuses an image as a decompression bomb. Held here since other node packs lift Pillow's limit."""

_KINDS = ("MPO", *dict.fromkeys(IMAGE_EXTENSIONS.values()))
_SIDEWAYS = (5, 6, 7, 8)
_ORIENTATION = 0x0112
_TAIL_BYTES = 4096
_JPEG_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_START_BYTES = 256
_OTHER_KINDS = (
    (rb".{4}ftyp(heic|heix|hevc|heim|heis|mif1|msf1)", "a HEIC picture"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (rb"8BPS", "a Photoshop picture"),
    (rb"gimp xcf", "a GIMP picture"),
    (rb".{4}ftyp(isom|iso\d|mp4|qt  |M4V|avc1|3gp)|\x1aE\xdf\xa3", "a video"),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!doctype svg[^>]*>\s*)?<svg", "an SVG drawing"),
)
"""How files begin that cameras, browsers and drawing programs save, now and then under the ending of an image."""
_NO_PICTURES = (
    (rb"(\xef\xbb\xbf)?\s*(<!doctype html|<html)", "a web page"),
    (rb"version https://git-lfs", "a pointer of git-lfs"),
)
_REPLACE = "replace it or delete it."


class UnusableImageError(Exception):
    """An image that cannot be trained on: `what` is wrong with it ("is empty"), `advice` says what to do."""

    def __init__(self, what: str, advice: str):
        self.what, self.advice = what, advice
        super().__init__(f"{what}; {advice}")


def read_header(path: Path, *, check_png_content: bool = True) -> Header:
    """Size and kind of an image.

    Pillow's own verify() passes cut JPEG, GIF, BMP, TIFF and AVIF files, so each format is checked by the cheapest test
    that finds them: the end marker of JPEG, the checksums of PNG (they read the whole file; `check_png_content=False`
    looks for its end only), the lengths that WebP, AVIF and BMP declare, and decoding for GIF and TIFF.
    Raises UnusableImageError for an empty, broken, animated or unreasonably large file, OSError for one that cannot be opened.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 – ten thousands of files
            stat = os.fstat(file.fileno())
            state = f"{stat.st_size}-{stat.st_mtime_ns}"
            if not stat.st_size:
                raise UnusableImageError("is empty (0 bytes)", _REPLACE)
            found = quick_header(file, stat.st_size, state, check_png_content=check_png_content)
            if found is not None and found.width_px * found.height_px <= MAX_PIXELS:
                return found
        with path.open("rb") as file:
            picture = open_picture(file)
            kind = "JPEG" if picture.format == "MPO" else str(picture.format)
            width_px, height_px = picture.size
            if width_px * height_px > MAX_PIXELS:
                raise Image.DecompressionBombError
            # A camera's MPO is a JPEG with a second view behind it, no animation.
            if picture.format != "MPO" and getattr(picture, "is_animated", False):
                frames = getattr(picture, "n_frames", 2)
                what = f"has {frames} pages" if kind == "TIFF" else f"is animated ({frames} frames)"
                raise UnusableImageError(what, "save the frame that you want as a PNG.")
            here = file.tell()
            tail = _tail(file)
            file.seek(here)
            orientation = _orientation(picture, path, tail)
            if orientation in _SIDEWAYS and kind != "TIFF":
                width_px, height_px = height_px, width_px
            is_deep = picture.mode[0] in "IF" or any(";16" in str(tile[-1]) for tile in picture.tile)
            _check_whole(picture, file, stat.st_size, path, tail, kind, check_png_content)
            has_alpha = picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info
    except UnusableImageError:
        raise
    except Image.DecompressionBombError:
        raise UnusableImageError(f"has more than {MAX_PIXELS // 1_000_000} million pixels", "make it smaller.") from None
    except UnidentifiedImageError:
        if path.suffix.lower() == ".avif" and not features.check("avif"):
            raise UnusableImageError("is an AVIF image, which this Pillow cannot read", "update Pillow or save the image as PNG.") from None
        raise _unknown(path) from None
    except PermissionError:
        raise
    except Exception as error:
        # The decoders raise all sorts: SyntaxError, struct.error, ValueError, RuntimeError, OSError without a number.
        raise UnusableImageError(f"is broken ({error or type(error).__name__})", _REPLACE) from None
    return Header(
        width_px,
        height_px,
        kind,
        has_alpha,
        is_turned=orientation in range(2, 9),
        is_cmyk=picture.mode == "CMYK",
        is_deep=is_deep,
        has_profile=is_foreign(picture.info.get("icc_profile")),
        state=state,
    )


def _unknown(path: Path) -> UnusableImageError:
    """What a file is instead of an image, where its beginning tells."""
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    for signature, kind in _OTHER_KINDS:
        if re.match(signature, start, re.DOTALL | re.IGNORECASE):
            return UnusableImageError(f"is in truth {kind}, which is not read", "save it as PNG or JPEG.")
    for signature, what in _NO_PICTURES:
        if re.match(signature, start, re.DOTALL | re.IGNORECASE):
            return UnusableImageError(f"is not an image but {what}", "download the picture itself, or delete it.")
    return UnusableImageError("is not an image that can be read, or it is broken", _REPLACE)


def open_picture(file: BinaryIO) -> Image.Image:
    """Opens an image by its content, whatever its ending says, with the decoders of `IMAGE_EXTENSIONS` and no other.

    No path: of an uncompressed TIFF that lies on its side, Pillow maps the file into memory by the wrong size.
    """
    Image.init()
    return Image.open(file, formats=[kind for kind in _KINDS if kind in Image.OPEN])


def _orientation(picture: Image.Image, path: Path, tail: bytes) -> int:
    # Pillow decodes a PNG in search of EXIF behind the pixels; so only one that has some there is asked.
    if picture.format != "PNG" or "exif" in picture.info:
        return int(picture.getexif().get(_ORIENTATION, 1))
    if b"eXIf" not in tail:
        return int(Image.Image.getexif(picture).get(_ORIENTATION, 1))
    with path.open("rb") as file, open_picture(file) as fresh:
        return int(fresh.getexif().get(_ORIENTATION, 1))


def _check_whole(picture: Image.Image, file: BinaryIO, size_bytes: int, path: Path, tail: bytes, kind: str, check_png_content: bool) -> None:
    if kind == "JPEG":
        if not tail.rstrip(b"\0").endswith(b"\xff\xd9") and not _jpeg_ends(path.read_bytes()):
            raise UnusableImageError("is cut off: its end is missing", _REPLACE)
    elif kind == "PNG":
        if check_png_content or b"IEND" not in tail:
            picture.verify()
    elif kind != "WEBP":
        found = reaches_end(picture, file, size_bytes)
        if found is None:
            picture.load()
        elif not found:
            raise UnusableImageError("is cut off: its end is missing", _REPLACE)


def _jpeg_ends(data: bytes) -> bool:
    """Whether the first image of a JPEG file reaches its end marker; trailing data of phones and cameras may follow."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return False
        marker = data[at + 1]
        if marker == 0xD9:
            return True
        if marker == 0xFF:
            at += 1
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            found = _JPEG_NEXT_MARKER.search(data, at)
            if not found:
                return False
            at = found.start()
            if data[at + 1] == 0xD9:
                return True
    return False


def _tail(file: BinaryIO) -> bytes:
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, size_bytes - _TAIL_BYTES))
    return file.read()
