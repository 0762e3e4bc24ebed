"""Pixels of a sample: opened as people see them, resized and cut into the bucket."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageCms, ImageColor, ImageOps

from ..errors import AthanorError
from ..types import Placement, Sample
from .header import MAX_PIXELS, open_picture

_WHITE = (255, 255, 255)
_MAX_RESIZED_PIXELS = 1 << 25
"""Of a picture that would be larger only what is cut out is resized: a line of 1 x 5,000 px would become gigabytes."""
_MARGIN_PX = 4
"""Lanczos looks at three pixels on either side."""
RESAMPLING: dict[str, Image.Resampling | None] = {
    "auto": None,
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
"""How images are resized, by the setting's value; None for what suits the image."""


def open_image(path: Path, *, draft_px: int | None = None) -> Image.Image:
    """The image upright, in RGB of 8 bits and the sRGB colours, transparent parts on white.

    EXIF and XMP orientation are applied; embedded ICC profiles are converted, an unusable one ignored; grey, palette,
    CMYK, 16-bit and floating-point images become RGB. Of an animation it is the first frame.
    `draft_px` allows a JPEG to be decoded smaller, though no side under that: for thumbnails.
    Raises AthanorError naming the file if it cannot be decoded.
    """
    with _decoded(path, draft_px) as picture:
        icc_profile = picture.info.get("icc_profile")
        upright = ImageOps.exif_transpose(picture)
    alpha, colours = _without_alpha(_in_8_bits(upright))
    rgb = _in_srgb(colours, icc_profile)
    return rgb if alpha is None else Image.composite(rgb, Image.new("RGB", rgb.size, _WHITE), alpha)


def placed_image(sample: Sample, resampling: Image.Resampling | None = None) -> Image.Image:
    """The image of `sample` as it is trained on: RGB of the size of its bucket; `resampling` None takes what `place` does.

    Raises AthanorError if it has no placement yet, cannot be read, or has another size than when it was loaded.
    """
    if sample.placement is None:
        raise AthanorError(f"{sample.path} has no bucket yet; put a Bucket node behind the dataset.")
    image = open_image(Path(sample.path))
    if image.size != (sample.width_px, sample.height_px):
        raise AthanorError(
            f"{sample.path} is {image.width} x {image.height} px now but was {sample.width_px} x {sample.height_px} px when the dataset was loaded; "
            "queue again to load it anew."
        )
    return place(image, sample.placement) if resampling is None else place(image, sample.placement, resampling, resampling)


def whole_mask(sample: Sample) -> Image.Image:
    """Where the loss of `sample` counts: L of the size of its image, white where it counts, all of it without a mask.

    Of a picture the red channel is taken, as sd-scripts does.
    Raises AthanorError if the mask cannot be read, or has another size than the image.
    """
    mask = Image.new("L", (sample.width_px, sample.height_px), "white")
    if sample.mask is not None:
        path = Path(sample.path if sample.mask == "alpha" else sample.mask)
        with _decoded(path) as picture:
            upright = ImageOps.exif_transpose(picture)
        mask = upright.convert("RGBA").getchannel("A") if sample.mask == "alpha" else _in_8_bits(upright).convert("RGB").getchannel("R")
        if mask.size != (sample.width_px, sample.height_px):
            raise AthanorError(
                f"The mask {path} is {mask.width} x {mask.height} px but its image {sample.width_px} x {sample.height_px} px; "
                "make them equal and load the dataset again."
            )
    return mask


def placed_mask(sample: Sample) -> Image.Image:
    """As `whole_mask`, in the size of the bucket, cut and mirrored exactly as the image is; black where that is padded."""
    assert sample.placement is not None, "asked for samples with a bucket only"
    black_border = replace(sample.placement, border="black" if sample.placement.border else "")
    return place(whole_mask(sample), black_border, shrinking=Image.Resampling.BOX, growing=Image.Resampling.BILINEAR)


def place(
    image: Image.Image,
    placement: Placement,
    shrinking: Image.Resampling = Image.Resampling.LANCZOS,
    growing: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Resizes, cuts or pads, and mirrors: Lanczos where the image shrinks, bicubic where it grows, which rings less."""
    if not placement.border and placement.resized_px[0] * placement.resized_px[1] > max(_MAX_RESIZED_PIXELS, image.width * image.height):
        image, placement = _enlarged_around_cut(image, placement, growing)
    if image.size != placement.resized_px:
        shrinks = placement.resized_px[0] * placement.resized_px[1] < image.width * image.height
        image = image.resize(placement.resized_px, shrinking if shrinks else growing)
    (left, top), (width, height) = placement.crop_px, placement.bucket_px
    placed = image.crop((left, top, left + width, top + height))
    if placement.border and (left < 0 or top < 0 or left + width > image.width or top + height > image.height):
        placed = _with_border(
            placed, (max(0, -left), max(0, -top), min(width, image.width - left), min(height, image.height - top)), placement.border
        )
    return ImageOps.mirror(placed) if placement.mirrored else placed


def _enlarged_around_cut(image: Image.Image, placement: Placement, growing: Image.Resampling) -> tuple[Image.Image, Placement]:
    """What the cut shows and a margin, so wide that no filter looks beyond it."""
    window, box = [], []
    for start, side, resized, own in zip(placement.crop_px, placement.bucket_px, placement.resized_px, image.size, strict=True):
        margin = math.ceil(_MARGIN_PX * max(1.0, resized / own))
        window.append((max(0, start - margin), min(resized, start + side + margin)))
        box.append(tuple(end * own / resized for end in window[-1]))
    (left, right), (top, bottom) = window
    # One side after the other, as Pillow does itself: given both at once it mistakes some pixels.
    part = image.resize((right - left, image.height), growing, (box[0][0], 0, box[0][1], image.height))
    part = part.resize((right - left, bottom - top), growing, (0, box[1][0], right - left, box[1][1]))
    return part, replace(placement, resized_px=part.size, crop_px=(placement.crop_px[0] - left, placement.crop_px[1] - top))


def _with_border(image: Image.Image, inner: tuple[int, int, int, int], border: str) -> Image.Image:
    """All but the rectangle `inner` in a colour, or in that of the nearest pixels of the rectangle."""
    shown = image.crop(inner)
    if border != "edge":
        image = Image.new(image.mode, image.size, ImageColor.getcolor(border, image.mode))
        image.paste(shown, inner[:2])
        return image
    left, top, right, bottom = inner
    if left:
        image.paste(shown.crop((0, 0, 1, shown.height)).resize((left, shown.height)), (0, top))
    if right < image.width:
        image.paste(shown.crop((shown.width - 1, 0, shown.width, shown.height)).resize((image.width - right, shown.height)), (right, top))
    if top:
        image.paste(image.crop((0, top, image.width, top + 1)).resize((image.width, top)), (0, 0))
    if bottom < image.height:
        image.paste(image.crop((0, bottom - 1, image.width, bottom)).resize((image.width, image.height - bottom)), (0, bottom))
    return image


@contextlib.contextmanager
def _decoded(path: Path, draft_px: int | None = None) -> Iterator[Image.Image]:
    try:
        with path.open("rb") as file, open_picture(file) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"more than {MAX_PIXELS // 1_000_000} million pixels")
            if draft_px is not None:
                picture.draft(None, (draft_px, draft_px))
            picture.load()
            yield picture
    except Exception as error:
        # The decoders raise all sorts: SyntaxError, struct.error, ValueError, RuntimeError, OSError without a number.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise AthanorError(f"The image {path} cannot be read: {reason}. Replace it, or take it out of the dataset.") from error


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits and floats scaled to 8; Pillow's own conversion cuts everything above 255 off."""
    if image.mode.startswith("I"):
        wide = image.convert("I")
        lowest, highest = wide.getextrema()
        if highest <= 255 and lowest >= 0 and image.mode == "I":
            return wide.convert("L")
        scale = 1 / max(257, highest / 255)
        return wide.point(lambda value: value * scale + 0).convert("L")
    if image.mode == "F":
        _, highest = image.getextrema()
        return (image.point(lambda value: value * 255 + 0) if highest <= 1.0 else image).convert("L")
    return image


def _without_alpha(image: Image.Image) -> tuple[Image.Image | None, Image.Image]:
    """The alpha channel, or None, and the colours in L, RGB or CMYK."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return rgba.getchannel("A"), rgba.convert("RGB")
    if image.mode in ("L", "RGB", "CMYK"):
        return None, image
    if image.mode == "1":
        return None, image.convert("L")
    return None, image.convert("RGB")


def _in_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    if not icc_profile:
        return image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        # Through the conversion even sRGB itself would shift by a level here and there.
        if image.mode == "RGB" and "srgb" in ImageCms.getProfileDescription(profile).lower():
            return image
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), intent, "RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image.convert("RGB")
