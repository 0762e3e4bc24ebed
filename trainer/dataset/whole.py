"""Whether a file reaches its end, told by the lengths that it declares itself: a hundredth of the time that decoding takes."""

from __future__ import annotations

import struct
from typing import BinaryIO

from PIL import Image


def reaches_end(picture: Image.Image, file: BinaryIO, size_bytes: int) -> bool | None:
    """For AVIF and BMP; None where only decoding tells. The position in `file` is kept."""
    here = file.tell()
    try:
        check = {"AVIF": _avif, "BMP": _bmp}.get(str(picture.format))
        return None if check is None else check(picture, file, size_bytes)
    except (struct.error, TypeError, ValueError, OverflowError):
        return None
    finally:
        file.seek(here)


def _avif(_: Image.Image, file: BinaryIO, size_bytes: int) -> bool:
    """Box after box (ISO/IEC 14496-12, 4.2): the length is in the first four bytes, or in eight behind the name if those say 1."""
    at = 0
    while at < size_bytes:
        file.seek(at)
        head = file.read(16)
        (length,) = struct.unpack_from(">I", head)
        if length == 0:  # to the end of the file
            return True
        if length == 1:
            (length,) = struct.unpack_from(">Q", head, 8)
        if length < 8:
            return False
        at += length
    return at == size_bytes


def _bmp(picture: Image.Image, file: BinaryIO, size_bytes: int) -> bool | None:
    file.seek(0)
    head = file.read(34)
    start, header_bytes = struct.unpack_from("<II", head, 10)
    if header_bytes < 40:
        return None
    bits, compression = struct.unpack_from("<HI", head, 28)
    if compression not in (0, 3, 6) or not bits:  # run lengths have no length known before
        return None
    return start + (picture.width * bits + 31) // 32 * 4 * picture.height <= size_bytes
